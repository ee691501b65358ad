"""How well ordered classes are told apart, with intervals by resampling whole groups, such as patients.

Every resample is a weight for each group, so all of them together are a few matrix products: of confusion matrices
group by group, and of how often one group's examples are ranked above another's.

Sources: Cohen, "Weighted kappa" (1968); Hand and Till, "A simple generalisation of the area under the ROC curve"
(2001); Efron, "Bootstrap methods" (1979).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

RESAMPLES = 2_000


class Agreement:
    """Truths and answers, gathered by group.

    Args:
        truths: class index of each example, int64 [N].
        answers: class index given to each, int64 [N].
        probabilities: of each class, [N, classes].
        groups: whom each example comes from.
    """

    def __init__(
        self, truths: Integers, answers: Integers, probabilities: npt.NDArray[Any], groups: Sequence[Hashable]
    ) -> None:
        names = {name: number for number, name in enumerate(dict.fromkeys(groups))}
        group = np.array([names[name] for name in groups])
        classes = probabilities.shape[1]
        self._confusions = np.zeros((len(names), classes, classes))
        np.add.at(self._confusions, (group, truths, answers), 1)
        self._ranked = [_ranked(truths == each, probabilities[:, each], group, len(names)) for each in range(classes)]

    def intervals(self, classes: Sequence[str], level: float = 0.95, seed: int = 0) -> Mapping[str, tuple[float, ...]]:
        """`accuracy`, `balanced_accuracy`, `quadratic_kappa` and `auc_<class>`: value, low and high end.

        A class that no example has has no area. Where a resample leaves a number undefined, it does not count.

        Args:
            classes: their names.
            level: the share of resamples inside.
            seed: of the resamples.
        """
        count = len(self._confusions)
        drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES)
        values, resampled = self._measured(np.ones((1, count)), classes), self._measured(drawn.astype(float), classes)
        ends = [(1 - level) / 2, (1 + level) / 2]
        return {
            name: (float(value[0]), *map(float, np.nanquantile(resampled[name], ends)))
            for name, value in values.items()
            if np.isfinite(value[0])
        }

    def _measured(self, weights: Floats, classes: Sequence[str]) -> dict[str, Floats]:
        matrices = np.einsum("rg,gta->rta", weights, self._confusions)
        measured = {name: measure(matrices) for name, measure in OF_CONFUSIONS.items()}
        for name, (above, own, others) in zip(classes, self._ranked, strict=True):
            pairs = (weights @ own) * (weights @ others)
            with np.errstate(invalid="ignore"):
                measured[f"auc_{name}"] = np.einsum("rg,rg->r", weights @ above, weights) / pairs
        return measured


def accuracy(matrices: Floats) -> Floats:
    """The share of right answers; of confusion matrices [R, truth, answer], as the next ones."""
    right: Floats = np.trace(matrices, axis1=1, axis2=2) / matrices.sum(axis=(1, 2))
    return right


def balanced_accuracy(matrices: Floats) -> Floats:
    """The mean recall of the classes that are there."""
    totals = matrices.sum(axis=2)
    recalls = np.diagonal(matrices, axis1=1, axis2=2) / np.where(totals > 0, totals, np.nan)
    mean: Floats = np.nanmean(recalls, axis=1)
    return mean


def quadratic_kappa(matrices: Floats) -> Floats:
    """Cohen's kappa; a mistake counts by the square of how many classes it is off."""
    classes = np.arange(matrices.shape[1])
    off = (classes[:, np.newaxis] - classes) ** 2
    chance = matrices.sum(axis=2)[:, :, np.newaxis] * matrices.sum(axis=1)[:, np.newaxis, :]
    expected = (off * chance).sum(axis=(1, 2)) / matrices.sum(axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        kappa: Floats = 1 - (off * matrices).sum(axis=(1, 2)) / expected
    return kappa


OF_CONFUSIONS = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "quadratic_kappa": quadratic_kappa,
}


def _ranked(own: npt.NDArray[np.bool_], scores: npt.NDArray[Any], group: Integers, groups: int) -> Any:
    """For groups g and h how many pairs of an own example of g and another of h are ranked right (ties count half);
    and of each group how many examples are own, and how many are not."""
    other_scores, other_groups = scores[~own], group[~own]
    order = np.argsort(other_scores, kind="stable")
    other_scores, other_groups = other_scores[order], other_groups[order]
    below = np.zeros((len(other_scores) + 1, groups))
    np.cumsum(np.eye(groups)[other_groups], axis=0, out=below[1:])
    left, right = (np.searchsorted(other_scores, scores[own], side) for side in ("left", "right"))
    above = np.zeros((groups, groups))
    np.add.at(above, group[own], (below[left] + below[right]) / 2)
    return above, *(np.bincount(group[which], minlength=groups).astype(float) for which in (own, ~own))
