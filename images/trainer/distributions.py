"""The distribution of a number among examples, as schema.json keeps it: what new data is held against."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 10


def distribution(values: npt.ArrayLike) -> dict[str, Any]:
    """The distribution of one number.

    Args:
        values: float [examples], at least one.

    Returns:
        `examples`: how many, `mean`, `deviation`, `minimum`, `maximum`, and a histogram: `edges` between its bins,
        without the outermost, and the `shares` of examples in them. Up to `BINS` different values have a bin each; else
        the bins are equally filled.
    """
    values = np.asarray(values, float)
    different = np.unique(values)
    if len(different) <= BINS:
        edges = (different[:-1] + different[1:]) / 2
    else:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return {
        "examples": len(values),
        "mean": float(np.mean(values)),
        "deviation": float(np.std(values)),
        "minimum": float(np.min(values)),
        "maximum": float(np.max(values)),
        "edges": [float(edge) for edge in edges],
        "shares": [float(share) for share in counts / len(values)],
    }
