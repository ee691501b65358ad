"""What came out of a run: written as JSON for programs, told in words for people."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines.cli import graph, source
from pipelines.cli.graph import Task
from pipelines.cli.targets import ServiceError, Target
from pipelines.cli.vertex import Vertex

SCORES, RELEASED = "evaluate", "deploy"
WORDS = 5
FEW = 4


@dataclasses.dataclass(frozen=True)
class Summary:
    """A run's outcome, as `build/<pipeline>.summary.json` holds it.

    Attributes:
        pipeline: its name.
        run: the PipelineJob's resource name.
        state: Vertex's PipelineState.
        seconds: from start to end.
        tasks: `{"state", "cached", "seconds"}` by task; states are Vertex's.
        metrics: every number that a Metrics artifact holds; evaluate's win over a namesake of another task.
        model: resource name of the deployed version; empty if the run did not come so far.
        endpoint: resource name; empty if the run did not come so far.
        predictions: `{"truth", "answer", "confidence"}` of some test inputs, just answered by the endpoint.
        data: whether the source is new, or since which run it is unchanged, in one line; of a monitor, what was logged.
        release: what became of the new model, and why, in one line.
        drift: whether new data is like what was trained on, in one line; empty where none was compared.
    """

    pipeline: str
    run: str
    state: str
    seconds: float
    tasks: dict[str, dict[str, Any]]
    metrics: dict[str, float]
    model: str = ""
    endpoint: str = ""
    predictions: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    data: str = ""
    release: str = ""
    drift: str = ""


def summarise(pipeline: str, job: Mapping[str, Any], tasks: list[Task]) -> Summary:
    """Gathers what the service says about a run that has ended.

    Args:
        pipeline: its name.
        job: the PipelineJob resource in its final state.
        tasks: of that run.
    """
    return Summary(
        pipeline=pipeline,
        run=job["name"],
        state=job["state"],
        seconds=round(graph.elapsed(job), 3),
        tasks={
            task.name: {"state": task.state, "cached": task.cached, "seconds": round(task.seconds, 3)} for task in tasks
        },
        metrics=metrics(tasks),
        model=_resource(tasks, "google.VertexModel"),
        endpoint=_resource(tasks, "google.VertexEndpoint"),
        data=_noted(tasks, "record", "told") or _noted(tasks, "requests", "told", "system.Dataset"),
        drift=_noted(tasks, "metrics", "told", "system.Metrics"),
        release=": ".join(filter(None, (_noted(tasks, "outcome", name) for name in ("outcome", "reason")))),
    )


def with_predictions(summary: Summary, tasks: list[Task], vertex: Vertex, storage: Any) -> Summary:
    """Adds what the endpoint answers, now, to some of the test inputs that it was tried with.

    Args:
        summary: of a run that succeeded.
        tasks: of that run.
        vertex: to ask the endpoint.
        storage: `google.cloud.storage.Client`, to read the test inputs.

    Raises:
        ServiceError: the endpoint does not answer.
    """
    for artifact in graph.artifacts(tasks if summary.endpoint else [], "smoke", "system.Dataset"):
        lines = source.read(storage, f"{artifact['uri']}/smoke.jsonl").decode().splitlines()
        rows = [json.loads(line) for line in lines[:WORDS]]
        try:
            answers = vertex.predict(summary.endpoint, [row["instance"] for row in rows])
        except ServiceError as error:
            raise ServiceError(f"the endpoint does not answer; CACHE=0 deploys it anew: {error}") from None
        predictions = [
            {"truth": row["truth"], "answer": answer[row["answer"]], "confidence": answer["confidence"]}
            for row, answer in zip(rows, answers, strict=True)
        ]
        return dataclasses.replace(summary, predictions=predictions)
    return summary


def metrics(tasks: list[Task]) -> dict[str, float]:
    """All numbers in the tasks' Metrics artifacts."""
    found: dict[str, float] = {}
    for task in sorted(tasks, key=lambda task: task.name == SCORES):
        for artifact in graph.artifacts([task], "", "system.Metrics"):
            for name, value in artifact.get("metadata", {}).items():
                if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                    found[name] = value
    return dict(sorted(found.items()))


def write(summary: Summary, path: Path) -> None:
    """Writes a summary, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.partial-{os.getpid()}")
    aside.write_text(json.dumps(dataclasses.asdict(summary), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(aside, path)


def save_report(tasks: list[Task], path: Path, storage: Any) -> bool:
    """Brings evaluate's report here, to open in a browser; tells whether there is one."""
    scored = [task for task in tasks if task.name == SCORES]
    for artifact in graph.artifacts(scored, "", "system.HTML"):
        aside = path.with_name(f"{path.name}.partial-{os.getpid()}")
        aside.write_bytes(source.read(storage, artifact["uri"]))
        os.replace(aside, path)
        return True
    return False


def tell(summary: Summary, scores: Mapping[str, float], report: Path | None, target: Target, console: Console) -> None:
    """Prints a successful run's outcome and what can be done next.

    Args:
        summary: the outcome.
        scores: the metrics to show.
        report: evaluate's page, if there is one.
        target: where it ran, for the commands.
        console: where to print.
    """
    if scores:
        table = Table("metric", "value", box=None, pad_edge=False)
        for name, value in scores.items():
            table.add_row(name, f"{value:.4g}")
        console.print(table)
    if summary.predictions:
        table = Table("truth", "answer", "confidence", box=None, pad_edge=False, title_justify="left")
        for row in summary.predictions:
            right = row["truth"] == row["answer"]
            table.add_row(row["truth"], f"{row['answer']}{'' if right else '  (wrong)'}", f"{row['confidence']:.3f}")
        console.print()
        console.print(table)
    triggered = {name: task for name, task in summary.tasks.items() if task["state"] != graph.NOT_TRIGGERED}
    ran = [name for name, task in triggered.items() if not task["cached"]]
    flags = target.flags(summary.pipeline)
    console.print()
    lines = [
        ("data", summary.data),
        ("drift", summary.drift),
        ("release", summary.release),
        ("tasks", f"{len(triggered) - len(ran)} cached, {len(ran)} run{_named(ran)}"),
        ("time", f"{summary.seconds:.1f} s"),
    ]
    if RELEASED in summary.tasks:
        lines += [
            ("report", str(report or "none")),
            ("model", summary.model or "none serves"),
            ("endpoint", summary.endpoint or "none"),
            ("next", f"make predict {flags} INPUT=<file>"),
            ("", f"make lineage {flags}"),
        ]
    for title, text in lines:
        if text:
            console.print(f"{title:<9} {text}", markup=False, highlight=False, soft_wrap=True)


def scores(tasks: list[Task]) -> dict[str, float]:
    """What evaluate measured."""
    return metrics([task for task in tasks if task.name == SCORES])


def _named(tasks: list[str]) -> str:
    """The names of tasks, where they are few."""
    return f": {', '.join(tasks)}" if 0 < len(tasks) <= FEW else ""


def _noted(tasks: list[Task], output: str, name: str, schema: str = "system.Artifact") -> str:
    """What an output artifact's metadata says."""
    found = (artifact.get("metadata", {}) for artifact in graph.artifacts(tasks, output, schema))
    return next((str(metadata[name]) for metadata in found if name in metadata), "")


def _resource(tasks: list[Task], schema: str) -> str:
    for artifact in graph.artifacts(tasks, "", schema):
        return str(artifact.get("metadata", {}).get("resourceName", ""))
    return ""
