"""The gate: whether a challenger may take a champion's place, from how wrong both are on the same examples.

Not worse by more than a margin (non-inferiority): the upper end of the one-sided interval of the paired difference must
not exceed the margin. The interval is the bootstrap's over whole groups (writers, patients), with two corrections where
there are few of them. The quantile is stretched as Student's t stretches the normal's. And one example is added that
the challenger gets all wrong and the champion all right: where both agree on all n examples, the plain bootstrap would
be certain, though differences as rare as 1 in n may just not have been seen; with it the bound is 3/n, as it should be.
Of groups of k it is the square root of k examples: between mistakes that come alone and such that come by whole groups.
So at most `level` of the challengers that are worse by the margin pass.

Slices are small and many: bounding each would refuse everything. Of them what was observed counts.

Sources: Efron (1979); Davison and Hinkley, "Bootstrap Methods and their Application" (1997), 3.8, on groups; Hanley and
Lippman-Hand, "If Nothing Goes Wrong, Is Everything All Right?" (1983), on 3/n.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

RESAMPLES = 4_000
AT_ONCE = 200  # resamples in memory

Numbers = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Errors:
    """How wrong a model is, example by example: its rate is sum(wrong) / sum(whole).

    Attributes:
        wrong: float [examples], such as 1 for a wrong class, or the edits of a word.
        whole: float [examples], such as 1, or the word's length; the same for all models.
    """

    wrong: Numbers
    whole: Numbers

    def rate(self, chosen: npt.NDArray[np.bool_] | slice = slice(None)) -> float:
        """The error rate of all examples, or of the chosen ones."""
        return float(self.wrong[chosen].sum() / max(self.whole[chosen].sum(), 1e-12))


@dataclasses.dataclass(frozen=True)
class Rule:
    """When a challenger passes.

    Attributes:
        highest_error: its error rate may not be above this; all that a first model has to meet.
        margin: by how much it may be worse than the champion, as a difference of error rates.
        slice_margin: by how much it may be worse on any one slice.
        level: the share of challengers worse by the margin that may pass.
    """

    highest_error: float
    margin: float
    slice_margin: float
    level: float


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a challenger passes, and why.

    Attributes:
        passed: whether it does.
        reason: in one line.
        numbers: `challenger_error`; with a champion `champion_error`, `difference` (above 0: worse) and
            `difference_high`, the end of its one-sided interval.
        slices: (name, examples, challenger's error, champion's error) of each.
        differences: float [resamples], of the bootstrap; empty without a champion.
    """

    passed: bool
    reason: str
    numbers: Mapping[str, float]
    slices: Sequence[tuple[str, int, float, float]]
    differences: Numbers


def judge(
    metric: str,
    challenger: Errors,
    champion: Errors | None,
    groups: Sequence[bytes] | None,
    slices: Mapping[str, npt.NDArray[np.bool_]],
    rule: Rule,
) -> Verdict:
    """Holds a challenger against a champion.

    Args:
        metric: name of the error rate.
        challenger: its errors.
        champion: its errors on the same examples; None if there is none.
        groups: whom each example comes from; None: each is its own.
        slices: bool [examples] by name: the guarded parts.
        rule: when it passes.
    """
    error = challenger.rate()
    numbers = {"challenger_error": error}
    nothing = np.empty(0)
    if champion is None:
        good = error <= rule.highest_error
        told = "no champion yet" if good else f"above the {rule.highest_error:.4g} that a model may have"
        shown = [(name, int(chosen.sum()), challenger.rate(chosen), math.nan) for name, chosen in slices.items()]
        return Verdict(good, f"{metric} {error:.4g}, {told}", numbers, shown, nothing)
    differences = resampled(challenger, champion, groups)
    high = upper(challenger, champion, differences, groups, rule.level)
    numbers |= {"champion_error": champion.rate(), "difference": error - champion.rate(), "difference_high": high}
    shown = [
        (name, int(chosen.sum()), challenger.rate(chosen), champion.rate(chosen))
        for name, chosen in slices.items()
        if chosen.any()
    ]
    worst = max(shown, key=lambda each: each[2] - each[3], default=None)
    beside = f"{metric} {error:.4g}, the champion's {champion.rate():.4g}"
    bound = f"at worst {high:+.4g} ({100 * (1 - rule.level):g} %), margin {rule.margin:.4g}"
    if error > rule.highest_error:
        return Verdict(
            False, f"{beside}; above the {rule.highest_error:.4g} that a model may have", numbers, shown, differences
        )
    if high > rule.margin:
        return Verdict(False, f"{beside}; not shown to be as good: {bound}", numbers, shown, differences)
    if worst is not None and worst[2] - worst[3] > rule.slice_margin:
        name, _, own, other = worst
        told = f"worse on {name}: {own:.4g}, the champion's {other:.4g}, margin {rule.slice_margin:.4g}"
        return Verdict(False, f"{beside}; {told}", numbers, shown, differences)
    better = "better" if high < 0 else "not worse"
    return Verdict(True, f"{beside}; {better}: {bound}", numbers, shown, differences)


def resampled(challenger: Errors, champion: Errors, groups: Sequence[bytes] | None, seed: int = 0) -> Numbers:
    """Differences of the error rates, challenger's less champion's, when the groups are drawn anew.

    Args:
        challenger: its errors.
        champion: its errors on the same examples.
        groups: whom each example comes from; None: each is its own.
        seed: of the resamples.

    Returns:
        float [resamples].
    """
    totals, counts = np.unique(_totals(challenger, champion, groups), axis=0, return_counts=True)  # Few are different.
    random, size = np.random.default_rng(seed), int(counts.sum())
    rounds = [random.multinomial(size, counts / size, size=AT_ONCE) @ totals for _ in range(RESAMPLES // AT_ONCE)]
    own, other, whole = np.concatenate(rounds).T
    differences: Numbers = (own - other) / np.maximum(whole, 1e-12)
    return differences


def upper(
    challenger: Errors, champion: Errors, differences: Numbers, groups: Sequence[bytes] | None, level: float
) -> float:
    """The end of the one-sided interval of the difference: above it is the truth in `level` of all samples.

    Args:
        challenger: its errors.
        champion: its errors on the same examples.
        differences: of the bootstrap.
        groups: whom each example comes from; None: each is its own.
        level: such as 0.05.
    """
    from scipy.stats import norm, t

    count = len(set(groups)) if groups is not None else len(challenger.wrong)
    middle = challenger.rate() - champion.rate()
    high = float(np.quantile(differences, 1 - level, method="higher"))
    if count < 2:
        return math.inf
    stretch = math.sqrt(count / (count - 1)) * t.ppf(1 - level, count - 1) / norm.ppf(1 - level)
    return float(middle + stretch * max(high - middle, 0.0))


def _totals(challenger: Errors, champion: Errors, groups: Sequence[bytes] | None) -> Numbers:
    """float [groups + 1, 3]: wrong, wrong, whole; the last is what was not seen."""
    columns = np.stack([challenger.wrong, champion.wrong, challenger.whole], axis=1)
    if groups is not None:
        _, index = np.unique(np.asarray(groups), return_inverse=True)
        summed = np.zeros((int(index.max()) + 1, 3))
        np.add.at(summed, index, columns)
    else:
        summed = columns
    unseen = challenger.whole.mean() * math.sqrt(len(columns) / len(summed))
    return np.concatenate([summed, [[unseen, 0.0, unseen]]])
