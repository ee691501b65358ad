"""The engine of localvertex, asked through its API: a chain of tasks, tasks side by side, and a wide fan-out.

A real server in a state folder of its own answers; the client submits and polls over REST, on one connection.
"""

import http.client
import io
import itertools
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from kfp import compiler, components, dsl, local

from localvertex import daemon
from localvertex.access import client_token
from localvertex.home import Home
from tests.bench.measurement import Measurement, at_most, best_seconds

ROUNDS, FAN_OUT_ROUNDS = 8, 2
POLL_SECONDS = 0.02
FAN_OUT_POLL_SECONDS = 5.0
"""As often as the SDK does."""
WAITING_ROUNDS, TOGETHER = 3, 4
SIZES = (250, 500, 1000)
GROWTH = 1.3
"""A task of the widest fan-out may cost this much more than one of the narrowest, in CPU time of the service and
of its children, which other load on the machine changes less than the time by the clock."""


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def nothing(after: str) -> str:
    return after


@dsl.container_component
def pause(seconds: float):
    return dsl.ContainerSpec(image="alpine:3", command=["sleep", seconds])


@dsl.container_component
def true(item: int):
    return dsl.ContainerSpec(image="alpine:3", command=["true"], args=[item])


@dsl.pipeline
def chain():
    after = "start"
    for _ in range(6):
        after = nothing(after=after).output


@dsl.pipeline
def side_by_side():
    for _ in range(3):
        pause(seconds=2.0)


@dsl.pipeline
def fan_out(items: list[int]):
    with dsl.ParallelFor(items) as item:
        true(item=item)


def measurements() -> Iterator[Measurement]:
    """Runs the pipelines, in less than three minutes on two idle cores."""
    with TemporaryDirectory() as folder, _service(Path(folder, "state")) as service:
        yield from _chains(Path(folder), service)
        yield from _waits(Path(folder), service)
        yield from _fan_outs(Path(folder), service)


class Service:
    """A client of a running server."""

    def __init__(self, home: Home) -> None:
        running = daemon.find(home)
        assert running is not None
        self._process = psutil.Process(running.pid)
        self._jobs = f"/v1/projects/{home.project_id}/locations/{home.location}/pipelineJobs"
        self._headers = {"Authorization": f"Bearer {client_token(home)}"}
        self._connection = http.client.HTTPConnection("127.0.0.1", running.port)
        self._numbers = itertools.count()

    def cpu_seconds(self) -> float:
        """Of the server and of its children that have ended."""
        return sum(self._process.cpu_times()[:4])

    def megabytes(self) -> float:
        """The server's resident memory."""
        return self._process.memory_info().rss / 2**20

    def submit(self, spec: dict[str, Any], cached: bool, items: int) -> str:
        """Create a job; returns its id.

        Args:
            cached: whether its tasks may be answered from the cache.
            items: how many to pass, to a pipeline that takes them; 0 to one that does not.
        """
        job = {
            "pipelineSpec": _with_caching(spec, cached),
            "runtimeConfig": {
                "gcsOutputDirectory": "gs://bench/root",
                "parameterValues": {"items": list(range(items))} if items else {},
            },
        }
        id = f"bench-{next(self._numbers)}"
        self._call("POST", f"?pipelineJobId={id}", job)
        return id

    def get(self, id: str) -> dict[str, Any]:
        """The job as it is now."""
        return self._call("GET", f"/{id}")

    def run(
        self, spec: dict[str, Any], *, cached: bool = False, items: int = 0, poll_seconds: float = POLL_SECONDS
    ) -> dict[str, Any]:
        """Create a job and poll until it has succeeded, all its tasks answered from the cache or none."""
        job = self.wait(self.submit(spec, cached, items), poll_seconds)
        if any(detail["state"] == "SKIPPED" for detail in job["jobDetail"]["taskDetails"]) != cached:
            raise RuntimeError(f"{job['name']} was {'not ' if cached else ''}answered from the cache")
        return job

    def wait(self, id: str, poll_seconds: float = POLL_SECONDS) -> dict[str, Any]:
        """Poll until the job has succeeded."""
        while (job := self.get(id))["state"] != "PIPELINE_STATE_SUCCEEDED":
            if "error" in job:
                raise RuntimeError(job["error"]["message"])
            time.sleep(poll_seconds)
        return job

    def _call(self, verb: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        self._connection.request(verb, self._jobs + path, json.dumps(body) if body else None, self._headers)
        response = self._connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
        if response.status != 200:
            raise RuntimeError(answer["error"]["message"])
        return answer


@contextmanager
def _service(folder: Path) -> Iterator[Service]:
    home = Home(folder)
    daemon.start(home)
    try:
        yield Service(home)
    finally:
        daemon.stop(home)


def _chains(folder: Path, service: Service) -> Iterator[Measurement]:
    file = folder / "chain.json"
    spec = _compiled(chain, file)
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "local"))
    alone = components.load_component_from_file(str(file))
    service.wait(service.submit(spec, cached=True, items=0))  # what the cached runs find
    ours, theirs, cached = best_seconds(
        lambda: service.run(spec),
        lambda: _silently(alone),
        lambda: service.run(spec, cached=True),
        rounds=ROUNDS,
    )
    yield at_most(
        "engine: six Python tasks in a row / kfp.local", ours / theirs, 1.5, f"{ours:.2f} s and {theirs:.2f} s"
    )
    yield at_most("engine: seconds for the six, all cached", cached, 0.3, f"{1000 * cached / 6:.0f} ms a task")


def _waits(folder: Path, service: Service) -> Iterator[Measurement]:
    spec = _compiled(side_by_side, folder / "side_by_side.json")
    one, several = best_seconds(lambda: service.run(spec), lambda: _together(service, spec), rounds=WAITING_ROUNDS)
    yield at_most("engine: seconds for three tasks of 2 s", one, 2.6, "6 s of tasks")
    yield at_most(
        f"engine: seconds for {TOGETHER} such runs at once", several, 2.6, f"{6 * TOGETHER} s of tasks, which only wait"
    )


def _together(service: Service, spec: dict[str, Any]) -> None:
    for id in [service.submit(spec, cached=False, items=0) for _ in range(TOGETHER)]:
        service.wait(id)


def _fan_outs(folder: Path, service: Service) -> Iterator[Measurement]:
    spec = _compiled(fan_out, folder / "fan_out.json")
    for kind, cached in (("executed", False), ("cached", True)):
        if cached:
            service.wait(service.submit(spec, cached, max(SIZES)), FAN_OUT_POLL_SECONDS)
        cpu, wall = dict.fromkeys(SIZES, float("inf")), dict.fromkeys(SIZES, float("inf"))
        for _ in range(FAN_OUT_ROUNDS):
            for size in SIZES:
                before = service.cpu_seconds()
                job = service.run(spec, cached=cached, items=size, poll_seconds=FAN_OUT_POLL_SECONDS)
                cpu[size] = min(cpu[size], (service.cpu_seconds() - before) / size)
                wall[size] = min(wall[size], _seconds(job) / size)
        detail = ", ".join(f"{size}: {1000 * cpu[size]:.1f} ({1000 * wall[size]:.1f})" for size in SIZES)
        yield at_most(
            f"engine: CPU time of a task in a fan-out of {SIZES[-1]} / of {SIZES[0]}, {kind}",
            cpu[SIZES[-1]] / cpu[SIZES[0]],
            GROWTH,
            f"ms a task (by the clock): {detail}; service {service.megabytes():.0f} MB",
        )


def _compiled(pipeline: Any, file: Path) -> dict[str, Any]:
    compiler.Compiler().compile(pipeline, str(file))
    spec: dict[str, Any] = json.loads(file.read_text())
    return spec


def _with_caching(spec: dict[str, Any], enabled: bool) -> dict[str, Any]:
    """The pipeline with its tasks' caching options as `PipelineJob(enable_caching=…)` sets them."""
    changed: dict[str, Any] = json.loads(json.dumps(spec))
    for component in (changed["root"], *changed["components"].values()):
        for task in component.get("dag", {}).get("tasks", {}).values():
            task["cachingOptions"] = {"enableCache": True} if enabled else {}
    return changed


def _silently(function: Any) -> None:
    logging.disable()
    try:
        with redirect_stdout(io.StringIO()):
            function()
    finally:
        logging.disable(logging.NOTSET)


def _seconds(job: dict[str, Any]) -> float:
    """From when a job was accepted to when it ended, by the server's clock: polling rarely does not count."""
    ended, created = (datetime.fromisoformat(job[field]) for field in ("endTime", "createTime"))
    return (ended - created).total_seconds()
