"""Style: every element of the console's pages, once."""

from __future__ import annotations

import time
from collections.abc import Sequence

from markupsafe import Markup

from localvertex.console import charts
from localvertex.console.web import Answer, Page, Route, Visit

_STATES = (
    *("SUCCEEDED", "SKIPPED", "RUNNING", "PENDING", "CANCELLING", "CANCELLED", "FAILED", "NOT_TRIGGERED", "PAUSED"),
    *("ACTIVE", "COMPLETED", "STOPPED"),
)


class StylePage:
    """The page."""

    def routes(self) -> Sequence[Route]:
        """Its address."""
        return (Route("GET", "style", self._style),)

    def _style(self, visit: Visit) -> Answer:
        runs = [{"name": "style", "id": f"run {state.lower()}", "state": state} for state in _STATES[:4]]
        values = {"states": _STATES, "runs": runs, "now": time.time(), "charts": _charts()}
        return Page("style.html", "Style", values)


def _charts() -> list[tuple[str, Markup]]:
    curves = [[(step, 1 / (step + number)) for step in range(1, 9)] for number in range(charts.COLOURS)]
    series = [
        charts.Series(f"line {number}", curve, number, end="xo"[number % 2]) for number, curve in enumerate(curves)
    ]
    axes = [charts.Axis("rate", "0.001", "0.1 (log)"), charts.Axis("size", "small", "huge", [("large", 0.5)])]
    strands = [charts.Strand(f"strand {n}", [n / 5, 1 - n / 8], n / 5, chosen=n == 2) for n in range(6)]
    return [
        ("Lines", charts.lines("Lines", series, x="step", y="loss")),
        ("Parallel coordinates", charts.parallel("Parallel coordinates", axes, strands)),
        ("Columns", charts.columns("Columns", [(n % 7, n % 3 == 0) for n in range(60)])),
        ("A share", charts.bar(0.7)),
    ]
