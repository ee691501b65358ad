"""The evaluate stage: a trained model on the test split, as numbers and as a report to look at."""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from images import executor
from images.executor import ExecutorOutput, UserError
from images.trainer import roles
from images.trainer.cost import COLUMNS, taken

if TYPE_CHECKING:
    from images.trainer.report import Number, Section


def evaluate(
    system: str,
    examples: str,
    model: str,
    metrics: str,
    report: str,
    baseline: str | None = None,
    prices: str | None = None,
) -> dict[str, Any]:
    """Measures a model on the test split.

    Args:
        system: such as "crnn".
        examples: the folder that ingest wrote.
        model: the folder that train wrote.
        metrics: the JSON file to write, name -> number.
        report: the HTML file to write.
        baseline: another such folder; its scores are put beside the model's.
        prices: what machines cost, as JSON: `machines` and `accelerators`, US dollars an hour by type, the `date` and
            the `source` of the table. With it the report shows what the training took.

    Returns:
        The artifacts' metadata: `metrics` is what the metrics file holds, the baseline's scores as
        `baseline_<name>`; `confusion`, of a classifier, is its
        confusion matrix as KFP's ClassificationMetrics hold it.

    Raises:
        UserError: an input is missing or malformed.
    """
    history = _history(model)
    from images.trainer.answering import read
    from images.trainer.report import page

    truths, answers, features = read(system, examples, model)

    measured = roles.load(system, "metrics")
    rates: dict[str, float] = measured.evaluate(truths, answers, features)
    shown = roles.load(system, "report")
    sections = shown.sections(rates, truths, answers, features, history)
    numbers = shown.numbers(rates)
    if baseline is not None:
        beside = measured.evaluate(*read(system, examples, baseline))
        sections.append(_comparison(model, numbers, baseline, shown.numbers(beside)))
        rates |= {f"baseline_{name}": rate for name, rate in beside.items() if not name.startswith("recall_")}
    if prices is not None:
        sections.append(_cost(json.loads(prices), model, *([baseline] if baseline is not None else [])))
    subtitle = ", ".join(f"{name} {value}" for name, value in _hyperparameters(model).items())
    html = page(shown.TITLE, subtitle, numbers, sections)
    with executor.whole(metrics) as aside:
        aside.write_text(json.dumps(rates, indent=2) + "\n", encoding="utf-8")
    with executor.whole(report) as aside:
        aside.write_text(html, encoding="utf-8")
    if not hasattr(measured, "confusion"):
        return {"metrics": rates}
    classes = json.loads((Path(examples) / "schema.json").read_text(encoding="utf-8"))["classes"]
    matrix = measured.confusion(truths, answers, classes)
    specs, rows = [{"displayName": name} for name in classes], [{"row": row} for row in matrix]
    return {"metrics": rates, "confusion": {"confusionMatrix": {"annotationSpecs": specs, "rows": rows}}}


def _comparison(model: str, numbers: Sequence[Number], baseline: str, others: Sequence[Number]) -> Section:
    """The numbers of both models, and what they were trained with."""
    from images.trainer.report import Section

    rows = [(this.name, this.value, other.value) for this, other in zip(numbers, others, strict=True)]
    chosen, beside = _hyperparameters(model), _hyperparameters(baseline)
    rows += [(name, chosen.get(name, "-"), beside.get(name, "-")) for name in {**chosen, **beside}]
    note = "Another network, on the same examples."
    return Section("Beside the baseline", note, None, ("", "this", "baseline"), rows)


def _cost(prices: Mapping[str, Any], *models: str) -> Section:
    """What each of the trainings took."""
    from images.trainer.report import Section

    columns = ("", *COLUMNS)
    rows = [(name, *taken(model, prices).cells()) for name, model in zip(("this", "baseline"), models, strict=False)]
    note = f"Prices of {prices['date']} from {prices['source']}. `make scale` compares more workers with one."
    return Section("What the training took", note, None, columns, rows)


def _hyperparameters(model: str) -> dict[str, str]:
    chosen = json.loads((Path(model) / "hyperparameters.json").read_text(encoding="utf-8"))
    return {name.replace("_", " "): str(value) for name, value in chosen.items()}


def _history(model: str) -> dict[str, list[float]]:
    path = Path(model) / "history.csv"
    if not path.is_file():
        raise UserError(f"--model={model}: no history.csv there; give the folder that train wrote")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def main(argv: Sequence[str]) -> None:
    """The command line; `--help` lists the flags."""
    parser = argparse.ArgumentParser(prog="python -m images.trainer.evaluate", description=__doc__, allow_abbrev=False)
    parser.add_argument("--system", required=True)
    parser.add_argument("--examples", required=True, help="the folder that ingest wrote")
    parser.add_argument("--model", required=True, help="the folder that train wrote")
    parser.add_argument("--baseline", help="another such folder, to compare with")
    parser.add_argument("--prices", help="JSON of what machines cost, to show what the training took")
    parser.add_argument("--metrics", required=True, help="the JSON file to write")
    parser.add_argument("--report", required=True, help="the HTML file to write")
    parser.add_argument("--executor_input", help="KFP's ExecutorInput; leave it out by hand")
    arguments = vars(parser.parse_args(argv))
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever the network was trained with
    output = ExecutorOutput(arguments.pop("executor_input"))
    measured = evaluate(**arguments)
    rates = measured.pop("metrics")
    output.log("metrics", **rates, digest=executor.digest(arguments["metrics"]))
    output.log("report", digest=executor.digest(arguments["report"]))
    for name, metadata in measured.items():
        output.log(name, **metadata)
    output.write()
    print("  ".join(f"{name} {rate:.4g}" for name, rate in rates.items()))


if __name__ == "__main__":
    executor.run(main)
