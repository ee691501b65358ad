"""Charts as SVG, made here and readable without scripts: each has a title, and each mark says what it stands for.

Colours are classes of the stylesheet (`series-0` … `series-5`), so that they suit light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

Point = tuple[float, float]

COLOURS = 6

_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 12, 44
_STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Args:
        name: what it shows, told by its marks.
        points: places in the units of the axes, in the order in which they are joined.
        colour: which of the COLOURS.
        line: whether the points are joined; `steps` joins them by right angles.
        steps: see above.
        dots: whether each point is marked.
        end: a sign at the last point: `x` where something was stopped, `o` where it ended.
        link: the address that the line leads to; '' for none.
        faint: whether it is drawn behind the others.
        notes: what each point's mark says; else its name and place.
    """

    name: str
    points: Sequence[Point]
    colour: int = 0
    line: bool = True
    steps: bool = False
    dots: bool = False
    end: str = ""
    link: str = ""
    faint: bool = False
    notes: Sequence[str] = field(default_factory=tuple)


def lines(
    title: str,
    series: Sequence[Series],
    *,
    x: str,
    y: str,
    width: int = 480,
    height: int = 270,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    diagonal: bool = False,
) -> Markup:
    """A chart of lines over two linear axes.

    Args:
        title: what a screen reader says of it.
        x, y: what the axes are.
        width, height: units of the drawing; it is shown as wide as there is room.
        x_range, y_range: what the axes span; else what the points do.
        diagonal: whether the line from corner to corner is drawn, as that of chance in an ROC chart.
    """
    points = [point for each in series for point in each.points]
    across, up = x_range or _span([p[0] for p in points]), y_range or _span([p[1] for p in points])
    plane = _Plane(across, up, width, height)
    parts = [plane.axes(x, y)]
    if diagonal:
        parts.append(Markup('<path class="diagonal" d="M{} {}L{} {}"/>').format(*plane.at(*_low), *plane.at(*_high)))
    for each in sorted(series, key=lambda one: not one.faint):
        parts.append(_drawn(each, plane))
    return _svg(title, width, height, parts)


_low, _high = (0.0, 0.0), (1.0, 1.0)


@dataclass(frozen=True)
class Axis:
    """One axis of a chart of parallel coordinates.

    Args:
        name: what is written over it.
        low, high: what is written at its ends.
        marks: further texts with their places from 0 (low) to 1 (high).
    """

    name: str
    low: str
    high: str
    marks: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True)
class Strand:
    """One line across parallel axes.

    Args:
        name: what it stands for.
        places: from 0 to 1 on each axis; None where it has none, and is broken off.
        rank: from 0, the best, to 1: how strong its colour is.
        link: the address that it leads to.
        chosen: whether it stands out.
    """

    name: str
    places: Sequence[float | None]
    rank: float = 0.0
    link: str = ""
    chosen: bool = False


def parallel(title: str, axes: Sequence[Axis], strands: Sequence[Strand], *, height: int = 320) -> Markup:
    """Parallel coordinates: an axis for each quantity, a line for each thing that has them."""
    top, bottom, side = 44, 34, 66
    gap = max(132.0, (980 - 2 * side) / max(1, len(axes) - 1))
    width = 2 * side + gap * max(1, len(axes) - 1)
    length = height - top - bottom

    def place(axis: int, share: float) -> str:
        return f"{side + gap * axis:.0f} {top + length * (1 - share):.1f}"

    parts = []
    for strand in sorted(strands, key=lambda one: (one.chosen, -one.rank)):
        path, broken = "", True
        for index, share in enumerate(strand.places):
            if share is None:
                broken = True
                continue
            path += ("M" if broken else "L") + place(index, min(1.0, max(0.0, share)))
            broken = False
        shade = f"{0.9 - 0.65 * strand.rank:.2f}"
        kind = "strand chosen" if strand.chosen else "strand"
        parts.append(
            _linked(
                strand.link,
                strand.name,
                Markup('<path class="{}" stroke-opacity="{}" d="{}"><title>{}</title></path>').format(
                    kind, "1" if strand.chosen else shade, path, strand.name
                ),
            )
        )
    for number, axis in enumerate(axes):
        at = f"{side + gap * number:.0f}"
        parts.append(
            Markup(
                '<g><path class="axis" d="M{0} {1}V{2}"/><text class="name" x="{0}" y="18" text-anchor="middle">{3}'
                '<title>{4}</title></text><text x="{0}" y="{5}" text-anchor="middle">{6}</text>'
                '<text x="{0}" y="{7}" text-anchor="middle">{8}</text>{9}</g>'
            ).format(
                at,
                top,
                top + length,
                _short(axis.name, 18),
                axis.name,
                top - 8,
                _short(axis.high, 16),
                top + length + 18,
                _short(axis.low, 16),
                Markup("").join(
                    Markup('<text class="mark" x="{}" y="{}">{}</text>').format(
                        f"{side + gap * number + 6:.0f}", f"{top + length * (1 - share) + 4:.1f}", _short(text, 14)
                    )
                    for text, share in axis.marks
                ),
            )
        )
    return _svg(title, width, height, parts)


def columns(title: str, values: Sequence[tuple[float, float]], *, width: int = 360, height: int = 60) -> Markup:
    """Small columns side by side, such as requests minute by minute; of each, a part is drawn as bad.

    Args:
        values: height and the bad part of it.
    """
    most = max([1.0, *(value for value, _ in values)])
    step = width / max(1, len(values))
    parts = [Markup('<path class="axis" d="M0 {0}H{1}"/>').format(height - 0.5, width)]
    for number, (value, bad) in enumerate(values):
        for kind, amount in (("column", value), ("column bad", bad)):
            if amount:
                tall = max(2.0, amount / most * (height - 4))
                parts.append(
                    Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(
                        kind, f"{number * step:.1f}", f"{height - tall:.1f}", f"{max(1.0, step - 1):.1f}", f"{tall:.1f}"
                    )
                )
    return _svg(title, width, height, parts)


def bar(share: float, width: int = 160) -> Markup:
    """A bar within a table's cell, beside the number that it shows; screen readers pass over it."""
    return Markup(
        '<svg class="share" viewBox="0 0 {0} 10" width="{0}" height="10" aria-hidden="true"><rect class="track" '
        'width="{0}" height="10" rx="4"/><rect class="fill" width="{1}" height="10" rx="4"/></svg>'
    ).format(width, f"{max(0.0, min(1.0, share)) * width:.1f}")


class _Plane:
    def __init__(self, across: tuple[float, float], up: tuple[float, float], width: int, height: int) -> None:
        self.width, self.height = width, height
        self._x_ticks, self._y_ticks = ticks(*across), ticks(*up)
        self._across = (min(across[0], self._x_ticks[0]), max(across[1], self._x_ticks[-1]))
        self._up = (min(up[0], self._y_ticks[0]), max(up[1], self._y_ticks[-1]))

    def at(self, x: float, y: float) -> Point:
        inner_width, inner_height = self.width - _LEFT - _RIGHT, self.height - _TOP - _BOTTOM
        (low_x, high_x), (low_y, high_y) = self._across, self._up
        return (
            round(_LEFT + (x - low_x) / (high_x - low_x) * inner_width, 1),
            round(_TOP + (high_y - y) / (high_y - low_y) * inner_height, 1),
        )

    def axes(self, x_name: str, y_name: str) -> Markup:
        left, bottom = self.at(self._across[0], self._up[0])
        right, top = self.at(self._across[1], self._up[1])
        parts = []
        for value in self._y_ticks:
            _, y = self.at(self._across[0], value)
            parts.append(
                Markup('<path class="grid" d="M{} {}H{}"/><text x="{}" y="{}" text-anchor="end">{}</text>').format(
                    left, y, right, left - 8, y + 4, _tick(value)
                )
            )
        for value in self._x_ticks:
            x, _ = self.at(value, self._up[0])
            parts.append(
                Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(x, bottom + 18, _tick(value))
            )
        parts.append(
            Markup(
                '<path class="axis" d="M{0} {1}V{2}H{3}"/><text class="name" x="{4}" y="{5}" text-anchor="middle">{6}'
                '</text><text class="name" x="14" y="{7}" text-anchor="middle" transform="rotate(-90 14 {7})">{8}'
                "</text>"
            ).format(left, top, bottom, right, (left + right) / 2, self.height - 6, x_name, (top + bottom) / 2, y_name)
        )
        return Markup('<g class="axes">{}</g>').format(Markup("").join(parts))


def _drawn(series: Series, plane: _Plane) -> Markup:
    places = [plane.at(*point) for point in series.points]
    parts = []
    if series.line and places:
        path = f"M{places[0][0]} {places[0][1]}"
        for x, y in places[1:]:
            path += f"H{x}V{y}" if series.steps else f"L{x} {y}"
        parts.append(Markup('<path class="line" d="{}"><title>{}</title></path>').format(path, series.name))
    if series.dots:
        for number, ((x, y), point) in enumerate(zip(places, series.points, strict=True)):
            note = series.notes[number] if series.notes else f"{series.name}: {_tick(point[0])}, {_tick(point[1])}"
            parts.append(Markup('<circle cx="{}" cy="{}" r="4"><title>{}</title></circle>').format(x, y, note))
    if series.end and places:
        x, y = places[-1]
        sign = f"M{x - 4} {y - 4}l8 8m0 -8l-8 8" if series.end == "x" else f"M{x - 3} {y}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0"
        parts.append(Markup('<path class="end" d="{}"/>').format(sign))
    kind = f"series series-{series.colour % COLOURS}" + (" faint" if series.faint else "")
    drawn = Markup('<g class="{}">{}</g>').format(kind, Markup("").join(parts))
    return _linked(series.link, series.name, drawn)


def _linked(link: str, name: str, drawn: Markup) -> Markup:
    return Markup('<a href="{}" aria-label="{}">{}</a>').format(link, name, drawn) if link else drawn


def _svg(title: str, width: float, height: float, parts: Sequence[Markup]) -> Markup:
    # With links in it a chart is no mere picture: what is in it must stay within reach.
    role = "group" if any("<a " in part for part in parts) else "img"
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="{}" aria-label="{}">{}</svg>').format(
        width, height, role, title, Markup("").join(parts)
    )


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers that span from low to high, at most so many."""
    if high <= low:
        high = low + (abs(low) or 1.0) * 0.1
    rough = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * each for each in _STEPS if power * each >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def _span(values: Sequence[float]) -> tuple[float, float]:
    return (min(values), max(values)) if values else (0.0, 1.0)


def _tick(value: float) -> str:
    return f"{value:.4g}" if abs(value) >= 1e-12 else "0"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
