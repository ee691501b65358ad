"""Protects the promise of the images: pipelines run whole in containers, and come out as they do in processes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.docker.conftest import House, stop
from tests.e2e.checkouts import cached, environment, executed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient

# The first test waits until all images are built and both pipelines have run.
pytestmark = pytest.mark.timeout(3600)
SMALL = {
    "crnn": "max_trials=1 parallel_trials=1 trial_epochs=1 trial_examples=100 train_epochs=1 highest_error=1",
    "iris": "max_trials=1 parallel_trials=1 trial_epochs=2 train_epochs=5 seeds=1 fold_epochs=2 highest_error=1",
}
COUNT = {"crnn": "300", "iris": "150"}
MOVED = ("images", "components", "pipelines")
RUNNER = "LOCALVERTEX_RUNNER"
FOLDED = ("tune", "train", "evaluate", "export")
PARAMETERS = """
import json, sys
from localvertex import daemon
from localvertex.client import Client
from localvertex.home import Home
home = Home.find()
print(json.dumps(Client(daemon.find(home), home).pipeline_job(sys.argv[1])["runtimeConfig"]["parameterValues"]))
"""


class Pipelines:
    """Runs pipelines in one checkout with either runner."""

    def __init__(self, house: House, engine: DockerClient) -> None:
        self.house = house
        self.engine = engine

    def run(self, pipeline: str, runner: str, *arguments: str) -> dict[str, Any]:
        """Runs a pipeline to success; returns its summary."""
        command = ["-m", "pipelines", "run", "--pipeline", pipeline, "--args", SMALL[pipeline], *arguments]
        done = self.python(*command, runner=runner)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return self.house.summary(pipeline)

    def python(self, *arguments: str, runner: str) -> subprocess.CompletedProcess[str]:
        """Runs Python in the checkout."""
        return subprocess.run(
            [".venv/bin/python", *arguments],
            cwd=self.house.folder,
            capture_output=True,
            text=True,
            env=environment() | {RUNNER: runner},
        )

    def containers(self) -> list[Any]:
        """Those of this checkout's localvertex."""
        label = f"localvertex.home={self.house.folder / '.localvertex'}"
        return list(self.engine.containers.list(all=True, filters={"label": label}))


@pytest.fixture(scope="module")
def pipelines(house: House, engine: DockerClient, built: str) -> Iterator[Pipelines]:
    made = Pipelines(house, engine)
    for pipeline, count in COUNT.items():
        command = ["-m", "images.trainer.sample", f"--system={pipeline}", f"--out=data/{pipeline}", f"--count={count}"]
        done = made.python(*command, runner="process")
        assert done.returncode == 0, done.stderr
    yield made
    stop(house.folder)
    assert not made.containers()


@pytest.fixture(scope="module")
def in_containers(pipelines: Pipelines) -> dict[str, dict[str, Any]]:
    """Both pipelines run in containers, with nothing in the cache."""
    return {pipeline: pipelines.run(pipeline, "docker") for pipeline in SMALL}


def test_pipelines_run_whole_in_containers(pipelines: Pipelines, in_containers: dict[str, dict[str, Any]]) -> None:
    for pipeline, summary in in_containers.items():
        assert summary["state"] == "PIPELINE_STATE_SUCCEEDED"
        assert executed(summary) >= {"ingest", "evaluate", "export", "deploy"}, pipeline
        assert summary["metrics"]
    # The endpoints' servers go on; whatever else there was is gone.
    left = {container.labels["localvertex.workload"] for container in pipelines.containers()}
    assert len(left) == len(SMALL)
    assert all(container.attrs["Config"]["Image"].startswith("sha256:") for container in pipelines.containers())


def test_the_endpoint_of_a_container_answers(pipelines: Pipelines, in_containers: dict[str, dict[str, Any]]) -> None:
    assert in_containers["iris"]["predictions"]


def test_a_server_that_is_started_anew_with_processes_takes_all_from_the_cache(
    pipelines: Pipelines, in_containers: dict[str, dict[str, Any]]
) -> None:
    for pipeline in SMALL:
        summary = pipelines.run(pipeline, "process")
        assert cached(summary) >= {"ingest", "tune", "train", "evaluate", "export"}, pipeline
    assert not pipelines.containers()


@pytest.mark.parametrize("pipeline", SMALL)
def test_processes_and_containers_come_to_the_same_scores(
    pipelines: Pipelines, in_containers: dict[str, dict[str, Any]], pipeline: str
) -> None:
    again = pipelines.run(pipeline, "process", "--cache", "0")
    for name, value in in_containers[pipeline]["metrics"].items():
        if name == "device_hours":
            continue
        assert again["metrics"][name] == pytest.approx(value, abs=0.05), name


@pytest.mark.parametrize("pipeline", SMALL)
def test_nothing_reads_the_checkout(
    pipelines: Pipelines, in_containers: dict[str, dict[str, Any]], tmp_path: Path, pipeline: str
) -> None:
    folder, run = pipelines.house.folder, in_containers[pipeline]["run"].rsplit("/", 1)[1]
    parameters = json.loads(pipelines.python("-c", PARAMETERS, run, runner="process").stdout)
    # Other seeds have other cache keys: all but the ingest runs again.
    (tmp_path / "parameters.json").write_text(json.dumps(parameters | {"seed": parameters["seed"] + 1}))
    for name in MOVED:
        shutil.move(folder / name, tmp_path / name)
    try:
        given = ("--parameter-file", str(tmp_path / "parameters.json"))
        done = pipelines.python("-m", "localvertex", "run", f"build/{pipeline}.json", *given, runner="docker")
    finally:
        for name in MOVED:
            shutil.move(tmp_path / name, folder / name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"SUCCEEDED|succeeded", done.stdout)) > len(FOLDED), done.stdout
