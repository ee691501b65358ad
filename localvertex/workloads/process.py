"""Runs workloads as processes of this host, each marked through its environment so that none can get lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import psutil

from localvertex.workloads import Workload, WorkloadError
from localvertex.workloads.table import Entry, ImageTable

MARK = "LOCALVERTEX_WORKLOAD"
_HOOK = Path(__file__).parent / "hook"
_PREBUILT_SERVING = "-docker.pkg.dev/vertex-ai/prediction/"


class _Home(Protocol):
    @property
    def path(self) -> Path: ...
    @property
    def gcs(self) -> Path: ...


class ProcessRunner:
    """Starts each workload as a process in a session of its own.

    Args:
        home: the state folder; its absolute path is part of the mark, so that servers do not touch each other's.
        table: what runs in place of images.
        environment: variables every workload gets, such as the redirect of API calls.
    """

    def __init__(self, home: _Home, table: ImageTable, environment: Mapping[str, str]) -> None:
        self.table = table
        self._environment = dict(environment)
        self._home = home.path.resolve()
        self._gcs = home.gcs.resolve()

    def start(self, workload: Workload) -> RunningProcess:
        """Start a workload.

        Raises:
            WorkloadError: no serving command is known for its image, or its command does not exist.
        """
        entry = self.table.entry(workload.image)
        command = self._command(workload, entry)
        scratch = self._home / "tmp" / workload.id.replace("/", "-")
        scratch.mkdir(parents=True, exist_ok=True)
        workload.log.parent.mkdir(parents=True, exist_ok=True)
        mark = f"{self._home}:{workload.id}"
        try:
            with workload.log.open("ab") as log:
                process = subprocess.Popen(
                    command,
                    cwd=entry.workdir,
                    env=self._variables(workload, entry, scratch, mark),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            shutil.rmtree(scratch, ignore_errors=True)
            missing = entry.workdir if not entry.workdir.is_dir() else command[0]
            raise WorkloadError(f"Image {workload.image}: cannot run {missing}: {error.strerror}.") from error
        return RunningProcess(process, mark, scratch)

    def sweep(self) -> int:
        """End the processes that an earlier server, now dead, left behind; returns how many there were."""
        leftovers = _marked(f"{self._home}:", prefix=True)
        _kill(leftovers)
        shutil.rmtree(self._home / "tmp", ignore_errors=True)
        return len(leftovers)

    def _command(self, workload: Workload, entry: Entry) -> list[str]:
        command = workload.command
        if not command:
            if not (workload.serve and entry.serve):
                raise WorkloadError(_no_command(workload))
            command = entry.serve
        # The table's file may name an interpreter in a folder without a `python` of that name.
        program = str(entry.python) if command[0] in ("python", "python3") else command[0]
        return [program, *command[1:], *workload.args]

    def _variables(self, workload: Workload, entry: Entry, scratch: Path, mark: str) -> dict[str, str]:
        packages = scratch / "packages"
        variables = {
            **os.environ,
            **self._environment,
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(scratch),
            # pip installs what the interpreter lacks here, never into the interpreter's environment.
            "PIP_TARGET": str(packages),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "LOCALVERTEX_GCS_MOUNT": str(self._gcs),
            **workload.env,
            MARK: mark,
        }
        paths = [str(_HOOK), str(packages), variables.get("PYTHONPATH", "")]
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        variables["PATH"] = os.pathsep.join([str(entry.python.parent), variables.get("PATH", os.defpath)])
        if (entry.python.parent.parent / "pyvenv.cfg").is_file():
            variables["VIRTUAL_ENV"] = str(entry.python.parent.parent)
        return variables


class RunningProcess:
    """A workload's main process and, through the mark, everything that it started."""

    def __init__(self, process: subprocess.Popen[bytes], mark: str, scratch: Path) -> None:
        self._process = process
        self._mark = mark
        self._scratch = scratch

    @property
    def pid(self) -> int:
        """Process id of the main process."""
        return self._process.pid

    def wait(self, timeout: float | None = None) -> int | None:
        """Exit code of the main process (128 + signal if a signal ended it), or None if it runs on after `timeout` s.

        When the main process has ended, so does all that it left running, as in a container.
        """
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        self._clean_up()
        return code if code >= 0 else 128 - code

    def stop(self, grace: float = 10) -> None:
        """End all of the workload: SIGTERM, and after `grace` seconds SIGKILL; 0 is SIGKILL at once."""
        if grace > 0:
            self._signal_group(signal.SIGTERM)
        deadline = time.monotonic() + grace
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        self._signal_group(signal.SIGKILL)
        self._process.wait()
        self._clean_up()

    def _signal_group(self, number: signal.Signals) -> None:
        # The group outlives its leader; while the leader is not reaped its number cannot be anybody else's.
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _clean_up(self) -> None:
        if self._scratch.exists():
            _kill(_marked(self._mark))
            shutil.rmtree(self._scratch, ignore_errors=True)


def _marked(mark: str, *, prefix: bool = False) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            value = process.environ().get(MARK, "")
        except psutil.Error:
            continue
        if value == mark or (prefix and value.startswith(mark)):
            found.append(process)
    return [process for process in found if process.pid != os.getpid()]


def _kill(processes: Iterable[psutil.Process]) -> None:
    processes = list(processes)
    for process in processes:
        try:
            process.kill()
        except psutil.Error:
            continue
    psutil.wait_procs(processes, timeout=5)


def _no_command(workload: Workload) -> str:
    if _PREBUILT_SERVING in workload.image:
        return (
            f"Image {workload.image}: Vertex AI's pre-built serving images are not supported; use a custom container "
            "and give its image a `serve` command in localvertex.toml."
        )
    return (
        f"Image {workload.image}: no command is given and no image can be pulled; "
        "name the image in localvertex.toml"
        + (", with a `serve` command." if workload.serve else ", or add a command.")
    )
