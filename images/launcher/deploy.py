"""Deploy: a challenger that beat the champion takes over its endpoint, first a share of the traffic, then all.

1. It is tried at an endpoint of its own, `<endpoint>-candidate`, which nobody else asks and which is gone at the end:
   an answer that is not export's is never given to a client.
2. It gets `canary_share` percent of the endpoint's traffic, and is held against the champion under the same load.
3. It gets all traffic, then the alias `champion`; the old version becomes `previous`, and is stopped.

Whatever goes wrong, traffic goes back to the champion. A killed attempt leaves the champion serving (until step 3, the
old one), and the next one clears up behind it. What is deployed decides, not what was done before.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from images import executor
from images.executor import ExecutorOutput, UserError
from images.launcher import api, canary, registry
from images.launcher.endpoints import Deployed, Endpoint, champion
from images.launcher.registry import PROMOTED, REFUSED, WITHDRAWN, Registry, Version
from images.launcher.rest import Vertex

BEFORE = 40
"""Requests to the champion alone, before the canary."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be released, and how.

    Attributes:
        model_name: display name in the Model Registry.
        endpoint_name: display name of the endpoint.
        saved_model_uri: gs:// folder of the SavedModel.
        serving_image: container image that answers predictions.
        machine_type: that it runs on.
        canary_share: percent of the traffic, 1 to 99, that the challenger gets at first.
        logged_share: of the requests, 0 to 1, that are logged.
        champion: number of the version that the verdict is about; empty if there was none.
        attempt: this attempt's name.
        samples: lines of `smoke.jsonl`.
        metrics: scores to note on the version.
        verdict: what challenge wrote: `passed` and `reason`.
    """

    model_name: str
    endpoint_name: str
    saved_model_uri: str
    serving_image: str
    machine_type: str
    canary_share: int
    logged_share: float
    champion: str
    attempt: str
    samples: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, float]
    verdict: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        outcome: `promoted`, `refused` or `withdrawn`.
        reason: in one line.
        version: `<model>@<number>` that serves now; empty if none does.
        endpoint: resource name; empty if there is none.
        rows: `{"truth", "answer", "confidence"}` of the samples, as the challenger answered them when it was tried.
    """

    outcome: str
    reason: str
    version: str
    endpoint: str
    rows: Sequence[Mapping[str, Any]] = ()


def release(vertex: Vertex, plan: Plan) -> Outcome:
    """Releases a challenger, or keeps it out; what an earlier attempt has already done is not done again.

    Raises:
        UserError: the challenger does not answer as expected, fails, or is slow. Traffic is where it was.
    """
    models = Registry(vertex, plan.model_name)
    challenger = models.find(plan.saved_model_uri, plan.serving_image)
    if challenger is None:
        challenger = models.upload(plan.saved_model_uri, plan.serving_image, registry.labels(plan.metrics))
    print(f"model {challenger.name}")
    endpoint = Endpoint.find(vertex, plan.endpoint_name)
    serving = tidy(endpoint, models) if endpoint else None
    if serving is not None and serving.version == challenger.name:
        return _ended(plan, models, endpoint, challenger, PROMOTED)
    if challenger.labels.get(registry.VERDICT) == WITHDRAWN:
        return _ended(plan, models, endpoint, challenger, WITHDRAWN, serving)
    models.give(challenger, registry.CHALLENGER)
    if not plan.verdict["passed"]:
        return _ended(plan, models, endpoint, challenger, REFUSED, serving)
    if serving is not None and serving.version.rpartition("@")[2] != plan.champion:
        raise UserError(
            f"{plan.endpoint_name} now serves version {serving.version.rpartition('@')[2]}, but the challenger was "
            f"compared with {plan.champion or 'none'}; run the pipeline again"
        )
    rows = _tried(vertex, plan, challenger)
    if endpoint is None:
        endpoint = Endpoint.create(vertex, plan.endpoint_name)
        print(f"endpoint {endpoint.name}")
    models.note(challenger, **{registry.OPPONENT: plan.champion or registry.NONE})
    if serving is None:
        new = endpoint.deploy(challenger.name, plan.machine_type, 100)
    else:
        new = _canary(endpoint, serving, challenger, plan)
        endpoint.give_all(new)
    models.crown(challenger)
    endpoint.keep_only(new)
    return dataclasses.replace(_ended(plan, models, endpoint, challenger, PROMOTED), rows=rows)


def tidy(endpoint: Endpoint, models: Registry) -> Deployed | None:
    """Ends what a killed attempt began: the champion has all traffic and the alias, and nothing else is deployed.

    Returns:
        The champion; None where nothing serves.
    """
    endpoint.come_to_rest()
    crowned = models.with_alias(registry.CHAMPION)
    deployed = endpoint.deployed()
    serving = champion(deployed, crowned.name if crowned else "")
    if serving is None:
        return None
    if len(deployed) > 1:
        print(f"clearing up: {serving.version} serves, {len(deployed) - 1} other is stopped")
        endpoint.keep_only(serving)
    if crowned is None or crowned.name != serving.version:
        models.crown(models.get(serving.version))
    return serving


def _tried(vertex: Vertex, plan: Plan, challenger: Version) -> list[dict[str, Any]]:
    """The challenger's answers to the samples, at an endpoint that nobody else asks.

    Raises:
        UserError: they are not what export saw.
    """
    print(f"trying it with {len(plan.samples)} smoke predictions")
    with _candidate(vertex, f"{plan.endpoint_name}-candidate") as candidate:
        candidate.deploy(challenger.name, plan.machine_type, 100)
        answers = candidate.predict([sample["instance"] for sample in plan.samples])
    wrong = canary.disagreements(plan.samples, answers)
    if wrong:
        raise UserError(
            f"{len(wrong)} of {len(plan.samples)} smoke predictions of {challenger.name} are not what export saw; "
            f"{plan.endpoint_name} keeps its traffic where it was. First: {wrong[0]}"
        )
    return [
        {"truth": sample["truth"], "answer": answer[sample["answer"]], "confidence": answer["confidence"]}
        for sample, answer in zip(plan.samples, answers, strict=True)
    ]


@contextlib.contextmanager
def _candidate(vertex: Vertex, name: str) -> Iterator[Endpoint]:
    """An endpoint for the time of a trial; one that a killed attempt left behind is removed first."""
    while left_over := Endpoint.find(vertex, name):
        left_over.delete()
    endpoint = Endpoint.create(vertex, name)
    try:
        with api.on_cancel(endpoint.delete):
            yield endpoint
    finally:
        if Endpoint.find(vertex, name):
            endpoint.delete()


def _canary(endpoint: Endpoint, serving: Deployed, challenger: Version, plan: Plan) -> Deployed:
    """The challenger, deployed with its share and found fit.

    Raises:
        UserError: it is not; the champion has all traffic again, and the challenger is stopped.
    """
    before = canary.send(endpoint, plan.samples, BEFORE)
    back = lambda: endpoint.keep_only(serving)  # noqa: E731
    try:
        with api.on_cancel(back):
            print(f"all as expected; it gets {plan.canary_share} % of the traffic")
            new = endpoint.deploy(challenger.name, plan.machine_type, plan.canary_share)
            most = canary.PATIENCE * canary.ENOUGH * 100 // plan.canary_share
            during = canary.send(endpoint, plan.samples, most, until=new.id)
            wrong = canary.complaint(before, during, serving, new)
            if wrong:
                raise UserError(f"{challenger.name} is rolled back, {serving.version} serves on: {wrong}")
    except BaseException:
        back()
        raise
    print(
        f"{during.count(new.id)} of {len(during.answers)} answers are its own, half of them within "
        f"{1000 * during.median(new.id):.0f} ms, the champion's {1000 * during.median(serving.id):.0f} ms; it gets all"
    )
    return new


def _ended(
    plan: Plan,
    models: Registry,
    endpoint: Endpoint | None,
    challenger: Version,
    outcome: str,
    serving: Deployed | None = None,
) -> Outcome:
    """Notes what came of the challenger on its version."""
    if endpoint is not None:
        project = endpoint.name.split("/")[1]
        name = "".join(each if each.isalnum() else "_" for each in plan.endpoint_name)
        endpoint.log_requests(plan.logged_share, f"bq://{project}.requests.{name}")
    notes = {registry.VERDICT: outcome, registry.ATTEMPT: plan.attempt}
    if outcome == REFUSED:
        notes[registry.OPPONENT] = plan.champion or registry.NONE
    models.note(challenger, **notes)
    reason = str(plan.verdict["reason"])
    if outcome == WITHDRAWN:
        reason = f"version {challenger.number} was rolled back by hand; another model is needed, or make rollback again"
    version = challenger.name if outcome == PROMOTED else serving.version if serving else ""
    print(f"{outcome}: {reason}")
    return Outcome(outcome, reason, version, endpoint.name if endpoint else "")


def read_samples(folder: str) -> list[dict[str, Any]]:
    """Reads `smoke.jsonl`.

    Raises:
        UserError: it is missing, or holds nothing to try.
    """
    path = Path(folder) / "smoke.jsonl"
    try:
        samples = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"--smoke={folder}: cannot read smoke.jsonl ({error})") from None
    if not samples:
        raise UserError(f"--smoke={folder}: smoke.jsonl is empty; a version is not deployed untried")
    return samples


def read_json(flag: str, file: str) -> dict[str, Any]:
    """Reads a JSON object that another stage wrote.

    Args:
        flag: that names the file, for the message.
        file: its path.

    Raises:
        UserError: no JSON object.
    """
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--{flag}={file}: cannot be read ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"--{flag}={file}: must be one JSON object")
    return content


def main(argv: Sequence[str]) -> None:
    """The command line; `--help` lists the flags."""
    parser = argparse.ArgumentParser(prog="python -m images.launcher.deploy", description=__doc__, allow_abbrev=False)
    parser.add_argument("--project", required=True)
    parser.add_argument("--location", required=True)
    parser.add_argument("--model_name", required=True, help="display name in the Model Registry")
    parser.add_argument("--endpoint_name", required=True, help="display name of the endpoint")
    parser.add_argument("--serving_image", required=True, help="container image that answers predictions")
    parser.add_argument("--machine_type", required=True, help="Compute Engine machine that answers predictions")
    parser.add_argument("--canary_share", type=int, default=10, help="percent of the traffic at first; default 10")
    parser.add_argument("--logged_share", type=float, default=0.0, help="of the requests, 0 to 1; default 0")
    parser.add_argument("--saved_model_uri", required=True, help="gs:// folder that export wrote")
    parser.add_argument("--smoke", required=True, help="folder with smoke.jsonl, that export wrote")
    parser.add_argument("--metrics", required=True, help="JSON that evaluate wrote")
    parser.add_argument("--verdict", required=True, help="JSON that challenge wrote")
    parser.add_argument("--champion", default="", help="number of the version that the verdict is about")
    parser.add_argument("--attempt", required=True, help="this attempt's name")
    parser.add_argument("--predictions", required=True, help="JSON file to write")
    parser.add_argument("--outcome", required=True, help="JSON file to write")
    parser.add_argument("--executor_input", help="KFP's ExecutorInput; leave it out by hand")
    flags = vars(parser.parse_args(argv))
    logged = ExecutorOutput(flags.pop("executor_input"))
    if not 1 <= flags["canary_share"] <= 99:
        raise UserError(f"--canary_share={flags['canary_share']}: must be from 1 to 99, percent")
    if not 0 <= flags["logged_share"] <= 1:
        raise UserError(f"--logged_share={flags['logged_share']}: must be from 0 to 1")
    vertex = Vertex(flags.pop("project"), flags.pop("location"))
    predictions, file = flags.pop("predictions"), flags.pop("outcome")
    plan = Plan(
        samples=read_samples(flags.pop("smoke")),
        metrics=read_json("metrics", flags.pop("metrics")),
        verdict=read_json("verdict", flags.pop("verdict")),
        **flags,
    )
    outcome = release(vertex, plan)
    for path, content in ((predictions, outcome.rows), (file, dataclasses.asdict(outcome))):
        with executor.whole(path) as aside:
            aside.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, resource in (("model", outcome.version), ("endpoint", outcome.endpoint)):
        if resource:
            logged.log(name, uri=f"{vertex.host}/{resource}", resourceName=resource)
    logged.log("predictions", digest=executor.digest(predictions))
    logged.log("outcome", outcome=outcome.outcome, reason=outcome.reason)
    logged.write()


if __name__ == "__main__":
    executor.run(main)
