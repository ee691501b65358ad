"""Rollback: an endpoint goes back to the version that served before, in one command.

    python -m images.launcher.rollback --project=P --location=L --model_name=crnn --endpoint_name=crnn --machine_type=M

The version that serves is marked `withdrawn`: a later run that makes the very same model does not release it again.
Done twice, it is back where it was.
"""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Sequence

from images import executor
from images.executor import UserError
from images.launcher import registry
from images.launcher.deploy import tidy
from images.launcher.endpoints import Endpoint
from images.launcher.registry import Registry, Version
from images.launcher.rest import Vertex


def rollback(vertex: Vertex, model_name: str, endpoint_name: str, machine_type: str) -> tuple[Version, Version]:
    """Puts the previous version in the champion's place; it serves alone once it has started.

    Args:
        vertex: the service.
        model_name: display name in the Model Registry.
        endpoint_name: display name of the endpoint.
        machine_type: that the previous version runs on.

    Returns:
        The version that serves now, and the one that did.

    Raises:
        UserError: there is no such endpoint, nothing serves there, or there is no previous version.
    """
    endpoint = Endpoint.find(vertex, endpoint_name)
    if endpoint is None:
        raise UserError(f"there is no endpoint named {endpoint_name}")
    models = Registry(vertex, model_name)
    serving = tidy(endpoint, models)
    if serving is None:
        raise UserError(f"{endpoint_name} serves nothing; there is nothing to go back from")
    previous = models.with_alias(registry.PREVIOUS)
    if previous is None:
        raise UserError(f"{model_name} has no previous version; {serving.version} is the first that served")
    withdrawn = models.get(serving.version)
    notes = {registry.VERDICT: registry.WITHDRAWN, registry.OPPONENT: previous.number}
    models.note(withdrawn, **notes, **_new_attempt())
    new = endpoint.deploy(previous.name, machine_type, 0)
    endpoint.give_all(new)
    models.crown(previous)
    models.note(previous, **{registry.VERDICT: registry.PROMOTED}, **_new_attempt())
    endpoint.keep_only(new)
    return previous, withdrawn


def _new_attempt() -> dict[str, str]:
    """What earlier attempts came to is no longer what serves."""
    return {registry.ATTEMPT: secrets.token_hex(8)}


def main(argv: Sequence[str]) -> None:
    """The command line; `--help` lists the flags."""
    parser = argparse.ArgumentParser(prog="python -m images.launcher.rollback", description=__doc__, allow_abbrev=False)
    parser.add_argument("--project", required=True)
    parser.add_argument("--location", required=True)
    parser.add_argument("--model_name", required=True, help="display name in the Model Registry")
    parser.add_argument("--endpoint_name", required=True, help="display name of the endpoint")
    parser.add_argument("--machine_type", required=True, help="Compute Engine machine that answers predictions")
    flags = vars(parser.parse_args(argv))
    previous, withdrawn = rollback(Vertex(flags.pop("project"), flags.pop("location")), **flags)
    print(f"{flags['endpoint_name']} serves version {previous.number} again; version {withdrawn.number} is withdrawn")


if __name__ == "__main__":
    executor.run(main)
