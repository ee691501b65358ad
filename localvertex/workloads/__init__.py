"""A workload is one container's command; a runner starts it on this host, in a container or in place of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

__all__ = ["Limits", "Runner", "Running", "Workload", "WorkloadError"]


@dataclass(frozen=True)
class Limits:
    """What a workload may take of the machine.

    Args:
        cpus: cores; 0 for all.
        memory: in bytes; 0 for all.
    """

    cpus: float = 0
    memory: int = 0


@dataclass(frozen=True)
class Workload:
    """One container to run.

    Args:
        id: unique among the workloads that run at the same time; marks every process that the workload starts.
        image: the container image named in the request; the image table says what runs in its place.
        command: the container's entry point; empty for the serving command of the image table (`serve`).
        args: what follows the command.
        env: variables added to the environment.
        log: file that stdout and stderr are appended to.
        serve: run the image's serving command when no command is given.
        limits: kept to by runners that can.
    """

    id: str
    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    serve: bool = False
    limits: Limits = Limits()


class Running(Protocol):
    """A workload that was started."""

    @property
    def pid(self) -> int:
        """Process id of the workload's main process, which leads a session; 0 if it is not one of this host."""

    def wait(self, timeout: float | None = None) -> int | None:
        """Exit code of the main process (128 + signal if one ended it), or None if it runs on after `timeout` s."""

    def stop(self, grace: float = 10) -> None:
        """End all of the workload: SIGTERM, and after `grace` seconds SIGKILL; 0 is SIGKILL at once."""


class Runner(Protocol):
    """Starts workloads."""

    def start(self, workload: Workload) -> Running:
        """Start a workload.

        Raises:
            WorkloadError: its image cannot be run, or its command does not exist.
        """

    def path(self, path: Path, image: str) -> str:
        """Where a workload of an image finds what is at an absolute path of this host."""

    def sweep(self) -> int:
        """End what an earlier server, now dead, left running; returns how many there were."""


class WorkloadError(Exception):
    """A workload that cannot be started; the message says why and what to do."""
