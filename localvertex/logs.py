"""What tasks and jobs print, read from their log files while they are written."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from localvertex.home import Home

_POLL_SECONDS = 0.3
_LOOK_AROUND_SECONDS = 1.0
_OF_ATTEMPT = re.compile(r"_\d+(_\d+)?$")
"""The end of the name of an attempt's folder: the task's id, and the number of a retry."""


@dataclass(frozen=True)
class Line:
    """One line: the task it belongs to, what printed it (the task or a job it launched), and the text."""

    task: str
    source: str
    text: str


class RunInspector(Protocol):
    """Knows of runs what log files do not say."""

    def artifacts_folder(self, run: str) -> Path | None:
        """Where the tasks of a run write their outputs, one folder each, or None."""

    def has_ended(self, run: str) -> bool:
        """Whether nothing more will be printed."""


@dataclass(frozen=True)
class _Source:
    task: str
    name: str
    path: Path


class LogReader:
    """The log files of a run or of a job, as they appear and grow.

    Args:
        home: its `logs` folder holds `<run or job id>/<task>.log`.
        resource: the id of a run or of a job.
        inspector: asked where jobs were launched and when the run has ended; None when no server is running.
    """

    def __init__(self, home: Home, resource: str, inspector: RunInspector | None = None) -> None:
        self._logs = home.logs
        self._resource = resource
        self._inspector = inspector
        self._artifacts = inspector.artifacts_folder(resource) if inspector else None

    def tasks(self) -> list[str]:
        """Names of the tasks that have printed anything."""
        return sorted({source.task for source in self._sources()})

    def read(self, task: str | None = None, tail: int | None = None, last: int | None = None) -> Iterator[Line]:
        """What has been printed, task by task.

        Args:
            task: only this one.
            tail: only the last so many lines of each file.
            last: look only at so many bytes at the end of each file.
        """
        for source in self._sources(task):
            lines, _ = _lines(source.path, _start(source.path, last), ended=True)
            for text in _last(lines, tail):
                yield Line(source.task, source.name, text)

    def attempt(
        self, task: str, begin: int, end: int | None, folder: Path, tail: int | None = None, last: int | None = None
    ) -> Iterator[Line]:
        """What one attempt at a task has printed, and then what the jobs have that it launched.

        Args:
            task: the name of its log file.
            begin: where in that file the attempt begins, in bytes.
            end: where the next one does; None for the last.
            folder: where the attempt writes its outputs.
            tail, last: as in `read`.
        """
        own = self._logs / self._resource / f"{task}.log"
        lines, _ = _lines(own, max(begin, _start(own, last, end)), ended=True, end=end)
        for text in _last(lines, tail):
            yield Line(task, task, text)
        for source in self._job_logs(folder / "gcp_resources"):
            lines, _ = _lines(source.path, _start(source.path, last), ended=True)
            for text in _last(lines, tail):
                yield Line(task, source.name, text)

    def follow(self, task: str | None = None, tail: int | None = None) -> Iterator[Line]:
        """What has been printed, then what is printed, until the run has ended."""
        offsets: dict[Path, int] = {}
        sources: list[_Source] = []
        ended, looked = False, 0.0
        while not ended:
            if time.monotonic() - looked > _LOOK_AROUND_SECONDS:
                ended = self._inspector is None or self._inspector.has_ended(self._resource)
                sources, looked = self._sources(task), time.monotonic()
            for source in sources:
                first = source.path not in offsets and tail is not None
                lines, end = _lines(source.path, offsets.get(source.path, 0), ended=ended)
                offsets[source.path] = end
                for text in _last(lines, tail) if first else lines:
                    yield Line(source.task, source.name, text)
            if not ended:
                time.sleep(_POLL_SECONDS)

    def _sources(self, task: str | None = None) -> list[_Source]:
        own = [_Source(path.stem, path.stem, path) for path in sorted((self._logs / self._resource).glob("*.log"))]
        launched = [source for folder in self._launches() for source in self._job_logs(folder)]
        found = sorted(own + launched, key=lambda source: (source.task, source.name))
        return [source for source in found if task in (None, source.task)]

    def _launches(self) -> list[Path]:
        return sorted(self._artifacts.glob("*/gcp_resources")) if self._artifacts else []

    def _job_logs(self, launch: Path) -> list[_Source]:
        """Logs of the jobs that a task launched, as its `gcp_resources` output names them.

        The file is a google_cloud_pipeline_components.proto.GcpResources in JSON.
        """
        try:
            launched = json.loads(launch.read_text()).get("resources", [])
        except (OSError, ValueError):
            return []
        task = _OF_ATTEMPT.sub("", launch.parent.name)
        jobs = [resource.get("resourceUri", "").rpartition("/")[2] for resource in launched]
        return [
            _Source(task, f"{task}/{path.stem}", path)
            for job in jobs
            if job
            for path in sorted((self._logs / job).rglob("*.log"))
        ]


def _lines(path: Path, start: int, *, ended: bool, end: int | None = None) -> tuple[list[str], int]:
    """Lines from byte `start` to `end`, and where to go on; an unfinished line counts when nothing will follow."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            content = file.read() if end is None else file.read(max(0, end - start))
    except FileNotFoundError:
        return [], start
    whole = len(content) if ended else content.rfind(b"\n") + 1
    text = content[:whole].decode(errors="replace")
    # A progress bar rewrites its line: a terminal shows what stands after the last carriage return.
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    return lines[:-1] if not lines[-1] else lines, start + whole


def _start(path: Path, last: int | None, end: int | None = None) -> int:
    """Where the last bytes of a file, or of what is before `end`, begin: with a line."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END) if end is None else end
        if last is not None and size > last:
            file.seek(size - last)
            file.readline(last)
            return file.tell()
    return 0


def _last(lines: list[str], count: int | None) -> list[str]:
    return lines if count is None else lines[max(0, len(lines) - count) :]
