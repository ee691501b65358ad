"""Protects what only containers have: limits, an image's own entry point, buckets at /gcs, and what no image means."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psutil
import pytest
from google.cloud.aiplatform_v1.types import MachineSpec
from kfp import compiler, dsl

from localvertex import daemon, machines
from localvertex.client import Client
from localvertex.home import Home
from localvertex.workloads import Limits, Workload, WorkloadError, runners
from localvertex.workloads.docker import DockerRunner
from localvertex.workloads.process import RunningProcess
from localvertex.workloads.table import Entry, ImageTable
from tests.docker.engine import BASE

if TYPE_CHECKING:
    from docker import DockerClient

LAUNCHER = "gcr.io/ml-pipeline/google-cloud-pipeline-components:9.9.9"
Found = TypeVar("Found")


@dsl.container_component
def wait():
    return dsl.ContainerSpec(image=BASE, command=["sleep", "600"])


@dsl.pipeline
def waits():
    wait()


@pytest.fixture
def home(engine: DockerClient, tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


@pytest.fixture
def runner(home: Home) -> DockerRunner:
    table = ImageTable([Entry("*/mine:*", Path("python"), home.path, build="make images")], home.path)
    return DockerRunner(home, table, {"LOCALVERTEX_HOME": str(home.path)})


def run(
    runner: DockerRunner, home: Home, *command: str, image: str = BASE, limits: Limits | None = None
) -> tuple[int, str]:
    """Exit code and log of a command."""
    log = home.logs / "log"
    log.unlink(missing_ok=True)
    running = runner.start(Workload("w", image, command, (), log, limits=limits or Limits()))
    return running.wait() or 0, log.read_text()


def test_memory_is_limited(runner: DockerRunner, home: Home) -> None:
    take = ("python", "-c", "print(len(bytearray(256 << 20)))")
    assert run(runner, home, *take, limits=Limits(memory=64 << 20)) == (137, "")
    assert run(runner, home, *take, limits=Limits(memory=1 << 30)) == (0, f"{256 << 20}\n")


def test_cpus_are_limited_to_those_that_there_are(runner: DockerRunner, home: Home, engine: DockerClient) -> None:
    running = runner.start(Workload("w", BASE, ("sleep", "60"), (), home.logs / "log", limits=Limits(cpus=1000)))
    (container,) = engine.containers.list(filters={"label": f"localvertex.home={home.path}"})
    assert container.attrs["HostConfig"]["NanoCpus"] == engine.info()["NCPU"] * 10**9
    running.stop(0)
    assert not engine.containers.list(all=True, filters={"label": f"localvertex.home={home.path}"})


def test_machine_types_limit_what_runs_on_them() -> None:
    limits = {name: machines.limits(MachineSpec(machine_type=name)) for name in ("n1-standard-4", "e2-standard-8", "")}
    assert limits == {"n1-standard-4": Limits(4, 15 << 30), "e2-standard-8": Limits(8, 0), "": Limits()}


def test_buckets_are_at_gcs_and_the_state_folder_is_not_there(runner: DockerRunner, home: Home) -> None:
    (home.gcs / "bucket").mkdir()
    (home.gcs / "bucket" / "object").write_text("found")
    look = f'cat /gcs/bucket/object; ls {home.path}; echo "$LOCALVERTEX_HOME"'
    assert run(runner, home, "sh", "-c", look) == (0, "foundgcs\n\n")
    assert runner.path(home.gcs / "bucket/object", BASE) == "/gcs/bucket/object"


def test_an_image_runs_its_own_command(runner: DockerRunner, home: Home, engine: DockerClient) -> None:
    container = engine.containers.create(BASE)
    changes = ['ENTRYPOINT ["echo", "own"]', 'CMD ["word"]']
    container.commit("localvertex-tests/own", "1", changes=changes)
    container.remove()
    assert run(runner, home, image="localvertex-tests/own:1") == (0, "own word\n")
    engine.images.remove("localvertex-tests/own:1")


def test_an_image_that_is_missing_is_told_with_what_makes_it(runner: DockerRunner, home: Home) -> None:
    for image, advice in (("r/mine:1", "make it: make images"), ("r/other:1", "fetch it: docker pull r/other:1")):
        with pytest.raises(WorkloadError, match=f"^Image {image}: the Docker engine does not have it; {advice}$"):
            run(runner, home, "true", image=image)


def test_a_process_stands_in_for_what_google_publishes(runner: DockerRunner, home: Home) -> None:
    running = runner.start(Workload("w", LAUNCHER, ("sh", "-c", "echo ran"), (), home.logs / "log"))
    assert isinstance(running, RunningProcess) and running.wait() == 0
    assert (home.logs / "log").read_text() == (
        f"localvertex: the Docker engine has no {LAUNCHER}; a process stands in for it\nran\n"
    )
    assert runner.path(home.gcs / "b", LAUNCHER) == str(home.gcs / "b")


def test_no_container_of_a_killed_server_outlives_the_next_start(home: Home, engine: DockerClient) -> None:
    def containers() -> set[str]:
        found = engine.containers.list(all=True, filters={"label": f"localvertex.home={home.path}"})
        return {str(container.id) for container in found}

    def start(runner: str) -> daemon.Running:
        return daemon.start(home, {**os.environ, runners.VARIABLE: runner})[0]

    def kill(server: daemon.Running) -> None:
        psutil.Process(server.pid).kill()
        _until(lambda: daemon.find(home) is None)

    compiler.Compiler().compile(waits, str(home.path / "server.waits.json"))
    spec = json.loads((home.path / "server.waits.json").read_text())
    job = {"pipelineSpec": spec, "runtimeConfig": {"gcsOutputDirectory": "gs://bucket/root"}}
    try:
        server = start(runners.DOCKER)
        Client(server, home).submit(job, "waits")
        left = _until(containers)
        kill(server)
        assert containers() == left
        server = start(runners.DOCKER)
        anew = _until(lambda: containers() - left)
        kill(server)
        assert containers() == anew
        start(runners.DEFAULT)
        assert not containers()
    finally:
        daemon.stop(home)


def _until(look: Callable[[], Found]) -> Found:
    while not (found := look()):
        time.sleep(0.05)
    return found
