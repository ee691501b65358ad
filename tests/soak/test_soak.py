"""Protects what was acknowledged from kill -9 of the server, of tasks and of clients; nothing is left behind either.

SOAK_PIPELINES says how many pipelines (8, for a test among others; `make soak` runs 100), SOAK_SEED repeats the
pipelines and the order of the kills of an earlier run; their moments are the machine's own.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from localvertex import daemon, names
from localvertex.client import Client, ClientError, ServerGone
from localvertex.engine.journal import Journal
from localvertex.home import Home
from localvertex.store import Store
from localvertex.workloads.process import MARK
from tests.localvertex.engine.plans import (
    FAILED,
    GOOD,
    SUCCEEDED,
    Ending,
    Plan,
    Prediction,
    Step,
    compiled,
    random_plan,
)
from tests.localvertex.processes import workloads
from tests.soak.submitter import BUCKET, Notes, content

RETRIES = 4
KILLS_OF_A_TASK = 3
"""Fewer than its retries, so that what it comes to does not depend on them."""


@dataclass
class Case:
    """One pipeline.

    Args:
        run: id of its job.
        plan: what it does.
        files: of its leaves: exit code and seconds.
    """

    run: str
    plan: Plan
    files: dict[str, tuple[int, float]] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)

    @property
    def cancelled(self) -> bool:
        """Whether the client cancels it; it would not end by itself."""
        return self.run.endswith("-cancelled")


def cases(folder: Path, count: int, dice: random.Random) -> list[Case]:
    """Pipelines, with the files that tell their tasks what to do, and their jobs for the client to submit."""
    made: list[Case] = []
    while len(made) < count:
        cancelled = len(made) % 8 == 3
        case = Case(f"soak-{len(made):03d}{'-cancelled' * cancelled}", hardened(random_plan(dice, most=4)))
        if cancelled:
            case.plan = {**case.plan, "endless": Step(frozenset(), retries=RETRIES)}
        prediction = Prediction(lambda path, items, case=case: ending(case, dice, path, items))  # type: ignore[misc]
        prediction.of(case.plan)
        case.states = prediction.states
        if not 0 < len(case.files) <= 8:
            continue
        made.append(case)
        tasks = folder / "tasks" / case.run
        tasks.mkdir(parents=True)
        for file, (code, seconds) in case.files.items():
            (tasks / file).write_text(f"{seconds:.3f} {code} 1\n" * (RETRIES + 1))
        job = {
            "pipeline_spec": compiled(case.plan, str(tasks)),
            "runtime_config": {"gcs_output_directory": "gs://soak/root"},
        }
        (folder / f"{case.run}.json").write_text(json.dumps(job))
    return made


def hardened(plan: Plan) -> dict[str, Step]:
    """The plan with leaves that are tried again when they are killed."""
    return {
        name: replace(step, retries=RETRIES) if step.body is None else replace(step, body=hardened(step.body))
        for name, step in plan.items()
    }


def ending(case: Case, dice: random.Random, path: str, items: Any) -> Ending:
    name = next(step for step in reversed(path.split("/")) if not step.isdigit())
    file = ".".join([name, *map(str, items.values())])
    if file not in case.files:
        case.files[file] = (3 * (dice.random() < 0.1), 600 if name == "endless" else dice.random() / 2)
    return Ending(FAILED if case.files[file][0] else SUCCEEDED, 1)


class Chaos:
    """Kills servers, tasks and clients, and starts servers and clients again.

    Args:
        home: the server's.
        folder: the client's.
        dice: whom to kill next.
    """

    def __init__(self, home: Home, folder: Path, dice: random.Random, pace: float) -> None:
        self._home = home
        self._folder = folder
        self._dice = dice
        self._pace = pace
        self._client: subprocess.Popen[bytes] | None = None
        self._task_kills: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()

    def run(self, servers: int, tasks: int, clients: int) -> None:
        """Do so many kills, in random order."""
        ahead = ["server"] * servers + ["task"] * tasks + ["client"] * clients
        self._dice.shuffle(ahead)
        for victim in ahead:
            self.mend()
            time.sleep(self._dice.random())
            getattr(self, f"kill_{victim}")()

    def mend(self) -> None:
        """A server and a client that run, unless the client is done; sometimes two start the server at once."""
        while daemon.find(self._home) is None:
            starters = [self._start() for _ in range(self._dice.choice([1, 1, 2]))]
            if self._dice.random() < 0.2:
                time.sleep(self._dice.random() * 2)
                self.kill_server()
            for starter in starters:
                starter.wait()
        if self._client is None or self._client.poll():
            environment = subprocess.check_output([*self._command("env"), "--json"], env=self._environment())
            transport = self._dice.choice(["grpc", "rest"])
            self._client = subprocess.Popen(
                [sys.executable, "-m", "tests.soak.submitter", str(self._folder), transport],
                env={**self._environment(), **json.loads(environment), "SOAK_PACE": str(self._pace)},
                stderr=(self._folder / "client.log").open("ab"),
            )

    def finish(self) -> None:
        """Let the client come to its end."""
        while True:
            self.mend()
            assert self._client is not None
            if self._client.wait() == 0:
                return

    def stop(self) -> None:
        """End whatever still runs."""
        if self._client is not None:
            self._client.kill()
            self._client.wait()
        self.kill_server()
        for process in workloads(self._home):
            process.kill()

    def kill_server(self) -> None:
        """Whether it is ready or still starting."""
        for process in servers(self._home):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                process.wait()
                self.kills["server"] += 1

    def kill_task(self) -> None:
        """One process of a task, which need not be its first."""
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            found = workloads(self._home)
            self._dice.shuffle(found)
            for process in found:
                with contextlib.suppress(psutil.Error):
                    task = process.environ()[MARK].rpartition("-")[0]
                    if self._task_kills[task] < KILLS_OF_A_TASK:
                        self._task_kills[task] += 1
                        process.kill()
                        self.kills["task"] += 1
                        return
            time.sleep(0.01)

    def kill_client(self) -> None:
        assert self._client is not None
        if self._client.poll() is None:
            self._client.send_signal(signal.SIGKILL)
            self._client.wait()
            self.kills["client"] += 1

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command("start"), env=self._environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def _command(self, verb: str) -> list[str]:
        return [sys.executable, "-m", "localvertex", verb]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "LOCALVERTEX_HOME": str(self._home.path)}


def servers(home: Home) -> list[psutil.Process]:
    """The server processes of a state folder; more than one for an instant when two start."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if f"--home={home.path}" in process.cmdline():
                found.append(process)
    return found


@pytest.fixture
def soak(tmp_path: Path) -> Iterator[tuple[Home, Path, random.Random, Chaos, int]]:
    count = int(os.environ.get("SOAK_PIPELINES", "8"))
    seed = int(os.environ.get("SOAK_SEED", random.randrange(10**6)))
    print(f"SOAK_PIPELINES={count} SOAK_SEED={seed}")
    home, folder, dice = Home(tmp_path / "state"), tmp_path / "client", random.Random(seed)
    folder.mkdir()
    chaos = Chaos(home, folder, dice, 0.6 if count < 50 else 1)
    yield home, folder, dice, chaos, count
    chaos.stop()


@pytest.mark.timeout(3600)
def test_kills_lose_nothing_that_was_acknowledged(soak: tuple[Home, Path, random.Random, Chaos, int]) -> None:
    home, folder, dice, chaos, count = soak
    submitted = cases(folder, count, dice)
    chaos.run(servers=max(4, count // 5), tasks=count, clients=max(2, count // 10))
    chaos.finish()
    ended = wait_for_all(home, len(submitted))
    print(dict(chaos.kills))
    check_runs(submitted, Notes(folder).read(), ended)
    assert not workloads(home), "tasks outlived their runs"
    assert not list((home.path / "tmp").glob("*")), "scratch folders outlived their tasks"
    port = daemon.last_port(home)
    daemon.stop(home)
    check_tasks(home, submitted, ended)
    check_objects(home, submitted)
    check_left_behind(home, port)


def wait_for_all(home: Home, count: int) -> dict[str, dict[str, Any]]:
    """The jobs by id, once all have ended."""
    while True:
        running = daemon.find(home)
        assert running is not None, "the server ended"
        with contextlib.suppress(ServerGone, ClientError):
            jobs = list(
                all_jobs(Client(running, home), f"v1/{names.parent(home.project_id, home.location)}/pipelineJobs")
            )
            if len(jobs) >= count and all("endTime" in job for job in jobs):
                return {names.id_of(job["name"]): job for job in jobs}
        time.sleep(0.1)


def all_jobs(client: Client, path: str) -> Iterator[dict[str, Any]]:
    page: dict[str, Any] = {"nextPageToken": ""}
    while "nextPageToken" in page:
        page = client.get(path, pageSize="100", pageToken=page["nextPageToken"], readMask="name,state,endTime")
        yield from page.get("pipelineJobs", [])


def check_runs(submitted: list[Case], noted: set[tuple[str, str]], ended: dict[str, dict[str, Any]]) -> None:
    assert {run for verb, run in noted if verb == "submitted"} == {case.run for case in submitted} == ended.keys()
    states = {run: job["state"].removeprefix("PIPELINE_STATE_") for run, job in ended.items()}
    assert states == {case.run: "CANCELLED" if case.cancelled else case.states[""] for case in submitted}


def check_tasks(home: Home, submitted: list[Case], ended: dict[str, dict[str, Any]]) -> None:
    store = Store.at(home.database)
    journal = Journal(store)
    for case in submitted:
        records = journal.of(ended[case.run]["name"])
        states = {path: record.state.name for path, record in records.items()}
        assert all(record.state.final for record in records.values()), case.run
        if not case.cancelled:
            assert states == case.states, case.run
            for path, record in records.items():
                assert record.outputs or record.state.name not in GOOD, f"{case.run} {path} has no outputs"
    store.close()


def check_objects(home: Home, submitted: list[Case]) -> None:
    for case in submitted:
        assert (home.gcs / BUCKET / case.run).read_bytes() == content(case.run), f"object {case.run} is not whole"


def check_left_behind(home: Home, port: int | None) -> None:
    assert not servers(home)
    assert not workloads(home)
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port or 0))
    assert not list(home.uploads.iterdir())
    expected = {"gcs", "logs", "uploads", "keys", "tmp", "port", "runner", "server.lock", "start.lock", "store.db"}
    found = {path.name for path in home.path.iterdir()}
    assert found <= expected | {"store.db-wal", "store.db-shm", "server.json"}, found - expected
    with contextlib.closing(sqlite3.connect(home.database)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
