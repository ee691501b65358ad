"""The runners that there are, by the name that LOCALVERTEX_RUNNER chooses one with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from localvertex.workloads import Runner, WorkloadError

if TYPE_CHECKING:
    from localvertex.home import Home
    from localvertex.workloads.table import ImageTable

VARIABLE = "LOCALVERTEX_RUNNER"
DEFAULT, DOCKER = "process", "docker"


def wanted(environment: Mapping[str, str]) -> str:
    """The runner that an environment asks for.

    Raises:
        WorkloadError: there is none of that name.
    """
    name = environment.get(VARIABLE) or DEFAULT
    if name not in (DEFAULT, DOCKER):
        raise WorkloadError(f"{VARIABLE}={name}: no such runner; there are {DEFAULT} and {DOCKER}")
    return name


def make(name: str, home: Home, table: ImageTable, environment: Mapping[str, str]) -> Runner:
    """A runner.

    Args:
        name: as `wanted` gives it.
        home: the state folder.
        table: what runs in place of images, or makes them.
        environment: variables every workload gets.

    Raises:
        WorkloadError: what it needs is not there.
    """
    if name == DOCKER:
        from localvertex.workloads.docker import DockerRunner

        return DockerRunner(home, table, environment)
    from localvertex.workloads.process import ProcessRunner

    return ProcessRunner(home, table, environment)
