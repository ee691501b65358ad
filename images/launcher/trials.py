"""The trials of a tuning job: the best one, what they cost, as a table and as a page with their curves."""

from __future__ import annotations

import base64
import csv
import dataclasses
import datetime
import html
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

METRIC = "val_loss"


@dataclasses.dataclass(frozen=True)
class Trial:
    """One trial of a tuning job.

    Attributes:
        id: as the service counts.
        state: Vertex's `Trial.State`, such as `SUCCEEDED` or `INFEASIBLE`.
        parameters: hyperparameters by name.
        curve: the metrics that each epoch reported, by epoch, which counts from 1.
        seconds: from start to end, or until now.
        reason: why it is infeasible; else empty.
    """

    id: str
    state: str
    parameters: dict[str, Any]
    curve: dict[int, dict[str, float]]
    seconds: float = 0.0
    reason: str = ""

    @classmethod
    def of(cls, trial: Any) -> Trial:
        """Reads a `google.cloud.aiplatform_v1.Trial`."""
        measurements = list(trial.measurements) or ([trial.final_measurement] if trial.final_measurement else [])
        curve = {
            int(measurement.step_count): {metric.metric_id: float(metric.value) for metric in measurement.metrics}
            for measurement in measurements
            if measurement.metrics
        }
        end = trial.end_time or datetime.datetime.now(datetime.UTC)
        return cls(
            id=trial.id,
            state=trial.state.name,
            parameters={parameter.parameter_id: parameter.value for parameter in trial.parameters},
            curve=dict(sorted(curve.items())),
            seconds=max(0.0, (end - trial.start_time).total_seconds()) if trial.start_time else 0.0,
            reason=trial.infeasible_reason,
        )

    @property
    def epochs(self) -> int:
        """Epochs that it trained for."""
        return max(self.curve, default=0)

    @property
    def best(self) -> dict[str, float]:
        """The metrics of its best epoch; empty if it reported none that is a number."""
        usable = [metrics for metrics in self.curve.values() if math.isfinite(metrics.get(METRIC, math.nan))]
        return min(usable, key=lambda metrics: metrics[METRIC], default={})

    @property
    def usable(self) -> bool:
        """Whether its hyperparameters can be chosen."""
        return self.state == "SUCCEEDED" and bool(self.best)

    def stopped_early(self, epochs: int) -> bool:
        """Whether it ended before its `epochs` were over, because it was behind the others."""
        return self.state == "SUCCEEDED" and self.epochs < epochs


def winner(trials: Sequence[Trial]) -> Trial | None:
    """The usable trial with the lowest validation loss; of equals, the first."""
    return min((trial for trial in trials if trial.usable), key=lambda trial: trial.best[METRIC], default=None)


def device_hours(trials: Sequence[Trial]) -> float:
    """Hours of the machines of all trials together, up to now."""
    return sum(trial.seconds for trial in trials) / 3600


def cost(trials: Sequence[Trial], epochs: int) -> dict[str, int]:
    """What the search took.

    Args:
        trials: all of them.
        epochs: that a trial trains for when nobody stops it.

    Returns:
        `trials`, `trials_stopped_early`, `epochs_spent`, and `epochs_saved` by early stopping.
    """
    stopped = [trial for trial in trials if trial.stopped_early(epochs)]
    return {
        "trials": len(trials),
        "trials_stopped_early": len(stopped),
        "epochs_spent": sum(trial.epochs for trial in trials),
        "epochs_saved": sum(epochs - trial.epochs for trial in stopped),
    }


def table(trials: Sequence[Trial], epochs: int) -> list[dict[str, Any]]:
    """One row a trial: what it tried, how long, what came of it; hyperparameters it had not are empty."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.parameters))
    metrics = list(dict.fromkeys([METRIC, *(name for trial in trials for name in trial.best)]))
    return [
        {
            "id": trial.id,
            "state": trial.state,
            **{name: trial.parameters.get(name, "") for name in names},
            "epochs": trial.epochs,
            **{name: trial.best.get(name, "") for name in metrics},
            "stopped_early": str(trial.stopped_early(epochs)).lower(),
            "seconds": round(trial.seconds, 1),
        }
        for trial in trials
    ]


def write_table(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Writes rows of equal keys as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else ["id"])
        writer.writeheader()
        writer.writerows(rows)


def write_report(trials: Sequence[Trial], epochs: int, system: str, path: Path) -> None:
    """Writes a page that needs no other file: the trials' curves, the best one, the cost and the table."""
    best, spent = winner(trials), cost(trials, epochs)
    rows = table(trials, epochs)
    heads = "".join(f"<th>{html.escape(name)}</th>" for name in (rows[0] if rows else {}))
    body = "".join(
        f"<tr{' class=best' if best and row['id'] == best.id else ''}>"
        + "".join(f"<td>{html.escape(_text(value))}</td>" for value in row.values())
        + "</tr>"
        for row in rows
    )
    share = spent["epochs_saved"] / max(1, spent["epochs_spent"] + spent["epochs_saved"])
    path.write_text(
        PAGE.format(
            system=html.escape(system),
            trials=spent["trials"],
            stopped=spent["trials_stopped_early"],
            spent=spent["epochs_spent"],
            saved=spent["epochs_saved"],
            share=f"{share:.0%}",
            best=html.escape(", ".join(f"{name} {_text(value)}" for name, value in best.parameters.items()))
            if best
            else "none",
            plot=base64.b64encode(plot(trials, best)).decode(),
            heads=heads,
            body=body,
        ),
        encoding="utf-8",
    )


def plot(trials: Sequence[Trial], best: Trial | None) -> bytes:
    """The trials' validation loss by epoch, as PNG; the best one in colour."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for trial in sorted(trials, key=lambda trial: trial is best):
        steps = [step for step, metrics in trial.curve.items() if METRIC in metrics]
        losses = [trial.curve[step][METRIC] for step in steps]
        chosen = trial is best
        axes.plot(
            steps,
            losses,
            marker=".",
            color="tab:orange" if chosen else "0.6",
            linewidth=2.2 if chosen else 1.0,
            label=f"trial {trial.id}, the best" if chosen else None,
        )
    axes.set(xlabel="epoch", ylabel="validation loss", yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    if best:
        axes.legend(frameon=False)
    image = io.BytesIO()
    figure.savefig(image, format="png", metadata={"Software": None})
    return image.getvalue()


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{system}: tuning</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; color: #222 }}
table {{ border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }}
th, td {{ padding: .3rem .7rem; text-align: left; border-bottom: 1px solid #ddd }}
tr.best {{ background: #fff3e0 }}
img {{ max-width: 100% }}
</style>
<h1>{system}: tuning</h1>
<p>{trials} trials, {stopped} of them stopped early; {spent} epochs spent, {saved} ({share}) saved.</p>
<p>Best: {best}</p>
<img alt="validation loss of each trial by epoch" src="data:image/png;base64,{plot}">
<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>
</html>
"""
