"""Style: every element of the console's pages, once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from localvertex.console import charts
from localvertex.console.evaluation import Confusion
from localvertex.console.layout import Box, layered
from localvertex.console.outline import Item
from localvertex.console.pages.lineage import Shown
from localvertex.console.pages.runs import graph_of, timeline
from localvertex.console.provenance import ARTIFACT, ENDPOINT, EXECUTION, GROUP, Node
from localvertex.console.web import Answer, Page, Route, Visit
from localvertex.engine.journal import Record
from localvertex.engine.values import State

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
        run = _run()
        values = {
            "states": _STATES,
            "runs": runs,
            "now": time.time(),
            "charts": _charts(),
            "confusion": Confusion(("cat", "dog"), ((9, 1), (3, 7))),
            "graph": graph_of(visit, run),
            "rows": list(timeline(run)),
            "most": len(run.leaves) * 2,
            "summary": {"seconds": run.end - run.started},
            **_lineage(),
        }
        return Page("style.html", "Style", values)


def _run() -> Item:
    """A run with an item of every kind and in every state."""
    begun = time.time() - 100

    def item(path: str, kind: str, state: State, place: int, *upstream: str, inside: Sequence[Item] = ()) -> Item:
        started = begun + 10 * place if state not in (State.PENDING, State.NOT_TRIGGERED) else 0.0
        ended = begun + 10 * (place + 2 + len(inside)) if state.final and started else 0.0
        record = Record("", path, "", path, place, state, started=started, ended=ended)
        return Item(path, path.rpartition("/")[2], kind, record, upstream, children=list(inside))

    group = [
        item("group/running", "task", State.RUNNING, 5),
        item("group/pending", "task", State.PENDING, 5, "group/running"),
    ]
    rounds = [item(f"loop/{number}", "task", State.SUCCEEDED, 4) for number in range(3)]
    children = [
        item("importer", "importer", State.SKIPPED, 0),
        item("task", "task", State.SUCCEEDED, 1, "importer"),
        item("group", "group", State.RUNNING, 5, "task", inside=group),
        item("loop", "loop", State.SUCCEEDED, 4, "task", inside=rounds),
        item("failed", "task", State.FAILED, 3, "task"),
        item("cancelled", "task", State.CANCELLED, 6, "loop"),
        item("not triggered", "condition", State.NOT_TRIGGERED, 0, "failed"),
    ]
    return item("", "group", State.SUCCEEDED, 0, inside=children)


def _lineage() -> dict[str, Any]:
    """A graph with a box of every kind."""
    nodes = [
        Node("data", ARTIFACT, "data", "Dataset"),
        Node("train", EXECUTION, "train", "complete"),
        Node("more", GROUP, "train", "12 executions", members=12, token="more"),
        Node("model", ARTIFACT, "model", "Model", hidden=3, token="model"),
        Node("endpoint", ENDPOINT, "endpoint", "Endpoint"),
    ]
    edges = (("data", "train"), ("data", "more"), ("train", "model"), ("model", "endpoint"))
    layout = layered(tuple(Box(node.name) for node in nodes), edges)
    targets = {GROUP: ("", "#lineage"), ARTIFACT: ("#lineage", "#lineage")}
    shown = {}
    for node in nodes:
        target, toggle = targets.get(node.kind, ("#lineage", ""))
        toggle = toggle if node.members or node.hidden else ""
        serves = "100 %" if node.kind == ENDPOINT else ""
        shown[node.name] = Shown(node, layout.areas[node.name], target, toggle, False, node.name == "model", serves)
    return {"layout": layout, "shown": shown, "scale": 1.0}


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
