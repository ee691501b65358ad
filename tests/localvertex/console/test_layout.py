"""Protects the drawing of graphs: no box lies on another, no line crosses a box, boxes hold what is theirs."""

from __future__ import annotations

from random import Random

import pytest

from localvertex.console.layout import Box, Layout, layered


def random_graph(seed: int) -> tuple[tuple[Box, ...], tuple[tuple[str, str], ...]]:
    """Some dozens of boxes, some of which hold others; edges lead from earlier to later ones in the same box."""
    random = Random(seed)
    boxes = [Box(f"box {number}") for number in range(random.randrange(1, 20))]
    for depth in range(random.randrange(3)):
        holder = random.randrange(len(boxes))
        boxes[holder] = Box(boxes[holder].id, boxes[holder].within, open=True)
        boxes += [Box(f"{depth}.{number}", boxes[holder].id) for number in range(random.randrange(8))]
    edges = [
        (a.id, b.id)
        for index, b in enumerate(boxes)
        for a in boxes[:index]
        if a.within == b.within and random.random() < 0.15
    ]
    return tuple(boxes), tuple(edges)


def crossed(layout: Layout, source: str, target: str, falls: tuple[tuple[float, float, float], ...]) -> list[str]:
    """Boxes through which a line falls, other than those that hold its ends."""
    return [
        id
        for x, top, bottom in falls
        for id, area in layout.areas.items()
        if id not in (source, target)
        and area.x < x < area.x + area.width
        and top < area.y + area.height
        and bottom > area.y
        and not (area.y <= layout.areas[source].y and area.y + area.height >= layout.areas[target].y)
    ]


@pytest.mark.parametrize("seed", range(40))
def test_boxes_and_lines_have_places_of_their_own(seed: int) -> None:
    boxes, edges = random_graph(seed)
    layout = layered(boxes, edges)
    assert set(layout.areas) == {box.id for box in boxes}
    assert sorted((line.source, line.target) for line in layout.lines) == sorted(edges)
    for box in boxes:
        area = layout.areas[box.id]
        assert area.x >= 0 and area.y >= 0 and area.x + area.width <= layout.width + 0.1
        if box.within:
            around = layout.areas[box.within]
            assert around.x < area.x and area.x + area.width < around.x + around.width
            assert around.y < area.y and area.y + area.height < around.y + around.height
        for other in boxes:
            beside = layout.areas[other.id]
            if other.id < box.id and other.within == box.within:
                apart = area.x >= beside.x + beside.width or beside.x >= area.x + area.width
                assert apart or area.y >= beside.y + beside.height or beside.y >= area.y + area.height
    for line in layout.lines:
        assert layout.areas[line.source].y < layout.areas[line.target].y, "downwards"
        assert crossed(layout, line.source, line.target, line.falls) == []


def test_nothing_is_drawn_of_nothing() -> None:
    assert layered((), ()) == Layout({}, [], 0.0, 0.0)
