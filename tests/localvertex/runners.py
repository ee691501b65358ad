"""The runner that tests of what any runner must do are run with: LOCALVERTEX_RUNNER chooses it, as for the server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from localvertex.workloads import Runner, Running, Workload, runners
from localvertex.workloads.docker import DockerRunner
from localvertex.workloads.table import ImageTable
from tests.docker.engine import KFP

IN_CONTAINERS = runners.wanted(os.environ) == runners.DOCKER
only_processes = pytest.mark.skipif(IN_CONTAINERS, reason="of processes alone")


class _AnyImage(DockerRunner):
    """Takes one image that runs kfp's components for whatever image a test names."""

    def _image(self, name: str) -> Any:
        return super()._image(KFP)


class CountingRunner:
    """A runner that knows what it was asked to run."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.started: list[Workload] = []

    def start(self, workload: Workload) -> Running:
        self.started = [*self.started, workload]
        return self._runner.start(workload)

    def path(self, path: Path, image: str) -> str:
        return self._runner.path(path, image)

    def sweep(self) -> int:
        return self._runner.sweep()


def new_runner(home: Any, table: ImageTable, environment: Mapping[str, str]) -> Runner:
    """A runner of the kind that is tested."""
    if IN_CONTAINERS:
        return _AnyImage(home, table, environment)
    return runners.make(runners.DEFAULT, home, table, environment)
