"""Why a task was executed or was not: its fingerprint held against those of earlier runs."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from typing import Any

import sqlalchemy as sa
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import PipelineJob
from google.protobuf import json_format

from localvertex import names
from localvertex.engine.cache import Fingerprint, flaw_noticed
from localvertex.engine.journal import Journal, Record
from localvertex.engine.spec import Component, Importer, Pipeline, Task, read
from localvertex.engine.values import State
from localvertex.store import Store, facets, kind_of, resources

_LONGEST = 80


@dataclass(frozen=True)
class Difference:
    """One part of a fingerprint that is not as it was.

    Args:
        part: `image`, `command`, `argument`, `environment`, `parameter`, `artifact`, `interface` or `cache key`.
        name: which variable, parameter, artifact, or place in the command; empty where there is only one.
        before: what it was; None if there was none.
        after: what it is; None if there is none.
        made_by: path of the task that made the artifact; empty for other parts.
    """

    part: str
    name: str
    before: Any
    after: Any
    made_by: str = ""

    @property
    def text(self) -> str:
        """In a sentence."""
        if self.part == "artifact":
            maker = f", made by task {self.made_by}," if self.made_by else ""
            return f"input artifact {self.name}{maker} was {_digests(self.before)}, is {_digests(self.after)}"
        what = {"environment": f"environment variable {self.name}", "cache key": "the cache key"}
        subject = what.get(self.part) or f"{self.part} {self.name}".strip()
        if self.part in ("image", "interface"):
            subject = f"the {subject}"
        before, after = _first_change(self.before, self.after)
        return f"{subject} was {_value(before)}, is {_value(after)}"


@dataclass(frozen=True)
class Explanation:
    """Why a task was executed or was not.

    Args:
        run: id of its run.
        task: its path in the run.
        state: name of its state.
        reason: why, in a sentence.
        compared_with: id of the run it was held against; empty for none.
        differences: what differs from that run, the decisive one first.
    """

    run: str
    task: str
    state: str
    reason: str
    compared_with: str = ""
    differences: Sequence[Difference] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """For the API."""
        differences = [{**asdict(each), "text": each.text} for each in self.differences]
        return {**vars(self), "differences": differences}


class Explainer:
    """Explains tasks of runs whose journal is still there.

    Args:
        store: of the journal and the cache.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._journal = Journal(store)

    def explain(self, run: str, task: str) -> Explanation:
        """Why a task was executed or was not.

        Args:
            run: resource name of a pipeline job.
            task: path of the task; its name will do where it is the only one of that name.

        Raises:
            google.api_core.exceptions.NotFound: there is no such run, or no such task in it.
            google.api_core.exceptions.InvalidArgument: the name is that of several tasks, or of a group of tasks.
        """
        job = self._store.get(PipelineJob, run)
        records = self._journal.of(run)
        record = _find(records, names.id_of(run), task)
        pipeline = read(json_format.MessageToDict(PipelineJob.pb(job).pipeline_spec))
        place = Place.of(pipeline, record.path)
        group = place.component.dag is not None or place.loop
        if group and record.state is not State.NOT_TRIGGERED:
            groups = {each.parent for each in records.values()}
            inside = [path for path in records if path.startswith(f"{record.path}/") and path not in groups]
            raise exceptions.InvalidArgument(
                f"{record.path} is made of other tasks. Ask for one of them: {', '.join(inside) or 'it has none here'}."
            )
        if not record.fingerprint:
            return self._told(record, _without_fingerprint(record, place, pipeline, records))
        if record.state is State.SKIPPED:
            return self._cached(record, pipeline)
        return self._executed(record, place, pipeline)

    def _cached(self, record: Record, pipeline: Pipeline) -> Explanation:
        sources = [
            earlier
            for earlier in self._earlier(record, pipeline)
            if earlier.state is State.SUCCEEDED and earlier.outputs == record.outputs
        ]
        source = f"run {names.id_of(sources[0].job)}" if sources else "an earlier run"
        reason = f"cached: image, command, arguments, environment, interface and inputs are those of {source}"
        return self._told(record, f"{reason}, whose outputs are unchanged", sources[0] if sources else None)

    def _executed(self, record: Record, place: Place, pipeline: Pipeline) -> Explanation:
        if not place.task.cache:
            return self._told(record, "executed because caching was off for it")
        fingerprint: Fingerprint = json.loads(record.fingerprint)
        if flaw := flaw_noticed(self._store, fingerprint, record.created, record.started or time.time()):
            return self._told(record, f"executed because what an earlier run had left is no longer good: {flaw}")
        compared = [
            (differences(json.loads(each.fingerprint), fingerprint), each) for each in self._earlier(record, pipeline)
        ]
        if not compared:
            return self._told(record, "executed because there is no earlier run of this task")
        # Those are the newest first, and of equals min() takes the first.
        found, nearest = min(compared, key=lambda each: len(each[0]))
        found = [_with_maker(each, record.path, pipeline) for each in found]
        where = f"run {names.id_of(nearest.job)}"
        if found:
            return self._told(record, f"executed because, compared with {where}, {found[0].text}", nearest, found)
        return self._told(record, f"executed because {_why_not_kept(nearest, record, where)}", nearest)

    def _earlier(self, record: Record, pipeline: Pipeline) -> list[Record]:
        """What the journal knows of the task in earlier runs of the pipeline, the newest first."""
        pattern = _any_iteration(record.path)
        alike = [
            each
            for each in self._journal.alike(pattern)
            if _any_iteration(each.path) == pattern
            and each.job != record.job
            and each.created < record.created
            and each.fingerprint
        ]
        runs = self._runs_of(pipeline.name, {each.job for each in alike})
        return [each for each in alike if each.job in runs]

    def _runs_of(self, pipeline: str, jobs: Collection[str]) -> set[str]:
        """Which of these are runs of the pipeline, without reading them: they are large, and one may be damaged."""
        query = (
            sa.select(resources.c.name)
            .join(facets, facets.c.resource == resources.c.id)
            .where(resources.c.kind == kind_of(PipelineJob), resources.c.name.in_(jobs))
            .where(facets.c.path == "pipeline_name", facets.c.text == pipeline)
        )
        with self._store.read() as connection:
            return set(connection.execute(query).scalars())

    def _told(
        self, record: Record, reason: str, compared: Record | None = None, found: Sequence[Difference] = ()
    ) -> Explanation:
        run = names.id_of(record.job)
        other = names.id_of(compared.job) if compared else ""
        return Explanation(run, record.path, record.state.name, reason, other, found)


def differences(before: Fingerprint, after: Fingerprint) -> list[Difference]:
    """What differs between two fingerprints of a task, the decisive part first."""
    if "cache_key" in before or "cache_key" in after:
        keys = before.get("cache_key"), after.get("cache_key")
        found = [Difference("cache key", "", *keys)] if keys[0] != keys[1] else []
        return [*found, *_interface(before, after)]
    found = [Difference("image", "", before["image"], after["image"])] if before["image"] != after["image"] else []
    return [
        *found,
        *_words("command", before["command"], after["command"]),
        *_words("argument", before["arguments"], after["arguments"]),
        *_entries("environment", before["environment"], after["environment"]),
        *_entries("parameter", before["parameters"], after["parameters"]),
        *_entries("artifact", before["artifacts"], after["artifacts"]),
        *_interface(before, after),
    ]


def _words(part: str, before: Sequence[str], after: Sequence[str]) -> Iterator[Difference]:
    for index in range(max(len(before), len(after))):
        was, now = (words[index] if index < len(words) else None for words in (before, after))
        if was != now:
            yield Difference(part, str(index + 1), was, now)


def _entries(part: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield Difference(part, name, before.get(name), after.get(name))


def _interface(before: Fingerprint, after: Fingerprint) -> Iterator[Difference]:
    was, now = dict(_leaves(before["component"])), dict(_leaves(after["component"]))
    yield from _entries("interface", was, now)


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, each in value.items():
            yield from _leaves(each, f"{place}.{key}" if place else str(key))
    else:
        yield place, value


@dataclass(frozen=True)
class Place:
    """Where a path leads in a pipeline's text."""

    task: Task
    component: Component
    siblings: Mapping[str, Task]
    loop: bool
    """The path ends at a loop, not at one of its iterations."""

    @classmethod
    def of(cls, pipeline: Pipeline, path: str) -> Place:
        """The place of a task's path in a run; an iteration of a loop stands where the loop does."""
        component = pipeline.root
        segments = iter(path.split("/"))
        for name in segments:
            assert component.dag is not None
            siblings = component.dag.tasks
            task = siblings[name]
            component = pipeline.components[task.component]
            loop = task.iterator is not None and next(segments, None) is None
        return cls(task, component, siblings, loop)


def _find(records: Mapping[str, Record], run: str, task: str) -> Record:
    wanted = task.strip("/")
    if wanted in records and wanted:
        return records[wanted]
    # Log files have dots where paths have slashes.
    found = [
        each for path, each in records.items() if path and wanted in (path.rpartition("/")[2], path.replace("/", "."))
    ]
    if len(found) > 1:
        raise exceptions.InvalidArgument(
            f"{run} has several tasks '{task}'. Ask for one of them: {', '.join(each.path for each in found)}."
        )
    if not found:
        known = ", ".join(path for path in records if path) or "none yet"
        raise exceptions.NotFound(f"{run} has no task '{task}'. It has: {known}.")
    return found[0]


def _without_fingerprint(record: Record, place: Place, pipeline: Pipeline, records: Mapping[str, Record]) -> str:
    if record.state is State.NOT_TRIGGERED:
        prefix = f"{record.path.rpartition('/')[0]}/".lstrip("/")
        failed = [name for name in sorted(place.task.upstream) if not records[prefix + name].state.success]
        if failed:
            return f"not triggered because upstream task {failed[0]} is {records[prefix + failed[0]].state.name}"
        if place.task.condition:
            return f"not triggered because its condition is false: {_short(place.task.condition)}"
        return "not triggered because another task had failed"
    if isinstance(pipeline.executors.get(place.component.executor), Importer) and record.state.success:
        if record.state is State.SKIPPED:
            return "cached: the metadata store holds an artifact with the URI, type and metadata that it imports"
        return "executed because it imports anew, or there was no artifact with its URI, type and metadata yet"
    if record.state is State.PENDING:
        return "it has not started yet"
    return f"it is {record.state.name} and never came to be executed{': ' + record.error if record.error else ''}"


def _why_not_kept(earlier: Record, record: Record, where: str) -> str:
    """Nothing differs, and yet the earlier outputs were not used."""
    if not earlier.state.final:
        return f"{where}, with the same of everything, has not ended"
    if not earlier.state.success:
        return f"{where}, with the same of everything, is {earlier.state.name}: only outputs of successes are kept"
    if earlier.ended > record.created:
        return f"{where}, with the same of everything, had not ended when this one started"
    return f"{where}, with the same of everything, had caching off, and left nothing in the cache"


def _with_maker(difference: Difference, path: str, pipeline: Pipeline) -> Difference:
    if difference.part != "artifact":
        return difference
    return Difference(**{**vars(difference), "made_by": _maker(path, difference.name, pipeline)})


def _maker(path: str, artifact: str, pipeline: Pipeline) -> str:
    """Path of the task that makes an input artifact; empty if none does."""
    while path:
        task = Place.of(pipeline, path).task
        parent, _, last = path.rpartition("/")
        if last.isdigit():
            parent = parent.rpartition("/")[0]
            artifact = task.iterator.source if task.iterator and task.iterator.item == artifact else artifact
        source = task.artifacts.get(artifact)
        if source is None:
            return ""
        if source.kind == "task":
            return f"{parent}/{source.task}".lstrip("/")
        path, artifact = parent, source.key
    return ""


def _any_iteration(path: str) -> str:
    """An SQL LIKE pattern: iterations of a loop are alike."""
    return re.sub(r"(?<=/)\d+(?=/|$)", "%", path)


def _first_change(before: Any, after: Any) -> tuple[Any, Any]:
    """Of two texts, such as programs, the first lines that differ; other values as they are."""
    if not (isinstance(before, str) and isinstance(after, str)):
        return before, after
    lines = zip_longest(before.split("\n"), after.split("\n"))
    return next(((was, now) for was, now in lines if was != now), (before, after))


def _value(value: Any) -> str:
    if value is None:
        return "not there"
    return _short(json.dumps(value, ensure_ascii=False, default=str))


def _digests(value: Sequence[str] | None) -> str:
    return " ".join(digest[:12] for digest in value[:3]) if value else "not there"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
