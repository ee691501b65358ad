"""A report as one HTML file that needs nothing else: numbers, plots, tables, pictures, by day and by night.

The same content gives the same bytes.
"""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

INK, GRID, SERIES = "#010101", "#020202", ("#2f6fde", "#d9652b")


@dataclasses.dataclass(frozen=True)
class Number:
    """A number that counts, such as CER "3.1 %" with detail "2.6 to 3.6 %"."""

    name: str
    value: str
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class Section:
    """One heading with what stands under it.

    Attributes:
        title: the heading.
        note: one or two sentences on how to read it.
        svg: a plot, from `curves`.
        columns: the table's heads; the cells of `rows` are text, or numbers already written out.
        rows: the table's rows.
        pictures: (data URI, truth, answer, detail) each.
        photographs: whether the pictures look the same by day and by night; ink on paper does not.
    """

    title: str
    note: str = ""
    svg: Markup | None = None
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    pictures: Sequence[tuple[str, str, str, str]] = ()
    photographs: bool = False


def page(title: str, subtitle: str, numbers: Sequence[Number], sections: Sequence[Section]) -> str:
    """The report's HTML."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE)
    return template.render(title=title, subtitle=subtitle, numbers=numbers, sections=sections) + "\n"


def percent(share: float) -> str:
    """A share such as 0.0312 as "3.1 %"."""
    return f"{100 * share:.1f} %"


def picture(pixels: np.ndarray) -> str:
    """An image as a data URI.

    Args:
        pixels: uint8 [height, width] grey or [height, width, 3] colour.
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def curves(panels: Sequence[tuple[str, bool, Mapping[str, Sequence[float]]]], x_name: str) -> Markup:
    """Line plots side by side, over 1, 2, 3, …

    Args:
        panels: (title, whether the y axis is logarithmic, the values of each line by its name).
        x_name: what is counted along the x axis.

    Returns:
        SVG in the colours of the page around it.
    """

    def panel(logarithmic: bool, lines: Mapping[str, Sequence[float]]) -> Callable[[Any], None]:
        def draw(axes: Any) -> None:
            for colour, (name, values) in zip(SERIES, lines.items(), strict=False):
                steps = range(1, len(values) + 1)
                axes.plot(steps, values, color=colour, label=name, linewidth=2, marker="o", markersize=3.5)
            if logarithmic:
                axes.set_yscale("log")
            else:
                axes.set_ylim(bottom=0)
            axes.set_xlabel(x_name)
            axes.xaxis.get_major_locator().set_params(integer=True)
            if len(lines) > 1:
                axes.legend(frameon=False)

        return draw

    return plots([(title, panel(logarithmic, lines)) for title, logarithmic, lines in panels])


def plots(panels: Sequence[tuple[str, Callable[[Any], None]]]) -> Markup:
    """Plots side by side.

    Args:
        panels: the title of each, and what draws it on matplotlib's Axes, in `SERIES`, `INK` and `GRID`.

    Returns:
        SVG in the colours of the page around it.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: Any = {
        "svg.hashsalt": "report",
        "svg.fonttype": "none",
        "font.family": ["sans-serif"],
        "font.size": 10,
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), INK),
        **dict.fromkeys(("axes.edgecolor", "grid.color", "xtick.color", "ytick.color"), GRID),
    }
    buffer = io.StringIO()
    with rc_context(style):
        figure = Figure(figsize=(9, 3.1), layout="constrained")
        for axes, (title, draw) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            draw(axes)
            axes.set_title(title, loc="left", fontsize=10.5)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", linewidth=0.6)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor").replace(GRID, "var(--line)")
    return Markup(svg)


def learning_curve(
    history: Mapping[str, Sequence[float]], monitor: str, error: str, examples: str, remark: str = ""
) -> Section:
    """The section of a training's losses and error rate.

    Args:
        history: the columns of history.csv.
        monitor: the error rate's name in them, without `val_`.
        error: what the error rate's plot is called.
        examples: what is trained on, such as "words".
        remark: what else to know of this training's curve.
    """
    rates, losses = history[f"val_{monitor}"], {"training": history["loss"], "validation": history["val_loss"]}
    errors = {"validation": [100 * rate for rate in rates]}
    ranks = list(zip(rates, history["val_loss"], strict=True))
    best = ranks.index(min(ranks)) + 1
    note = f"The weights are those of epoch {best}, the best on validation {examples}. {remark}".rstrip()
    return Section("Learning curve", note, curves([("Loss", True, losses), (error, False, errors)], "epoch"))


TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ title }}</title>
<style>
:root { --page: #f6f6f3; --card: #fff; --text: #1d1f23; --soft: #666b75; --line: #dcdcd6; --bad: #b3261e;
  --good: #1a7a3d }
@media (prefers-color-scheme: dark) {
  :root { --page: #15171b; --card: #1e2126; --text: #e8e8e4; --soft: #9aa0ab; --line: #363b44; --bad: #ff8a80;
    --good: #7dd69a }
  .pictures:not(.photographs) img { filter: invert(0.88) }
}
* { box-sizing: border-box }
body { background: var(--page); color: var(--text); margin: 0 auto; max-width: 64rem;
  padding: 2.5rem 1.25rem 4rem;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0; letter-spacing: -0.01em }
h2 { font-size: 1.1rem; margin: 0 }
p { color: var(--soft); margin: 0.2rem 0 0; max-width: 46rem }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; overflow-x: auto;
  padding: 1.1rem 1.25rem }
.numbers, .sections { display: grid; gap: 1rem; margin-top: 1rem }
.numbers { grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); margin-top: 1.5rem }
.sections { grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)) }
.wide { grid-column: 1 / -1 }
.numbers b { display: block; font-size: 1.75rem; font-weight: 650; line-height: 1.3; letter-spacing: -0.02em }
.numbers span, figcaption small { color: var(--soft); font-size: 0.85rem }
svg { display: block; height: auto; margin-top: 0.8rem; max-width: 100%; width: 100% }
svg text { font-family: inherit !important }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin-top: 0.7rem; width: 100% }
th { color: var(--soft); font-size: 0.85rem; font-weight: 500 }
th, td { border-bottom: 1px solid var(--line); padding: 0.3rem 0 0.3rem 1rem; text-align: right;
  white-space: nowrap }
td, figcaption b, figcaption i { font-size: 0.9rem;
  font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace }
th:first-child, td:first-child { padding-left: 0; text-align: left }
tr:last-child td { border-bottom: 0 }
.pictures { display: grid; gap: 0.9rem; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr));
  margin-top: 0.9rem }
figure { border: 1px solid var(--line); border-radius: 8px; margin: 0; overflow: hidden }
figure img { background: #fff; display: block; width: 100% }
figcaption { padding: 0.45rem 0.7rem 0.55rem }
figcaption b { color: var(--bad); font-weight: 600 }
figcaption i { color: var(--good); font-style: normal; font-weight: 600 }
figcaption small { display: block }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p>{{ subtitle }}</p>
<div class="numbers">
{% for number in numbers %}
<section><span>{{ number.name }}</span><b>{{ number.value }}</b><span>{{ number.detail }}</span></section>
{% endfor %}
</div>
<div class="sections">
{% for section in sections %}
<section{{ "" if section.rows else " class=wide" }}>
<h2>{{ section.title }}</h2>
{% if section.note %}
<p>{{ section.note }}</p>
{% endif %}
{{ section.svg or "" }}
{% if section.rows %}
<table>
<tr>{% for column in section.columns %}<th>{{ column }}</th>{% endfor %}</tr>
{% for row in section.rows %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</table>
{% endif %}
{% if section.pictures %}
<div class="pictures{{ " photographs" if section.photographs }}">
{% for source, truth, answer, detail in section.pictures %}
<figure><img src="{{ source }}" alt="{{ truth }}">
<figcaption><i>{{ truth }}</i> read as <b>{{ answer or "nothing" }}</b>
<small>{{ detail }}</small></figcaption></figure>
{% endfor %}
</div>
{% endif %}
</section>
{% endfor %}
</div>
</body>
</html>
"""
