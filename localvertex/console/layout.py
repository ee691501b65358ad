"""Where the boxes and lines of a directed acyclic graph are drawn: in rows, each box below those that lead to it.

Rows, order and places are Sugiyama's (K. Sugiyama et al., Methods for Visual Understanding of Hierarchical System
Structures, 1981), as the library `fast-sugiyama` finds them for boxes of one size. Here, rows and columns are stretched
to make room for larger boxes: boxes may hold graphs of their own.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

WIDTH, HEIGHT = 208.0, 46.0
"""The size of a box that holds nothing, in pixels; so are all lengths."""

HEADER = 34.0
"""Above what a box holds, for its name."""

_BETWEEN = 22.0
_DUMMY = 0.2
_GAP = 34.0
_PADDING = 14.0


@dataclass(frozen=True)
class Box:
    """What is to be drawn.

    Args:
        id: by which edges name it.
        within: id of the box that holds it; empty at the top. Edges join boxes that the same one holds.
        open: it holds others, or would if there were any.
    """

    id: str
    within: str = ""
    open: bool = False


@dataclass(frozen=True)
class Area:
    """Where a box is: its upper left corner and its size."""

    x: float
    y: float
    width: float = WIDTH
    height: float = HEIGHT


@dataclass(frozen=True)
class Line:
    """An edge: straight down through each row, and from column to column only between rows, where there are no boxes.

    Args:
        source: id of the box where it begins.
        target: id of the box where it ends.
        falls: x, top and bottom of each vertical piece, from the source to the target.
    """

    source: str
    target: str
    falls: tuple[tuple[float, float, float], ...]

    @property
    def path(self) -> str:
        """Along which it goes, as an SVG says it."""
        x, top, bottom = self.falls[0]
        steps = [f"M{x:.0f} {top:.0f}V{bottom:.0f}"]
        for to, begin, end in self.falls[1:]:
            middle = (bottom + begin) / 2
            steps.append(f"C{x:.0f} {middle:.0f} {to:.0f} {middle:.0f} {to:.0f} {begin:.0f}V{end:.0f}")
            x, bottom = to, end
        return "".join(steps)


@dataclass(frozen=True)
class Layout:
    """A drawing; everything lies between the origin and its size."""

    areas: Mapping[str, Area]
    lines: Sequence[Line]
    width: float
    height: float


@lru_cache(maxsize=64)
def layered(boxes: tuple[Box, ...], edges: tuple[tuple[str, str], ...]) -> Layout:
    """Lay out a graph; the same one again costs nothing.

    Args:
        boxes: each once.
        edges: pairs of ids, each once, without a cycle.
    """
    held: dict[str, list[Box]] = defaultdict(list)
    for box in boxes:
        held[box.within].append(box)
    holder = {box.id: box.within for box in boxes}
    joined: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for edge in edges:
        joined[holder[edge[0]]].append(edge)
    return _inside("", held, joined)


def _inside(id: str, held: Mapping[str, list[Box]], joined: Mapping[str, list[tuple[str, str]]]) -> Layout:
    """The graph that one box holds, with all that is within its boxes."""
    inner = {box.id: _inside(box.id, held, joined) for box in held.get(id, ()) if box.open}
    sizes = {
        box.id: (max(WIDTH, inner[box.id].width + 2 * _PADDING), HEADER + inner[box.id].height + _PADDING)
        if box.id in inner
        else (WIDTH, HEIGHT)
        for box in held.get(id, ())
    }
    flat = _side_by_side([_arranged(*part, sizes) for part in _parts(list(sizes), joined.get(id, []))])
    areas, lines = dict(flat.areas), list(flat.lines)
    for name, within in inner.items():
        around = areas[name]
        x, y = around.x + (around.width - within.width) / 2, around.y + HEADER
        moved = _moved(within, x, y)
        areas.update(moved.areas)
        lines += moved.lines
    return Layout(areas, lines, flat.width, flat.height)


def _parts(ids: Sequence[str], edges: Sequence[tuple[str, str]]) -> list[tuple[list[str], list[tuple[str, str]]]]:
    """What hangs together, each with its edges; what hangs with nothing is the last part, all of it."""
    neighbours: dict[str, list[str]] = {id: [] for id in ids}
    for source, target in edges:
        neighbours[source].append(target)
        neighbours[target].append(source)
    part: dict[str, int] = {}
    found: list[tuple[list[str], list[tuple[str, str]]]] = []
    for id in ids:
        if id in part or not neighbours[id]:
            continue
        waiting, members = [id], []
        part[id] = len(found)
        while waiting:
            members.append(waiting.pop())
            for other in neighbours[members[-1]]:
                if other not in part:
                    part[other] = len(found)
                    waiting.append(other)
        found.append((members, []))
    for edge in edges:
        found[part[edge[0]]][1].append(edge)
    alone = [id for id in ids if not neighbours[id]]
    return [*found, (alone, [])] if alone else found


def _arranged(ids: Sequence[str], edges: Sequence[tuple[str, str]], sizes: Mapping[str, tuple[float, float]]) -> Layout:
    if not edges:
        return _grid(ids, sizes)
    from fast_sugiyama import from_edges

    for name in ("rust-sugiyama", "connected_components"):  # each step of each drawing is told
        logging.getLogger(name).setLevel(logging.WARNING)

    numbers = {id: number for number, id in enumerate(ids)}
    # One part, numbered from 0: what has a higher number is no box, but where a line passes a row.
    numbered = [(numbers[source], numbers[target]) for source, target in edges]
    found: list[Any] = list(from_edges(numbered, vertex_spacing=1.0, minimum_length=1, dummy_size=_DUMMY))
    ((places, _, _, steps),) = found
    columns, rows = _columns(places, ids, sizes), _rows(places, ids, sizes)
    areas = {
        id: Area(columns[x] - sizes[id][0] / 2, rows[y][0], *sizes[id])
        for id, (x, y) in ((ids[number], place) for number, place in places if number < len(ids))
    }
    where = dict(places)
    onward: dict[int, list[int]] = defaultdict(list)
    for source, target in steps:
        onward[source].append(target)
    lines = []
    for source in range(len(ids)):
        for step in onward[source]:
            passed = [step]
            while passed[-1] >= len(ids):
                passed += onward[passed[-1]]
            target = ids[passed.pop()]
            begin, end = areas[ids[source]], areas[target]
            first = (begin.x + begin.width / 2, begin.y + begin.height, rows[where[source][1]][1])
            between = [(columns[where[each][0]], *rows[where[each][1]]) for each in passed]
            last = (end.x + end.width / 2, end.y, end.y)
            lines.append(Line(ids[source], target, (first, *between, last)))
    right = max(area.x + area.width for area in areas.values())
    bottom = max(row[1] for row in rows.values())
    return Layout(areas, lines, max(right, *columns.values()), bottom)


def _columns(
    places: Sequence[tuple[int, tuple[float, float]]], ids: Sequence[str], sizes: Mapping[str, tuple[float, float]]
) -> dict[float, float]:
    """The middle of each column; wider where a box of it is wider."""
    width: dict[float, float] = defaultdict(lambda: WIDTH)
    for number, (x, _) in places:
        width[x] = max(width[x], sizes[ids[number]][0] if number < len(ids) else WIDTH)
    found: dict[float, float] = {}
    left, extra = min(width), 0.0
    for x in sorted(width):
        more = width[x] - WIDTH
        found[x] = WIDTH / 2 + (x - left) * (WIDTH + _BETWEEN) + extra + more / 2
        extra += more
    return found


def _rows(
    places: Sequence[tuple[int, tuple[float, float]]], ids: Sequence[str], sizes: Mapping[str, tuple[float, float]]
) -> dict[float, tuple[float, float]]:
    """Where each row begins and ends; the library counts upwards."""
    height: dict[float, float] = defaultdict(float)
    for number, (_, y) in places:
        height[y] = max(height[y], sizes[ids[number]][1] if number < len(ids) else 0.0)
    found, top = {}, 0.0
    for y in sorted(height, reverse=True):
        found[y] = (top, top + height[y])
        top += height[y] + _GAP
    return found


def _grid(ids: Sequence[str], sizes: Mapping[str, tuple[float, float]]) -> Layout:
    """Boxes that nothing joins, in their order, about as wide as high."""
    across = max(1, math.ceil(math.sqrt(sum(map(math.prod, sizes.values())))))
    areas: dict[str, Area] = {}
    x = y = height = 0.0
    for id in ids:
        if x and x + sizes[id][0] > max(across, 2 * WIDTH + _BETWEEN):
            x, y, height = 0.0, y + height + _BETWEEN, 0.0
        areas[id] = Area(x, y, *sizes[id])
        x += sizes[id][0] + _BETWEEN
        height = max(height, sizes[id][1])
    right = max((area.x + area.width for area in areas.values()), default=0.0)
    return Layout(areas, (), right, y + height)


def _side_by_side(parts: Sequence[Layout]) -> Layout:
    areas: dict[str, Area] = {}
    lines: list[Line] = []
    x = 0.0
    for part in parts:
        moved = _moved(part, x, 0.0)
        areas.update(moved.areas)
        lines += moved.lines
        x += part.width + _BETWEEN
    return Layout(areas, lines, max(0.0, x - _BETWEEN), max((part.height for part in parts), default=0.0))


def _moved(layout: Layout, x: float, y: float) -> Layout:
    areas = {id: replace(area, x=area.x + x, y=area.y + y) for id, area in layout.areas.items()}
    lines = [
        replace(line, falls=tuple((at + x, top + y, bottom + y) for at, top, bottom in line.falls))
        for line in layout.lines
    ]
    return replace(layout, areas=areas, lines=lines)
