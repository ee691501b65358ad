"""A run as a tree of tasks: what its pipeline's text says is to come, and what the journal says has been."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from google.cloud.aiplatform_v1.types import PipelineJob
from google.protobuf import json_format

from localvertex.console.layout import Box
from localvertex.engine.journal import Record
from localvertex.engine.spec import Component, Importer, Pipeline, Task, read
from localvertex.engine.values import State

MOST_BOXES = 60
"""So many boxes are unfolded when a run is opened; people unfold others as they look at them."""


@dataclass
class Item:
    """A task, an iteration of a loop, or a group of tasks.

    Args:
        path: its place in the run, as in the journal.
        label: what it is called.
        kind: `task`, `importer`, `group`, `loop`, `iteration` or `condition`.
        record: what the journal knows; None before the run has come to it.
        upstream: paths of the items beside it that come before it.
        children: what a group, a loop or an iteration is made of; empty for a task.
        ended: what it is part of has, so that it will not be begun any more.
    """

    path: str
    label: str
    kind: str
    record: Record | None
    upstream: Sequence[str]
    ended: bool = False
    children: list[Item] = field(default_factory=list)

    @property
    def leaf(self) -> bool:
        """Whether it is executed, rather than made of other items."""
        return self.kind in ("task", "importer")

    @property
    def state(self) -> str:
        """Name of its state, as in the API."""
        if self.record is None:
            return "NOT_TRIGGERED" if self.ended else "PENDING"
        return self.record.state.name

    @property
    def started(self) -> float:
        """Seconds since 1970; 0 for not yet."""
        return self.record.started if self.record else 0.0

    @property
    def end(self) -> float:
        """Seconds since 1970; 0 for not yet."""
        return self.record.ended if self.record else 0.0

    def walk(self) -> Iterator[Item]:
        """It and all that is in it."""
        yield self
        for child in self.children:
            yield from child.walk()

    @property
    def leaves(self) -> list[Item]:
        """The tasks in it that are executed."""
        return [item for item in self.walk() if item.leaf]

    @property
    def done(self) -> str:
        """How far a group has come."""
        inside = self.children
        ended = sum(child.record is not None and child.record.state.final for child in inside)
        what = "iteration" if self.kind == "loop" else "task"
        return f"{ended} of {len(inside)} {what}{'' if len(inside) == 1 else 's'}"


class Texts:
    """The pipelines of runs, each read once."""

    def __init__(self, most: int = 64) -> None:
        self._most = most
        self._read: dict[tuple[str, int], Pipeline] = {}

    def of(self, job: PipelineJob) -> Pipeline:
        """The pipeline of a run."""
        wire = PipelineJob.pb(job)
        key = (str(wire.name), wire.create_time.ToNanoseconds())
        found = self._read.get(key)
        if found is None:
            found = read(json_format.MessageToDict(wire.pipeline_spec))
            while len(self._read) >= self._most:
                self._read.pop(next(iter(self._read)), None)
            self._read[key] = found
        return found


def outline(pipeline: Pipeline, records: Mapping[str, Record], *, ended: bool) -> Item:
    """The tree of a run.

    Args:
        pipeline: its text.
        records: its tasks by path.
        ended: whether the run has.
    """
    iterations: dict[str, list[str]] = {}
    for path, record in records.items():
        if record.parent:
            iterations.setdefault(record.parent, []).append(path)

    def group(item: Item, component: Component) -> Item:
        assert component.dag is not None
        prefix = f"{item.path}/" if item.path else ""
        for name, task in component.dag.tasks.items():
            inner = pipeline.components[task.component]
            path = prefix + name
            kind = _kind(task, inner, pipeline)
            before = [prefix + other for other in sorted(task.upstream)]
            made = Item(path, task.display_name or name, kind, records.get(path), before, _over(item))
            if kind == "loop":
                loop(made, inner)
            elif inner.dag is not None:
                group(made, inner)
            item.children.append(made)
        return item

    def loop(item: Item, component: Component) -> None:
        for path in sorted(iterations.get(item.path, ()), key=lambda each: int(each.rpartition("/")[2])):
            kind = "iteration" if component.dag is not None else "task"
            made = Item(path, f"iteration {path.rpartition('/')[2]}", kind, records[path], (), _over(item))
            if component.dag is not None:
                group(made, component)
            item.children.append(made)

    return group(Item("", pipeline.name, "group", records.get(""), (), ended), pipeline.root)


def _over(group: Item) -> bool:
    return group.ended or (group.record is not None and group.record.state.final)


def _kind(task: Task, component: Component, pipeline: Pipeline) -> str:
    if task.iterator is not None:
        return "loop"
    if component.dag is not None:
        return "condition" if task.condition else "group"
    return "importer" if isinstance(pipeline.executors.get(component.executor), Importer) else "task"


def unfolded(root: Item, fold: Collection[str], unfold: Collection[str]) -> set[str]:
    """Paths of the groups that are drawn with what is in them.

    Args:
        fold: paths of those that are not to be.
        unfold: paths of those that are to be, however many there are.
    """
    found: set[str] = set()
    room = MOST_BOXES - len(root.children)
    waiting = [child for child in root.children if not child.leaf]
    while waiting:
        item = waiting.pop(0)
        by_itself = len(item.children) <= room
        if item.path in fold or not (by_itself or item.path in unfold):
            continue
        room -= len(item.children) if item.path not in unfold else 0
        found.add(item.path)
        waiting += [child for child in item.children if not child.leaf]
    return found


def drawn(root: Item, open: Collection[str]) -> tuple[dict[str, Item], tuple[Box, ...], tuple[tuple[str, str], ...]]:
    """What is drawn of a run: its items by path, their boxes, and the edges."""
    items: dict[str, Item] = {}
    boxes: list[Box] = []
    edges: list[tuple[str, str]] = []

    def add(within: Item) -> None:
        for item in within.children:
            items[item.path] = item
            boxes.append(Box(item.path, within.path, item.path in open))
            edges.extend((before, item.path) for before in item.upstream)
            if item.path in open:
                add(item)

    add(root)
    return items, tuple(boxes), tuple(edges)


def critical_path(root: Item) -> set[str]:
    """Paths of the items that the run's end waited for: from the last one back, each time to the last one before it."""
    found: set[str] = set()
    waiting = [root]
    while waiting:
        group = waiting.pop()
        beside = {child.path: child for child in group.children if child.started}
        item = max(beside.values(), key=_end, default=None)
        while item is not None:
            found.add(item.path)
            waiting.append(item)
            before = [beside[path] for path in item.upstream if path in beside]
            item = max(before, key=_end, default=None)
    return found


def _end(item: Item) -> float:
    running = item.record is not None and item.record.state in (State.RUNNING, State.PENDING)
    return float("inf") if running else item.end
