"""Where pipelines can run, as a table: settings, and the commands that a target needs."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from pipelines import UserError

MISTAKE = "error: "
"""What begins the last message of a stage, or of a command, that finds what it was given at fault."""

NO_NEWS = re.compile(rf"is in a non-final state|^[IWE]\d{{4}} |absl::InitializeLog|^({MISTAKE}|\s|$)")
"""Log lines not worth showing: a launcher that looks at its job once more, TensorFlow's remarks on the processor, and
the mistake with which a stage ends, which is told at the end of the run."""

DEFAULT = "local"
LOCALVERTEX = (sys.executable, "-m", "localvertex")


class ServiceError(Exception):
    """The service refused or failed a call, or a command of the target failed."""


@dataclasses.dataclass(frozen=True)
class Target:
    """A place to run pipelines.

    Attributes:
        name: as on the command line.
        settings: file in `pipelines/settings`, without `.yaml`.
        start: command that brings the service up if it is not; empty: it is always there.
        environment: command that prints a JSON object of environment variables for the Google libraries.
        logs: command that prints a task's log when followed by a run and a task; with `--json`, each line as
            a JSON object with its `text`. Empty: the console shows it.
        page: command that prints, with `--json`, the `url` of a run's page when followed by the run. Empty: the
            console shows it.
        stop: what a person types to stop the service; empty: nothing to stop.
        pulls: whether the service takes images from the registry, which must then have them.
    """

    name: str
    settings: str
    start: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()
    page: tuple[str, ...] = ()
    stop: str = ""
    pulls: bool = False

    def flags(self, pipeline: str = "") -> str:
        """What a person types behind `make <goal>` to mean this target and a pipeline, or all."""
        named = (("PIPELINE", pipeline), ("TARGET", "" if self.name == DEFAULT else self.name))
        return " ".join(f"{name}={value}" for name, value in named if value)


TARGETS = {
    target.name: target
    for target in (
        Target(
            name=DEFAULT,
            settings="local",
            start=(*LOCALVERTEX, "start"),
            environment=(*LOCALVERTEX, "env", "--json"),
            logs=(*LOCALVERTEX, "logs"),
            page=(*LOCALVERTEX, "console", "--no-browser", "--json"),
            stop="make stop",
        ),
        Target(name="vertex", settings="production", pulls=True),
    )
}


def prepare(target: Target, quiet: bool = False) -> None:
    """Brings the target's service up and sets the environment for it, before any Google library is imported.

    Args:
        target: where to run.
        quiet: whether to leave out that the service is up and how to stop it.

    Raises:
        UserError: the service does not start; the message is the service's own.
    """
    said = _output(target.start).splitlines()[0] if target.start else ""
    if said and not quiet:
        print(f"{said}; to stop it: {target.stop}", flush=True)
    if target.environment:
        os.environ.update(json.loads(_output(target.environment)))


@contextlib.contextmanager
def following(target: Target, run: str, hear: Callable[[str, str], None]) -> Iterator[None]:
    """Passes on what the tasks of a run print, while the block runs.

    Args:
        target: where the run is.
        run: the run's id.
        hear: takes a task's name in the pipeline and a line, in another thread.
    """
    if not target.logs:
        yield
        return
    command = [*target.logs, run, "--follow", "--tail", "1", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace"
    ) as process:
        reader = threading.Thread(target=_hear, args=(process, hear), daemon=True)
        reader.start()
        try:
            yield
        finally:
            process.terminate()
            reader.join()


def _hear(process: subprocess.Popen[str], hear: Callable[[str, str], None]) -> None:
    for line in process.stdout or ():
        said = json.loads(line)
        if not NO_NEWS.search(said["text"]):
            hear(said["task"], said["text"].strip())


def page(target: Target, run: str) -> str:
    """The address of a run's page, for a browser; empty where the target has no command to ask for it.

    Args:
        target: where the run is.
        run: the run's id.
    """
    return str(json.loads(_output((*target.page, run)))["url"]) if target.page else ""


def log_lines(target: Target, run: str, task: str, count: int) -> list[str]:
    """The last lines that a task printed; none where the target has no command to ask for them.

    Args:
        target: where the run is.
        run: the run's id.
        task: the task's name in the pipeline.
        count: how many lines at most.
    """
    if not target.logs:
        return []
    command = [*target.logs, run, task, "--tail", str(count), "--json"]
    found = subprocess.run(command, capture_output=True, text=True, errors="replace")
    lines = [str(json.loads(line)["text"]).rstrip() for line in found.stdout.splitlines()]
    return [line for line in lines if line][-count:]


def log_hint(target: Target, run: str, task: str, console: str) -> str:
    """How a person sees a task's whole log."""
    if not target.logs:
        return console
    return shlex.join([os.path.relpath(target.logs[0]), *target.logs[1:], run, task])


def _output(command: tuple[str, ...]) -> str:
    done: subprocess.CompletedProcess[Any] = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        reason = lines[-1].removeprefix(MISTAKE) if lines else f"exit code {done.returncode}"
        raise UserError(f"{' '.join(command[1:])}: {reason}")
    return str(done.stdout)
