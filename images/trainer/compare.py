"""The comparison stage: the folds of a cross-validation together, and whether the network earns its place.

    python -m images.trainer.compare --scores="[$(paste -sd, fold-*.json)]" --metrics=FILE --report=FILE

Source of the interval: Nadeau and Bengio, "Inference for the Generalization Error" (2003): folds share training rows,
so that their scores agree more than independent ones would; the corrected variance allows for it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from images import executor
from images.executor import ExecutorOutput, UserError

if TYPE_CHECKING:
    from images.trainer.report import Number, Section

LEVEL = 0.95

Shares = dict[tuple[int, int], float]
"""The share of right answers by seed and fold."""


def compare(scores: Sequence[Sequence[Mapping[str, Any]]], metrics: str, report: str) -> dict[str, float]:
    """Puts the folds together.

    Args:
        scores: what `cross_validate` found, of each fold.
        metrics: the JSON file to write, name -> number.
        report: the HTML file to write.

    Returns:
        What the metrics file holds: `cross_validated_accuracy` of the network, with `…_low` and `…_high`; the same of
        each baseline as `<baseline>_accuracy`; and `lead_over_<baseline>`: by how much the network is better.

    Raises:
        UserError: the scores are malformed, or some model lacks a fold.
    """
    network, baselines, folds = _shares(scores)
    rates = _with_interval("cross_validated_accuracy", list(network.values()), folds, lowest=0.0)
    for name, shares in baselines.items():
        lead = [network[place] - share for place, share in shares.items()]
        rates |= _with_interval(f"{_label(name)}_accuracy", list(shares.values()), folds, lowest=0.0)
        rates |= _with_interval(f"lead_over_{_label(name)}", lead, folds, lowest=-1.0)
    with executor.whole(metrics) as aside:
        aside.write_text(json.dumps(rates, indent=2) + "\n", encoding="utf-8")
    with executor.whole(report) as aside:
        aside.write_text(_page(network, baselines, rates), encoding="utf-8")
    return rates


def interval(values: Sequence[float], folds: int) -> tuple[float, float]:
    """The corrected 95 % interval of the mean of a repeated cross-validation.

    Args:
        values: one a fold and seed.
        folds: of each repetition.

    Returns:
        The low and the high end; the mean twice when there is one value only.
    """
    from scipy.stats import t

    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, mean
    variance = (1 / len(values) + 1 / (folds - 1)) * statistics.variance(values)
    reach = float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * math.sqrt(variance)
    return mean - reach, mean + reach


def _with_interval(name: str, values: Sequence[float], folds: int, lowest: float) -> dict[str, float]:
    """The mean and its interval, cut at what a value can be: from `lowest` to 1."""
    low, high = interval(values, folds)
    return {name: statistics.fmean(values), f"{name}_low": max(lowest, low), f"{name}_high": min(1.0, high)}


def _shares(scores: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[Shares, dict[str, Shares], int]:
    """The network's shares, each baseline's, and the number of folds."""
    network: Shares = {}
    baselines: dict[str, Shares] = {}
    folds = 0
    try:
        for score in itertools.chain.from_iterable(scores):
            shares = baselines.setdefault(score["model"], {}) if score["baseline"] else network
            shares[score["seed"], score["fold"]] = score["right"] / score["rows"]
            folds = score["folds"]
    except (KeyError, TypeError) as error:
        raise UserError(f"--scores: not what cross_validate finds ({error!r})") from None
    complete = {(seed, fold) for seed, _ in network for fold in range(folds)}
    if not network or any(shares.keys() != complete for shares in (network, *baselines.values())):
        raise UserError(f"--scores: {len(scores)} lists do not hold all {folds} folds of all models")
    return network, baselines, folds


def _label(name: str) -> str:
    return name.replace(" ", "_")


def _page(network: Shares, baselines: Mapping[str, Shares], rates: Mapping[str, float]) -> str:
    from images.trainer.report import page

    repeats = len({seed for seed, _ in network})
    folds = len(network) // repeats
    subtitle = f"{folds}-fold cross-validation, divided anew {repeats} times; the same folds for all"
    sections = [_leads(baselines, rates), _folds(network, baselines)]
    return page("Does the network earn its place?", subtitle, _numbers(baselines, rates), sections)


def _numbers(baselines: Mapping[str, Shares], rates: Mapping[str, float]) -> list[Number]:
    from images.trainer.report import Number, percent

    def number(title: str, key: str) -> Number:
        detail = f"95 %: {100 * rates[f'{key}_low']:.1f} to {percent(rates[f'{key}_high'])}"
        return Number(title, percent(rates[key]), detail)

    others = [number(name.capitalize(), f"{_label(name)}_accuracy") for name in baselines]
    return [number("Network", "cross_validated_accuracy"), *others]


def _leads(baselines: Mapping[str, Shares], rates: Mapping[str, float]) -> Section:
    from images.trainer.report import Section

    rows = []
    for name in baselines:
        lead, low, high = (100 * rates[f"lead_over_{_label(name)}{end}"] for end in ("", "_low", "_high"))
        verdict = "better" if low > 0 else "worse" if high < 0 else "no difference shown"
        rows.append((name, f"{lead:+.1f}", f"{low:+.1f} to {high:+.1f}", verdict))
    note = "By how many percentage points the network is right more often, over the same folds."
    columns = ("baseline", "lead", "95 %", "so it is")
    return Section("The network against the baselines", note, None, columns, rows)


def _folds(network: Shares, baselines: Mapping[str, Shares]) -> Section:
    from images.trainer.report import Section, percent

    models = {"network": network, **baselines}
    rows = [
        (f"{seed + 1}.{fold + 1}", *(percent(shares[seed, fold]) for shares in models.values()))
        for seed, fold in sorted(network)
    ]
    return Section("Each fold", "Division and fold.", None, ("fold", *models), rows)


def main(argv: Sequence[str]) -> None:
    """The command line; `--help` lists the flags."""
    parser = argparse.ArgumentParser(prog="python -m images.trainer.compare", description=__doc__, allow_abbrev=False)
    parser.add_argument("--scores", required=True, help="JSON list of what cross_validate wrote, one list a fold")
    parser.add_argument("--metrics", required=True, help="the JSON file to write")
    parser.add_argument("--report", required=True, help="the HTML file to write")
    parser.add_argument("--executor_input", help="KFP's ExecutorInput; leave it out by hand")
    arguments = parser.parse_args(argv)
    output = ExecutorOutput(arguments.executor_input)
    rates = compare(_parsed(arguments.scores), arguments.metrics, arguments.report)
    output.log("metrics", **rates, digest=executor.digest(arguments.metrics))
    output.log("report", digest=executor.digest(arguments.report))
    output.write()
    print("  ".join(f"{name} {rate:.4g}" for name, rate in rates.items() if not name.endswith(("_low", "_high"))))


def _parsed(scores: str) -> list[list[Mapping[str, Any]]]:
    try:
        found: Any = json.loads(scores)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(fold, list) for fold in found):
        raise UserError("--scores: must be a JSON list of lists")
    return found


if __name__ == "__main__":
    executor.run(main)
