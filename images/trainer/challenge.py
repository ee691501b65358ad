"""The challenge stage: a new model and the one that serves answer the same test examples; is the new one to serve?

    python -m images.trainer.challenge --system=iris --examples=FOLDER --challenger=FOLDER --champion_model=FOLDER …

Both are SavedModels, asked as clients ask them, by this code; what they answer is compared in `images.trainer.gate`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from images import executor
from images.executor import ExecutorOutput, UserError
from images.trainer import roles
from images.trainer.gate import Errors, Rule, Verdict, judge

if TYPE_CHECKING:
    import numpy as np


BATCH = 256


def challenge(
    system: str, examples: str, challenger: str, champion: str | None, rule: Rule, verdict: str, report: str
) -> Verdict:
    """Compares two models.

    Args:
        system: such as "crnn".
        examples: the folder that ingest wrote; only `test/` is read.
        challenger: folder of a SavedModel.
        champion: folder of another; None if none serves yet.
        rule: when the challenger passes.
        verdict: the JSON file to write: `passed`, `reason`, and the numbers.
        report: the HTML file to write.

    Raises:
        UserError: an input is missing or malformed, or the models do not take what examples hold.
    """
    role = roles.load(system, "release")
    truths, features, own = _answers(system, examples, challenger, "challenger")
    other = None
    if champion is not None:
        other = role.errors(truths, _answers(system, examples, champion, "champion_model")[2])
    groups = role.groups(features) if hasattr(role, "groups") else None
    errors: Errors = role.errors(truths, own)
    metric = str(getattr(role, "METRIC", "") or roles.load(system, "metrics").MONITOR)
    found = judge(metric, errors, other, groups, role.slices(truths, features), rule)
    content = {"passed": found.passed, "reason": found.reason, **found.numbers}
    with executor.whole(verdict) as aside:
        aside.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    with executor.whole(report) as aside:
        aside.write_text(_page(metric, found, rule, len(truths)), encoding="utf-8")
    return found


def _answers(
    system: str, folder: str, model: str, flag: str
) -> tuple[list[Any], dict[str, list[Any]], dict[str, np.ndarray]]:
    """The truths, the features other than pictures, and what a SavedModel answers, of each test example."""
    import numpy as np
    import tensorflow as tf

    from images.trainer import examples

    if not (Path(model) / "saved_model.pb").is_file():
        raise UserError(f"--{flag}={model}: no saved_model.pb there; give the folder that export wrote")
    schema = examples.schema(folder, system)
    role, release = roles.load(system, "model"), roles.load(system, "release")
    loaded = tf.saved_model.load(model)
    ask = loaded.signatures["serving_default"]
    takes = ask.structured_input_signature[1]
    truths: list[Any] = []
    features: dict[str, list[Any]] = {}
    answers: dict[str, list[np.ndarray]] = {}
    for batch in examples.batches(folder, schema, "test", BATCH):
        inputs = {"key": batch["key"], **release.requests(batch)}
        if inputs.keys() != takes.keys():
            raise UserError(f"--{flag}={model}: takes {', '.join(sorted(takes))}, not {', '.join(sorted(inputs))}")
        for name, values in ask(**inputs).items():
            answers.setdefault(name, []).append(values.numpy())
        truths += role.truths(batch, schema).numpy().tolist()
        for name, values in batch.items():
            if len(values.shape) == 1:
                features.setdefault(name, []).extend(values.numpy())
    return truths, features, {name: np.concatenate(parts) for name, parts in answers.items()}


def _page(metric: str, verdict: Verdict, rule: Rule, count: int) -> str:
    from images.trainer.report import Number, Section, page

    numbers = [Number("Verdict", "passed" if verdict.passed else "refused", verdict.reason)]
    numbers.append(Number(f"Challenger, {metric}", f"{verdict.numbers['challenger_error']:.4f}", "lower is better"))
    sections = []
    if "champion_error" in verdict.numbers:
        difference, high = verdict.numbers["difference"], verdict.numbers["difference_high"]
        detail = f"at worst {high:+.4f} ({100 * (1 - rule.level):g} %); margin {rule.margin:.4f}"
        numbers.append(
            Number(f"Champion, {metric}", f"{verdict.numbers['champion_error']:.4f}", "on the same examples")
        )
        numbers.append(Number("Difference", f"{difference:+.4f}", detail))
        note = (
            "How the difference of the error rates is distributed when the test examples are drawn anew; "
            "to the right the challenger is worse. The lines are the end of the interval and the margin."
        )
        sections.append(Section("Challenger less champion", note, _histogram(verdict, rule)))
    columns = ("slice", "examples", "challenger", "champion", "difference")
    note = f"No slice may be worse by more than {rule.slice_margin:.4g}."
    sections.append(Section("Guarded slices", note, None, columns, [_row(each) for each in verdict.slices]))
    return page("Challenger against champion", f"{count:,} test examples, the same code for both", numbers, sections)


def _row(entry: tuple[str, int, float, float]) -> tuple[str, ...]:
    name, count, own, other = entry
    beside = ("none", "") if other != other else (f"{other:.4f}", f"{own - other:+.4f}")
    return (name, f"{count:,}", f"{own:.4f}", *beside)


def _histogram(verdict: Verdict, rule: Rule) -> Any:
    from images.trainer.report import SERIES, plots

    def draw(axes: Any) -> None:
        axes.hist(verdict.differences, bins=60, color=SERIES[0], alpha=0.5)
        marks = (("interval", verdict.numbers["difference_high"]), ("margin", rule.margin))
        for colour, (name, value) in zip(SERIES, marks, strict=True):
            axes.axvline(value, color=colour, label=name, linewidth=2)
        axes.set_xlabel("difference of the error rates")
        axes.legend(frameon=False)

    return plots([("Resamples", draw)])


def main(argv: Sequence[str]) -> None:
    """The command line; `--help` lists the flags."""
    parser = argparse.ArgumentParser(prog="python -m images.trainer.challenge", description=__doc__, allow_abbrev=False)
    parser.add_argument("--system", required=True)
    parser.add_argument("--examples", required=True, help="the folder that ingest wrote")
    parser.add_argument("--challenger", required=True, help="folder of a SavedModel that export wrote")
    parser.add_argument("--champion_model", required=True, help="folder of the SavedModel that serves")
    parser.add_argument("--champion", default="", help="its version; empty: none serves, only the highest error counts")
    parser.add_argument("--highest_error", type=float, required=True, help="the error rate that a model may have")
    parser.add_argument("--margin", type=float, required=True, help="by how much the error rate may be worse")
    parser.add_argument("--slice_margin", type=float, required=True, help="the same, on any slice")
    parser.add_argument("--level", type=float, default=0.05, help="of those worse by the margin, how many may pass")
    parser.add_argument("--verdict", required=True, help="the JSON file to write")
    parser.add_argument("--report", required=True, help="the HTML file to write")
    parser.add_argument("--executor_input", help="KFP's ExecutorInput; leave it out by hand")
    flags = vars(parser.parse_args(argv))
    output = ExecutorOutput(flags.pop("executor_input"))
    rule = Rule(**{field.name: flags.pop(field.name) for field in dataclasses.fields(Rule)})
    if not 0 < rule.level < 0.5:
        raise UserError(f"--level={rule.level}: must be above 0 and below 0.5")
    serving, folder = flags.pop("champion"), flags.pop("champion_model")
    found = challenge(champion=folder if serving else None, rule=rule, **flags)
    output.log("verdict", **_finite(found.numbers), reason=found.reason)
    output.log("report", digest=executor.digest(flags["report"]))
    output.write()
    print(f"{'passed' if found.passed else 'refused'}: {found.reason}")


def _finite(numbers: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in numbers.items() if abs(value) < float("inf")}


if __name__ == "__main__":
    executor.run(main)
