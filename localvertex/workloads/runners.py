"""The runners that there are, by the name that LOCALVERTEX_RUNNER chooses one with."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from localvertex.workloads import Runner, WorkloadError

if TYPE_CHECKING:
    from pathlib import Path

    from localvertex.home import Home
    from localvertex.workloads.table import ImageTable

VARIABLE = "LOCALVERTEX_RUNNER"
DEFAULT, DOCKER = "process", "docker"

log = logging.getLogger(__name__)


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


def last(home: Home) -> str:
    """The runner that may have left something behind in a state folder: the one that was last used in it."""
    try:
        return _file(home).read_text()
    except FileNotFoundError:
        return DEFAULT


def sweep(home: Home) -> int:
    """End what the last runner of a state folder left behind; returns how many there were.

    Raises:
        WorkloadError: what it needs is not there.
    """
    from localvertex.workloads.table import ImageTable

    return make(last(home), home, ImageTable((), home.path), {}).sweep()


def take_over(home: Home, name: str) -> None:
    """Remember the runner that a state folder is used with from now on; what another one left behind is ended.

    Where that one's engine is gone, it stays the last: the next start looks again.
    """
    if last(home) != name:
        try:
            sweep(home)
        except WorkloadError as error:
            log.warning("what an earlier server left running is not looked for: %s", error)
            return
    aside = _file(home).with_name("runner.new")
    aside.write_text(name)
    os.replace(aside, _file(home))


def _file(home: Home) -> Path:
    return home.path / "runner"
