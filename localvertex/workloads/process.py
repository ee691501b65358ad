"""Runs workloads as processes of this host, each marked through its environment so that none can get lost."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import psutil

from localvertex.workloads import Workload, WorkloadError
from localvertex.workloads.table import Entry, ImageTable

MARK = "LOCALVERTEX_WORKLOAD"
_HOOK = Path(__file__).parent / "hook"
# What of the redirect keeps pip from package indexes, which the proxy refuses.
PROXIES = ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy")
CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_FLAGS, _OF_THE_KERNEL = 5, 0x0020_0000
_PREBUILT_SERVING = re.compile(r"(.+-docker\.pkg\.dev/vertex-ai(-restricted)?|gcr\.io/cloud-aiplatform)/prediction/.+")


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

    def path(self, path: Path, image: str) -> str:
        """The same path: its processes are this host's."""
        return str(path)

    def sweep(self) -> int:
        """End the processes that an earlier server, now dead, left behind; returns how many there were."""
        killed = _kill_marked(f"{self._home}:", prefix=True)
        shutil.rmtree(self._home / "tmp", ignore_errors=True)
        return killed

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
            "LOCALVERTEX_OUTSIDE": json.dumps({name: os.environ.get(name) for name in (*PROXIES, *CERTIFICATES)}),
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
            _kill_marked(self._mark)
            shutil.rmtree(self._scratch, ignore_errors=True)


def _marked(mark: str, *, prefix: bool = False) -> list[psutil.Process]:
    wanted = f"\0{MARK}={mark}".encode() + (b"" if prefix else b"\0")
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, OSError):
            if pid != os.getpid() and wanted in _environment(pid):
                found.append(psutil.Process(pid))
    return found


def _environment(pid: int) -> bytes:
    """A process's variables, each after a NUL byte and the last before one."""
    if psutil.LINUX:
        # Read as it is: each task that ends looks at every process, and psutil takes four times as long.
        while not (variables := Path(f"/proc/{pid}/environ").read_bytes()) and _is_starting(pid):
            time.sleep(0.001)
        return b"\0" + variables
    named = psutil.Process(pid).environ()
    return b"\0" + b"".join(f"{name}={value}\0".encode() for name, value in named.items())


def _is_starting(pid: int) -> bool:
    """Whether a process without variables is about to have them: while a program is loaded it has none.

    Source: proc_pid_stat(5); zombies and threads of the kernel never have any.
    """
    state, *numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return state not in "ZX" and not int(numbers[_FLAGS]) & _OF_THE_KERNEL


def _kill_marked(mark: str, *, prefix: bool = False) -> int:
    """End all processes with a mark, also those started meanwhile; returns how many there were."""
    killed = 0
    while processes := _marked(mark, prefix=prefix):
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.kill()
        ended, _ = psutil.wait_procs(processes, timeout=5)
        killed += len(ended)
        if not ended:  # They hang in the kernel; it ends them when it can.
            break
    return killed


def _no_command(workload: Workload) -> str:
    if _PREBUILT_SERVING.fullmatch(workload.image):
        return (
            f"Image {workload.image}: of Vertex AI's pre-built serving images localvertex stands in for those of "
            "TensorFlow and scikit-learn. Give this one a `serve` command in localvertex.toml, or use your own image."
        )
    return (
        f"Image {workload.image}: no command is given and no image can be pulled; "
        "name the image in localvertex.toml"
        + (", with a `serve` command." if workload.serve else ", or add a command.")
    )
