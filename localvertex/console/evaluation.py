"""What the metadata of metrics artifacts says: numbers, a confusion matrix, curves over the confidence threshold.

The forms are those that KFP's `ClassificationMetrics` writes, and Vertex AI's model evaluations share
(https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.models.evaluations). Metadata may be
anybody's: what does not have the form is no matrix and no curve.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from markupsafe import Markup

from localvertex.console import charts

MOST_CLASSES = 100

Point = tuple[float, float]


@dataclass(frozen=True)
class Confusion:
    """How often each class was taken for which.

    Args:
        labels: names of the classes.
        rows: a row for each true class: how often each class was answered.
    """

    labels: Sequence[str]
    rows: Sequence[Sequence[float]]

    def share(self, row: int, column: int) -> float:
        """Of a true class, the share that was taken for another; 0 for a class that did not occur."""
        total = sum(self.rows[row])
        return self.rows[row][column] / total if total else 0.0

    @property
    def accuracy(self) -> float | None:
        """The share on the diagonal; None where nothing was counted."""
        total = sum(map(sum, self.rows))
        return sum(row[index] for index, row in enumerate(self.rows)) / total if total else None


@dataclass(frozen=True)
class Curve:
    """One curve over the confidence threshold.

    Args:
        title: `ROC`, `Precision and recall`.
        x, y: what the axes are.
        points: in the order of the thresholds.
        area: under it, by trapezoids.
    """

    title: str
    x: str
    y: str
    points: Sequence[Point]
    area: float


def scalars(metadata: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Names and values of what is one number, text or truth value."""
    return [(name, value) for name, value in metadata.items() if isinstance(value, str | int | float | bool)]


def confusion(metadata: Mapping[str, Any]) -> Confusion | None:
    """The confusion matrix, where there is one of at most MOST_CLASSES classes."""
    matrix = metadata.get("confusionMatrix")
    if not isinstance(matrix, Mapping):
        return None
    specs, rows = matrix.get("annotationSpecs"), matrix.get("rows")
    if not _is_list(specs) or not _is_list(rows) or not 0 < len(specs) <= MOST_CLASSES:
        return None
    labels = [str(spec.get("displayName", "")) if isinstance(spec, Mapping) else str(spec) for spec in specs]
    # KFP writes {"row": […]}, model evaluations write the list itself.
    given = [row.get("row") if isinstance(row, Mapping) else row for row in rows]
    counts = [[_number(cell) for cell in row] if _is_list(row) else [] for row in given]
    numbers = [[cell for cell in row if cell is not None and cell >= 0] for row in counts]
    square = len(numbers) == len(labels) and all(len(row) == len(labels) for row in numbers)
    return Confusion(labels, numbers) if square else None


def curves(metadata: Mapping[str, Any]) -> list[Curve]:
    """The curves that the metadata has points of."""
    found = metadata.get("confidenceMetrics")
    entries = [each for each in found if isinstance(each, Mapping)] if _is_list(found) else []
    entries.sort(key=lambda entry: _number(entry.get("confidenceThreshold")) or 0.0)
    made = []
    for title, x, x_name, y, y_name in (
        ("ROC", "falsePositiveRate", "False positive rate", "recall", "True positive rate (recall)"),
        ("Precision and recall", "recall", "Recall", "precision", "Precision"),
    ):
        points = [
            (across, up)
            for entry in entries
            if (across := _number(entry.get(x))) is not None and (up := _number(entry.get(y))) is not None
        ]
        if len(points) > 1:
            made.append(Curve(title, x_name, y_name, points, _area(points)))
    return made


def _area(points: Sequence[Point]) -> float:
    ordered = sorted(points)
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(ordered))


def drawn_curves(metadata: Mapping[str, Any]) -> list[tuple[Curve, Markup]]:
    """The same with a chart of each."""
    return [(curve, _chart(curve)) for curve in curves(metadata)]


def _chart(curve: Curve) -> Markup:
    return charts.lines(
        f"{curve.title}: area under the curve {curve.area:.4f}",
        [charts.Series(curve.title, curve.points)],
        x=curve.x,
        y=curve.y,
        width=420,
        height=360,
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        diagonal=curve.title == "ROC",
    )


def _is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
