"""The accelerators stage: the same training on two of them, compared in time, cost, scores and answers."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from images import executor
from images.executor import ExecutorOutput
from images.trainer import roles
from images.trainer.cost import COLUMNS, taken

NAMES = ("first", "second")


def accelerators(
    system: str, examples: str, first: str, second: str, prices: str, metrics: str, report: str
) -> dict[str, float]:
    """Asks both models about the test split, and puts side by side what they took.

    Args:
        system: such as "ddsm": one whose answer is one of a few classes.
        examples: the folder that ingest wrote.
        first: the folder that train wrote on one accelerator.
        second: the same of the other.
        prices: what machines cost, as JSON (see `cost.taken`).
        metrics: the JSON file to write.
        report: the HTML file to write.

    Returns:
        What the metrics file holds: `same_answer`, the share of examples to which both give the same class;
        `probability_difference`, the mean over all probabilities; `speed_up`, the first's time over the second's; and
        `cost_ratio`, likewise, where the prices are known.

    Raises:
        UserError: an input is missing or malformed.
    """
    from images.trainer.answering import read
    from images.trainer.report import Number, Section, page, percent

    table = json.loads(prices)
    models = (first, second)
    answered = [read(system, examples, model) for model in models]
    took = [taken(model, table) for model in models]
    measured = roles.load(system, "metrics")
    scores = [measured.evaluate(*each) for each in answered]
    answers = [each[1] for each in answered]
    found = {
        "same_answer": float(np.mean(answers[0]["class"] == answers[1]["class"])),
        "probability_difference": float(np.mean(np.abs(answers[0]["probabilities"] - answers[1]["probabilities"]))),
        "speed_up": took[0].seconds / took[1].seconds,
    }
    if took[0].cost and took[1].cost:
        found["cost_ratio"] = took[0].cost / took[1].cost
    numbers = [
        Number("Same answer", percent(found["same_answer"]), "of the test examples"),
        Number("Probabilities differ by", f"{found['probability_difference']:.4f}", "on average"),
        Number("Time", f"{found['speed_up']:.2f}", "the first's over the second's"),
        Number("Cost", f"{found['cost_ratio']:.2f}" if "cost_ratio" in found else "not known", "likewise"),
    ]
    backends = [json.loads((Path(model) / "training.json").read_text(encoding="utf-8"))["backend"] for model in models]
    sections = [
        Section(
            "What each training took",
            f"Prices of {table['date']} from {table['source']}.",
            None,
            ("", "backend", *COLUMNS),
            [(*head, *each.cells()) for head, each in zip(zip(NAMES, backends, strict=True), took, strict=True)],
        ),
        Section(
            "Scores",
            "On the same test examples.",
            None,
            ("", *NAMES),
            [
                (name.replace("_", " "), *(f"{each[name]:.4g}" for each in scores))
                for name in scores[0]
                if name in scores[1] and not name.endswith(("_low", "_high"))
            ],
        ),
    ]
    with executor.whole(metrics) as aside:
        aside.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    with executor.whole(report) as aside:
        aside.write_text(page("The same training on two accelerators", system, numbers, sections), encoding="utf-8")
    return found


def main(argv: Sequence[str]) -> None:
    """The command line; `--help` lists the flags."""
    parser = argparse.ArgumentParser(
        prog="python -m images.trainer.accelerators", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--system", required=True)
    parser.add_argument("--examples", required=True, help="the folder that ingest wrote")
    parser.add_argument("--first", required=True, help="the folder that train wrote on one accelerator")
    parser.add_argument("--second", required=True, help="the folder that train wrote on the other")
    parser.add_argument("--prices", required=True, help="JSON of what machines cost")
    parser.add_argument("--metrics", required=True, help="the JSON file to write")
    parser.add_argument("--report", required=True, help="the HTML file to write")
    parser.add_argument("--executor_input", help="KFP's ExecutorInput; leave it out by hand")
    arguments = vars(parser.parse_args(argv))
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever the networks were trained with
    output = ExecutorOutput(arguments.pop("executor_input"))
    found = accelerators(**arguments)
    output.log("metrics", **found, digest=executor.digest(arguments["metrics"]))
    output.log("report", digest=executor.digest(arguments["report"]))
    output.write()
    print("  ".join(f"{name} {value:.4g}" for name, value in found.items()))


if __name__ == "__main__":
    executor.run(main)
