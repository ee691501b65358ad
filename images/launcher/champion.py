"""Champion: what the endpoint serves now, and whether the challenger's release is an open question.

It only looks, and it runs every time: what is deployed is no function of a pipeline's inputs, so no cache may answer
for it. What follows it is cached by what it finds. As long as the endpoint is what the last attempt to release this
very challenger left, it names that attempt again, and the comparison and the deployment are taken from the cache. Once
it is not, because somebody else has deployed, rolled back or was killed half-way, it names a new attempt.
"""

from __future__ import annotations

import argparse
import dataclasses
import secrets
from collections.abc import Sequence
from pathlib import Path

from images import executor
from images.launcher import registry
from images.launcher.endpoints import Endpoint, champion
from images.launcher.registry import Registry, Version
from images.launcher.rest import Vertex


@dataclasses.dataclass(frozen=True)
class Found:
    """What a challenger meets.

    Attributes:
        champion: number of the version that it is to be compared with; empty if there is none.
        uri: gs:// folder of that version's SavedModel; the challenger's own if there is none.
        attempt: stands for this attempt at a release.
    """

    champion: str
    uri: str
    attempt: str


def look(vertex: Vertex, model_name: str, endpoint_name: str, saved_model_uri: str, serving_image: str) -> Found:
    """Looks at the endpoint and the registry; changes nothing.

    Args:
        vertex: the service.
        model_name: display name in the Model Registry.
        endpoint_name: display name of the endpoint.
        saved_model_uri: gs:// folder of the challenger.
        serving_image: container image that answers predictions.
    """
    models = Registry(vertex, model_name)
    versions = models.versions()
    challenger = next((each for each in versions if (each.uri, each.image) == (saved_model_uri, serving_image)), None)
    crowned = next((each.name for each in versions if registry.CHAMPION in each.aliases), "")
    endpoint = Endpoint.find(vertex, endpoint_name)
    deployed = endpoint.deployed() if endpoint else []
    serving = champion(deployed, crowned)
    opponent = models.get(serving.version) if serving else None
    if challenger is not None and opponent is not None and opponent.name == challenger.name:
        number = challenger.labels.get(registry.OPPONENT, registry.NONE)
        opponent = next((each for each in versions if each.number == number), None)
    clean = serving is not None and len(deployed) == 1 and serving.version == crowned
    if clean and challenger is not None and _settled(challenger, crowned, opponent):
        attempt = challenger.labels[registry.ATTEMPT]
    else:
        attempt = secrets.token_hex(8)
    if opponent is None:
        return Found("", saved_model_uri, attempt)
    return Found(opponent.number, opponent.uri, attempt)


def _settled(challenger: Version, serving: str, opponent: Version | None) -> bool:
    """Whether what serves is what came of the challenger's last attempt."""
    verdict = challenger.labels.get(registry.VERDICT, "")
    if verdict == registry.PROMOTED:
        return serving == challenger.name
    number = opponent.number if opponent else registry.NONE
    return verdict in (registry.REFUSED, registry.WITHDRAWN) and number == challenger.labels.get(registry.OPPONENT)


def main(argv: Sequence[str]) -> None:
    """The command line; `--help` lists the flags."""
    parser = argparse.ArgumentParser(prog="python -m images.launcher.champion", description=__doc__, allow_abbrev=False)
    parser.add_argument("--project", required=True)
    parser.add_argument("--location", required=True)
    parser.add_argument("--model_name", required=True, help="display name in the Model Registry")
    parser.add_argument("--endpoint_name", required=True, help="display name of the endpoint")
    parser.add_argument("--saved_model_uri", required=True, help="gs:// folder of the challenger")
    parser.add_argument("--serving_image", required=True, help="container image that answers predictions")
    for name in ("champion", "uri", "attempt"):
        parser.add_argument(f"--{name}", required=True, help="the file to write")
    flags = parser.parse_args(argv)
    vertex = Vertex(flags.project, flags.location)
    found = look(vertex, flags.model_name, flags.endpoint_name, flags.saved_model_uri, flags.serving_image)
    for name, value in dataclasses.asdict(found).items():
        with executor.whole(Path(getattr(flags, name))) as aside:
            aside.write_text(value, encoding="utf-8")
    print(f"champion: {'version ' + found.champion if found.champion else 'none'}; attempt {found.attempt}")


if __name__ == "__main__":
    executor.run(main)
