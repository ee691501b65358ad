"""The server in the background: started once per state folder, found again, stopped.

A running server holds a lock on a file of the state folder; the kernel drops it however the server ends, so
that whether it runs is never a matter of process numbers. What it says of itself stands in `server.json`.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from localvertex.home import Home
from localvertex.redirect import without_redirect
from localvertex.workloads import runners

_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
# Somebody who only looks whether a server runs holds the lock for an instant.
_GLANCE_SECONDS = 2.0
_POLL = 0.02


class DaemonError(Exception):
    """A server that cannot be started, stopped or found; the message says what to do."""


@dataclass(frozen=True)
class Running:
    """A server that is ready for calls.

    Args:
        pid: its process.
        port: its proxy's, on 127.0.0.1.
        started: seconds since 1970.
        images: the file of its image table; empty for none.
        runner: what it runs containers with, of localvertex.workloads.runners.
    """

    pid: int
    port: int
    started: float
    images: str = ""
    runner: str = runners.DEFAULT


def find(home: Home) -> Running | None:
    """The server of a state folder if it is running and ready."""
    if not _is_locked(_lock_file(home)):
        return None
    try:
        return Running(**json.loads(_description(home).read_text()))
    except (FileNotFoundError, ValueError):
        return None


def last_port(home: Home) -> int | None:
    """The port the server of a state folder has, or had when it last ran."""
    try:
        return int(_port_file(home).read_text())
    except (FileNotFoundError, ValueError):
        return None


def start(home: Home, environment: Mapping[str, str] = os.environ) -> tuple[Running, bool]:
    """Make sure that the server runs.

    One that runs containers with another runner than the environment asks for is started anew; what is under way goes
    on in it.

    Args:
        environment: the server's; LOCALVERTEX_PORT asks for a port, LOCALVERTEX_RUNNER for a runner.

    Returns:
        The server, and whether it was started just now.

    Raises:
        DaemonError: it cannot be started.
    """
    home.create()
    with _exclusive(_start_lock(home)):
        if running := find(home):
            if environment.get(runners.VARIABLE, running.runner) == running.runner:
                return running, False
            _end(home)
        return _launch(home, environment), True


def stop(home: Home) -> Running | None:
    """End the server; returns what was ended, or None when none was running.

    Raises:
        DaemonError: it does not end.
    """
    if not home.path.is_dir():
        return None
    with _exclusive(_start_lock(home)):
        return _end(home)


def reset(home: Home) -> None:
    """End the server and everything it started, and delete the state folder.

    Raises:
        DaemonError: the folder is not a state folder, or holds something else too; nothing is deleted then.
    """
    from localvertex import database
    from localvertex.workloads import WorkloadError

    check_resettable(home)
    with _exclusive(_start_lock(home)):
        _end(home)
        check_resettable(home)
        try:
            # What a killed server left running would write on, and nobody could find it any more.
            runners.sweep(home)
        except WorkloadError as error:
            raise DaemonError(f"{error}; nothing was deleted") from error
        try:
            database.erase(home.store_url)
        except database.DatabaseError as error:
            raise DaemonError(f"{error}; nothing was deleted") from error
        shutil.rmtree(home.path)


def check_resettable(home: Home) -> None:
    """Make sure that deleting the folder deletes nothing but localvertex's state.

    Raises:
        DaemonError: it is not a state folder, or holds something else too.
    """
    if home.path.is_symlink() or not (home.keys / "service-account.json").is_file():
        raise DaemonError(f"{home.path} is not a state folder of localvertex: nothing was deleted")
    if foreign := home.foreign():
        raise DaemonError(
            f"{home.path} holds what localvertex did not put there ({', '.join(foreign[:5])}): "
            "move it elsewhere first; nothing was deleted"
        )


def _end(home: Home) -> Running | None:
    running = find(home)
    if running is None:
        return None
    for number, patience in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, 5.0)):
        try:
            os.kill(running.pid, number)
        except ProcessLookupError:
            return running
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if not _is_locked(_lock_file(home)):
                return running
            time.sleep(_POLL)
    raise DaemonError(f"the server (process {running.pid}) does not end")


def take(home: Home) -> int:
    """Become the one server of a state folder, until this process ends.

    Returns:
        What `is_taken` asks for.

    Raises:
        DaemonError: there is one already.
    """
    file = os.open(_lock_file(home), os.O_CREAT | os.O_RDWR, 0o600)
    deadline = time.monotonic() + _GLANCE_SECONDS
    while not _try_lock(file, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            os.close(file)
            raise DaemonError(f"a server of {home.path} is already running")
        time.sleep(_POLL)
    # Not closed: the kernel lets go of the lock when the process is gone, and not before.
    _description(home).unlink(missing_ok=True)
    return file


def is_taken(home: Home, taken: int) -> bool:
    """Whether this process is still the server of a state folder: not if somebody deleted the folder."""
    try:
        return os.path.samestat(os.fstat(taken), _lock_file(home).stat())
    except FileNotFoundError:
        return False


def listen(home: Home, port: int) -> socket.socket:
    """Take the port that clients will use, 0 for any free one, and remember it.

    Raises:
        DaemonError: another program has it.
    """
    # asyncio turns Nagle's delay off only where it is told that the socket speaks TCP.
    taken = socket.socket(proto=socket.IPPROTO_TCP)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind(("127.0.0.1", port))
    except OSError as error:
        taken.close()
        raise DaemonError(
            f"port {port} cannot be used ({error.strerror}): another program has it. "
            f"Choose one with LOCALVERTEX_PORT, or delete {_port_file(home)} for any free one"
        ) from error
    taken.listen(256)
    _write(_port_file(home), str(taken.getsockname()[1]))
    return taken


def announce(home: Home, port: int, images: Path | None = None, runner: str = runners.DEFAULT) -> None:
    """Say that this process serves and is ready.

    Args:
        images: the file of its image table.
        runner: what it runs containers with.
    """
    running = Running(os.getpid(), port, time.time(), str(images or ""), runner)
    _write(_description(home), json.dumps(asdict(running)))


def _launch(home: Home, environment: Mapping[str, str]) -> Running:
    port = _wanted_port(home, environment)
    home.server_log.parent.mkdir(parents=True, exist_ok=True)
    with home.server_log.open("ab") as log:
        before = log.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "localvertex", "serve", f"--home={home.path}", f"--port={port}"],
            env=without_redirect(home, environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if running := find(home):
            return running
        if process.poll() is not None:
            raise DaemonError(_reason(home.server_log, before))
        time.sleep(_POLL)
    process.kill()
    raise DaemonError(f"the server was not ready within {_START_SECONDS:.0f} s: see {home.server_log}")


def _wanted_port(home: Home, environment: Mapping[str, str]) -> int:
    wanted = environment.get("LOCALVERTEX_PORT", "")
    if not wanted:
        return last_port(home) or 0
    if not wanted.isdigit() or not 0 < int(wanted) < 65536:
        raise DaemonError(f"LOCALVERTEX_PORT={wanted} is not a port: give a number from 1 to 65535")
    return int(wanted)


def _reason(log: Path, offset: int) -> str:
    """Why a server that has ended did so: the last thing it printed."""
    with log.open("rb") as file:
        file.seek(offset)
        lines = file.read().decode(errors="replace").strip().splitlines()
    last = lines[-1] if lines else "it said nothing"
    return last.removeprefix("error: ") if last.startswith("error: ") else f"the server ended: {last} (see {log})"


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """One command at a time starts, ends or deletes."""
    while True:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            file = path.open("a")
        except FileNotFoundError:
            continue  # deleted since
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever waited here while the folder was deleted holds the lock of a file that is no more.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield
                return


def _is_locked(path: Path) -> bool:
    try:
        with path.open() as file:
            return not _try_lock(file.fileno(), fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def _try_lock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(path: Path, text: str) -> None:
    # One name for all: what a kill leaves of it goes with the next write. Only the one server of a folder writes.
    aside = path.with_name(f"{path.name}.new")
    aside.write_text(text)
    os.replace(aside, path)


def _start_lock(home: Home) -> Path:
    return home.path / "start.lock"


def _lock_file(home: Home) -> Path:
    return home.path / "server.lock"


def _description(home: Home) -> Path:
    return home.path / "server.json"


def _port_file(home: Home) -> Path:
    return home.path / "port"
