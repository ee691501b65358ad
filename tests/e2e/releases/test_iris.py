"""Protects iris end to end: its releases, one of which is killed wherever a task ends and inside deploy; its watch."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from localvertex import daemon, names
from localvertex.client import Client
from localvertex.home import Home
from localvertex.workloads.process import MARK
from tests.e2e.checkouts import Checkout, environment, executed
from tests.e2e.releases.scenario import LOOKS, Releases, System, User, shuffled

EPOCHS = 60
SMALL = f"max_trials=1 parallel_trials=1 trial_epochs=2 train_epochs={EPOCHS} seeds=1 fold_epochs=2 highest_error=1"
TEST_ROWS = 30
TASKS = {"snapshot", "ingest", "skew", "tune", "cross-validate", "compare", "train", "evaluate", "export"}
TASKS |= {"champion", "challenge", "deploy"}
PAUSE = 0.05
ENDED = ("PIPELINE_STATE_SUCCEEDED", "PIPELINE_STATE_FAILED", "PIPELINE_STATE_CANCELLED")


def mislabel(folder: Path, share: float, chance: random.Random) -> None:
    """Gives flowers to train on the names of others, and keeps those to test on apart."""
    (file,) = folder.glob("*.csv")
    with file.open(newline="") as table:
        head, *rows = list(csv.reader(table))
    file.unlink()
    held_out, known = rows[:TEST_ROWS], rows[TEST_ROWS:]
    species = shuffled([row[-1] for row in known], share, chance)
    given = [[*row[:-1], name] for row, name in zip(known, species, strict=True)]
    for part, chosen in (("training", given), ("test", held_out)):
        with (folder / f"iris_{part}.csv").open("w", newline="") as table:
            csv.writer(table).writerows([head, *chosen])


@pytest.fixture(scope="module")
def system() -> System:
    return System("iris", SMALL, (), mislabel, wrong_at_first=0.8)


class Killer:
    """Kills with -9 at chosen moments of a run: localvertex, which is then started again, and once the trainer.

    Attributes:
        job: the run, once it has ended.
        kills: of localvertex, by the moment: when, in seconds since 1970.
        ended: when tasks had ended, by their ids, as it was said at first.
        shares: what the endpoint's traffic was seen to sum to.
    """

    def __init__(self, checkout: Checkout) -> None:
        self._checkout = checkout
        self._home = Home(checkout.folder / ".localvertex")
        self._trained = self._last_epoch()
        self._trainer_killed = False
        self.kills: dict[str, float] = {}
        self.ended: dict[str, str] = {}
        self.job: dict[str, Any] = {}
        self.shares: set[int] = set()

    def run(self, *arguments: str) -> None:
        """`make run`, which is killed once its run has begun; waits until that has ended."""
        earlier = {each["id"] for each in self._client().runs(100)}
        making = self._checkout.start("run", *arguments)
        while not (begun := [each["id"] for each in self._client().runs(100) if each["id"] not in earlier]):
            assert making.poll() is None, making.communicate()[0]
            time.sleep(PAUSE)
        os.killpg(making.pid, signal.SIGKILL)
        making.communicate()
        while (run := self._client().pipeline_job(begun[0]))["state"] not in ENDED:
            tasks = run.get("jobDetail", {}).get("taskDetails", [])
            self.ended = ends(tasks) | self.ended
            moments = [*boundaries(tasks), *self._epochs(tasks), *self._steps_of_deploy(tasks)]
            for moment in moments:
                if moment not in self.kills:
                    self._kill(moment)
                    break
            time.sleep(PAUSE)
        self.job = run

    def _epochs(self, tasks: list[dict[str, Any]]) -> Iterator[str]:
        """While it trains: when an epoch has been finished by a trainer that goes on where a killed one was."""
        if not is_running(tasks, "train") or self._last_epoch() == self._trained:
            return
        if self._trainer_killed:
            yield "in train"
        elif trainer := next((each for each in workloads(self._checkout) if is_trainer(each)), None):
            trainer.kill()
            trainer.wait()
            self._trainer_killed, self._trained = True, self._last_epoch()

    def _last_epoch(self) -> int:
        """Nanosecond at which training last finished one; 0 before the first."""
        return max((path.stat().st_mtime_ns for path in self._home.gcs.glob("**/checkpoints/*.npz")), default=0)

    def _steps_of_deploy(self, tasks: list[dict[str, Any]]) -> Iterator[str]:
        """How far deploy has come, as it is seen from outside."""
        if not is_running(tasks, "deploy"):
            return
        parent = names.parent(self._home.project_id, self._home.location)
        for endpoint in self._client().get(f"v1/{parent}/endpoints")["endpoints"]:
            shares = sorted(map(int, endpoint.get("trafficSplit", {}).values()))
            if endpoint["displayName"] == "iris":
                self.shares.add(sum(shares))
                if len(endpoint["deployedModels"]) == 2:
                    yield "in the canary" if shares[0] else "before the old one is stopped"
            elif endpoint.get("deployedModels"):
                yield "in the trial"

    def _kill(self, moment: str) -> None:
        running = daemon.find(self._home)
        assert running is not None
        self.kills[moment] = time.time()
        server = psutil.Process(running.pid)
        server.kill()
        server.wait()
        command = [self._checkout.python, "-m", "localvertex", "start"]
        subprocess.run(command, cwd=self._checkout.folder, env=environment(), capture_output=True, check=True)

    def _client(self) -> Client:
        running = daemon.find(self._home)
        assert running is not None, "localvertex has ended"
        return Client(running, self._home)


def boundaries(tasks: list[dict[str, Any]]) -> Iterator[str]:
    """The tasks that have ended; of those in a loop the first."""
    graphs = {each.get("parentTaskId") for each in tasks}
    for task in tasks:
        if task["state"] == "SUCCEEDED" and task["taskId"] not in graphs:
            yield f"after {task['taskName']}"


def ends(tasks: list[dict[str, Any]]) -> dict[str, str]:
    """When each task ended that has, by its id."""
    return {each["taskId"]: each["endTime"] for each in tasks if each["state"] == "SUCCEEDED"}


def is_running(tasks: list[dict[str, Any]], name: str) -> bool:
    return any(each["taskName"] == name and each["state"] == "RUNNING" for each in tasks)


def is_trainer(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[1:3] == ["-m", "images.trainer.train"]
    except psutil.Error:
        return False


def workloads(checkout: Checkout) -> list[psutil.Process]:
    """Everything localvertex started for this checkout, found by the mark it leaves in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK, "").startswith(f"{checkout.folder}/"):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def killer(checkout: Checkout, right: Path, tick: dict[str, Any], user: User) -> Killer:
    """Has gone through a run on better data."""
    killing = Killer(checkout)
    killing.run("PIPELINE=iris", f"ARGS={SMALL}", f"DATA={right}")
    user.kills += killing.kills.values()
    assert killing.job["state"] == "PIPELINE_STATE_SUCCEEDED", killing.job.get("error")
    return killing


@pytest.fixture(scope="module")
def better(checkout: Checkout, killer: Killer, right: Path) -> dict[str, Any]:
    """The next run, after one that was killed again and again."""
    return checkout.run("iris", f"ARGS={SMALL}", f"DATA={right}")


def test_there_is_nothing_to_roll_back_to_yet(checkout: Checkout, first: dict[str, Any]) -> None:
    assert "no previous version" in checkout.make("rollback", "PIPELINE=iris", expect=2).stderr


class TestReleases(Releases):
    """Of the species classifier."""

    pytestmark = pytest.mark.timeout(1800)  # One of its runs is begun again some twenty times.


def test_it_was_killed_wherever_a_task_ends_and_inside_deploy(killer: Killer) -> None:
    assert {f"after {task}" for task in TASKS} <= killer.kills.keys()
    assert {"in train", "in the trial", "in the canary"} <= killer.kills.keys()
    assert killer.shares == {100}


def test_the_next_run_finds_it_all_done(better: dict[str, Any]) -> None:
    assert executed(better) <= LOOKS


def test_training_went_on_where_it_was(checkout: Checkout, killer: Killer) -> None:
    home = checkout.folder / ".localvertex"
    run = killer.job["name"].rpartition("/")[2]
    (history,) = home.glob(f"gcs/**/{run}/**/history.csv")
    with history.open(newline="") as lines:
        epochs = [int(row["epoch"]) for row in csv.DictReader(lines)]
    assert epochs == list(range(1, len(epochs) + 1))
    logs = "".join(path.read_text() for path in home.glob("logs/**/*.log"))
    assert logs.count("resuming after epoch") >= 2
    trainings = len(list(home.glob("gcs/**/history.csv")))
    assert logs.count(f"epoch 1/{EPOCHS} ") <= trainings, "a first epoch was trained twice"


def test_finished_tasks_were_kept(killer: Killer) -> None:
    last = ends(killer.job["jobDetail"]["taskDetails"])
    assert killer.ended == {id: last[id] for id in killer.ended}


def test_requests_are_watched(checkout: Checkout, user: User, broken: str) -> None:
    """One flower asked for over and over is no sample of what was trained on: that is drift, and it is told."""
    watched = checkout.run("iris_monitor")
    assert executed(watched) == {"requests", "skew", "notify"}
    run = watched["run"].rpartition("/")[2]
    (log,) = (checkout.folder / ".localvertex" / "logs" / run).glob("*notify.log")
    assert log.read_text().startswith("drift: exit-handler-1.condition-2.skew: ")


def test_no_process_outlives_localvertex(checkout: Checkout, broken: str) -> None:
    running = daemon.find(Home(checkout.folder / ".localvertex"))
    assert running is not None
    server = psutil.Process(running.pid)
    ours = {server.pid, *(child.pid for child in server.children(recursive=True))}
    assert {process.pid for process in workloads(checkout)} <= ours
    checkout.make("stop")
    assert workloads(checkout) == []
