"""The life of a deployed model, which every system goes through: released, left alone, bettered, spared what is worse.

    first    trained on labels of which a share is wrong: released, as there is nothing to compare it with
    tick     a schedule fires, and nothing has changed: nothing is trained
    better   the labels are right: promoted
    worse    all labels are wrong: refused
    broken   the better model again, and a server that answers batches in the wrong order: fails its smoke test

Meanwhile somebody predicts without pause, with the SDK. What differs between systems stands in its `System`.
"""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.checkouts import Checkout, executed

LOOKS = {"snapshot", "champion", "notify"}
"""What is in the source, what the endpoint serves, how the run went: no cache can know."""

ASKED_AT_ONCE = 2

RIGHT_ORDER, WRONG_ORDER = "for index in range(len(rows))]", "for index in reversed(range(len(rows)))]"

UNREACHABLE = "unreachable"
OUTAGE = (UNREACHABLE, "ServiceUnavailable", "GatewayTimeout")
# One user's process: predicts without pause, and does what it is told besides.
USER = (
    f"UNREACHABLE = {UNREACHABLE!r}"
    + """
import contextlib, datetime, json, os, sys, threading, time
told, sys.stdout = sys.stdout, sys.stderr  # The SDK talks.
import requests
from google.cloud import aiplatform

system, run, folder = sys.argv[1:]
aiplatform.init(project="localvertex", location="us-central1", api_transport="rest")
(endpoint,) = aiplatform.Endpoint.list(filter=f'display_name="{system}"')
instances = json.load(open(f"{folder}/instances.json"))
done = threading.Event()

def ask():
    # Who never pauses leaves the processor to who has work to do; Linux weighs sessions against each other.
    os.nice(10)
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as nice:
        nice.write("10")
    with open(f"{folder}/answers", "a", buffering=1) as file:
        while not done.is_set():
            begun, version, predictions, error = time.time(), "", [], ""
            try:
                said = endpoint.predict(instances, timeout=120)
                version, predictions = said.model_version_id, said.predictions
            except requests.RequestException:
                error = UNREACHABLE
            except Exception as failure:
                error = repr(failure)
            file.write(json.dumps([begun, time.time(), version, predictions, error]) + "\\n")

def tick():
    earlier = aiplatform.PipelineJob.get(run).gca_resource
    job = aiplatform.PipelineJob(
        display_name=system,
        template_path=f"build/{system}.json",
        parameter_values=json.loads(type(earlier).to_json(earlier))["runtimeConfig"]["parameterValues"],
        pipeline_root="gs://localvertex/pipelines",
    )
    schedule = aiplatform.PipelineJobSchedule(pipeline_job=job, display_name="tick")
    # What fell due within the last minute is late, not missed: it is run at once.
    hour_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    schedule.create(cron="* * * * *", start_time=hour_ago.strftime("%Y-%m-%dT%H:%M:%SZ"), max_run_count=1)
    while not (jobs := schedule.list_jobs()):
        time.sleep(0.2)
    job = aiplatform.PipelineJob.get(jobs[0].resource_name)
    while not job.done():
        time.sleep(0.2)
    details = job.gca_resource.job_detail.task_details
    graphs = {each.parent_task_id for each in details}
    states = {each.task_name: type(each.state)(each.state).name for each in details if each.task_id not in graphs}
    artifacts = [one for each in details for made in each.outputs.values() for one in made.artifacts if one.metadata]
    return {
        "run": job.resource_name,
        "state": job.state.name,
        "tasks": {name: {"state": state, "cached": state == "SKIPPED"} for name, state in states.items()},
        "data": next(one.metadata["told"] for one in artifacts if "told" in one.metadata),
    }

def look():
    there = aiplatform.Endpoint(endpoint.resource_name)
    number = {each.id: each.model_version_id for each in there.list_models()}
    (model,) = aiplatform.Model.list(filter=f'display_name="{system}"')
    return {
        "endpoints": [each.display_name for each in aiplatform.Endpoint.list()],
        "traffic": {number[id]: share for id, share in there.traffic_split.items()},
        "aliases": {one.version_id: sorted(one.version_aliases) for one in model.versioning_registry.list_versions()},
    }

asking = threading.Thread(target=ask)
asking.start()
for line in sys.stdin:
    print(json.dumps({"tick": tick, "look": look}[line.strip()]()), file=told, flush=True)
done.set()
asking.join()
os._exit(0)  # The SDK's threads would go on telling about the jobs.
"""
)


@dataclass(frozen=True)
class System:
    """What differs between systems.

    Attributes:
        name: of the pipeline.
        parameters: of every run, as `ARGS` has them.
        sample: what `make sample` is told.
        mislabel: makes a share of the labels in a copy of the sample wrong, of the training examples alone where the
            source says which these are.
        wrong_at_first: that share, in the data of the first release.
        first: what the first run is told besides.
    """

    name: str
    parameters: str
    sample: tuple[str, ...]
    mislabel: Callable[[Path, float, random.Random], None]
    wrong_at_first: float
    first: tuple[str, ...] = ()

    @property
    def arguments(self) -> str:
        """The parameters, as `make run` is told them."""
        return f"ARGS={self.parameters}"


def shuffled(labels: Sequence[Any], share: float, chance: random.Random) -> list[Any]:
    """Labels of which a share has changed places."""
    changed = list(labels)
    places = [place for place in range(len(changed)) if chance.random() < share]
    for place, label in zip(places, chance.sample([changed[place] for place in places], len(places)), strict=True):
        changed[place] = label
    return changed


@dataclass(frozen=True)
class Answer:
    """What the user got for one request: the version that answered and its predictions, or an error."""

    begun: float
    ended: float
    version: str
    predictions: list[Mapping[str, Any]]
    error: str


@dataclass
class User:
    """A process that predicts without pause.

    Attributes:
        kills: when localvertex was killed, in seconds since 1970.
    """

    process: subprocess.Popen[str]
    folder: Path
    kills: list[float] = field(default_factory=list)

    def told(self, command: str) -> dict[str, Any]:
        """What it says to a command, `tick` or `look`."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(command, file=self.process.stdin, flush=True)
        said: dict[str, Any] = json.loads(self.process.stdout.readline())
        return said

    def answers(self) -> list[Answer]:
        """All it got so far."""
        file = self.folder / "answers"
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        return [Answer(*json.loads(line)) for line in lines if line.endswith("\n")]

    def wait(self) -> None:
        """Waits for an answer to a question that is asked from now on."""
        now = time.time()
        while not any(each.begun > now and not each.error for each in self.answers()):
            assert self.process.poll() is None
            time.sleep(0.2)

    def close(self) -> None:
        """Has it end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait() == 0


def failures(answers: Iterable[Answer], instances: int, kills: Iterable[float] = ()) -> list[Answer]:
    """Answers that are an error, or not whole.

    While localvertex is dead nobody answers; when it is back, questions wait for the model's server, at most a minute.
    An outage that begins with such a kill is excused until its first answer; nothing else is.

    Args:
        answers: all.
        instances: in each request.
        kills: when localvertex was killed.
    """
    found = []
    moments: list[tuple[float, Answer | None]] = [(kill, None) for kill in kills]
    moments += [(each.ended if each.error else each.begun, each) for each in answers]
    dead = False
    for _, answer in sorted(moments, key=lambda moment: moment[0]):
        if answer is None:
            dead = True
        elif answer.error:
            if not (dead and answer.error.startswith(OUTAGE)):
                found.append(answer)
        else:
            dead = False
            whole = len(answer.predictions) == instances and all("confidence" in each for each in answer.predictions)
            found += [] if whole else [answer]
    return found


class Releases:
    """The tests; a system's file has a class of this one, and a fixture `system`."""

    def test_the_first_model_is_released(self, first: dict[str, Any]) -> None:
        assert first["release"].startswith("promoted: ") and first["release"].endswith(", no champion yet")
        assert first["model"].endswith("@1")

    def test_a_tick_of_a_schedule_trains_nothing_where_nothing_has_changed(
        self, first: dict[str, Any], tick: dict[str, Any], user: User, system: System
    ) -> None:
        assert executed(tick) == LOOKS
        assert tick["run"] != first["run"]
        assert tick["data"].startswith(f"unchanged since {first['run'].rpartition('/')[2]}: ")
        assert user.told("look") == {
            "endpoints": [system.name],
            "traffic": {"1": 100},
            "aliases": {"1": ["champion", "default"]},
        }

    def test_better_data_make_another_champion(self, first: dict[str, Any], better: dict[str, Any]) -> None:
        assert better["release"].startswith("promoted: ") and "the champion's" in better["release"]
        assert (better["model"], better["endpoint"]) == (first["model"].replace("@1", "@2"), first["endpoint"])

    def test_worse_data_are_refused_in_one_line_and_the_champion_serves_on(
        self, better: dict[str, Any], worse: dict[str, Any]
    ) -> None:
        assert worse["state"] == "PIPELINE_STATE_SUCCEEDED" and "train" in executed(worse)
        assert worse["release"].startswith("refused: ") and "the champion's" in worse["release"]
        assert "\n" not in worse["release"]
        assert (worse["model"], worse["endpoint"]) == (better["model"], better["endpoint"])

    def test_what_fails_its_smoke_test_is_rolled_back(
        self, checkout: Checkout, system: System, broken: str, user: User
    ) -> None:
        assert "error: task deploy failed: " in broken and "smoke predictions of" in broken
        assert f"are not what export saw; {system.name} keeps its traffic where it was" in broken
        assert "train" not in executed(checkout.summary(system.name))
        found = user.told("look")
        assert (found["endpoints"], found["traffic"]) == ([system.name], {"2": 100})
        assert found["aliases"]["2"] == ["champion", "default"] and found["aliases"]["1"] == ["previous"]

    def test_nobody_who_predicts_has_noticed(self, user: User, broken: str) -> None:
        user.wait()
        answers = user.answers()
        count = len(json.loads((user.folder / "instances.json").read_text()))
        failed = failures(answers, count, user.kills)
        assert not failed, f"{len(failed)} of {len(answers)}; first: {failed[0]}"
        versions = [each.version for each in answers if not each.error]
        assert set(versions) == {"1", "2"} and versions[-1] == "2"
