"""One trial of a tuning job: a short training that reports as it learns, and stops when it is behind or told to."""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from images import executor
from images.executor import UserError
from images.trainer import hyperparameters as spaces
from images.trainer import rungs

METRIC_FILE = "/var/hypertune/output.metric"
FIRST_REPORT = rungs.FIRST
"""The epoch from which on a trial reports: at first all trials look alike, and the median rule, which compares with
running averages, would drop those that are slow to start, often the best among them."""


def trial(
    system: str,
    examples: str,
    hyperparameters: Any,
    epochs: int,
    seed: int,
    limit: int | None = None,
    shared: str | None = None,
) -> None:
    """Trains for a few epochs and reports the validation loss and error rate after each from the third on.

    It ends early when it is behind the other trials of its search at a rung.

    Args:
        system: such as "crnn".
        examples: the folder that ingest wrote.
        hyperparameters: an instance of the system's `Hyperparameters`.
        epochs: of the whole trial; also the length of the learning-rate schedule.
        seed: of everything random.
        limit: at most so many training examples; None: all. A network that costs more an example than others of its
            system sees fewer (`trial_share` of its hyperparameters), so that trials are compared at equal cost.
        shared: the folder where the trials of the search compare themselves; None: it is not of a search.

    Raises:
        UserError: an input is missing or malformed, or the loss is no longer a number: on Vertex an
            infeasible trial.
    """
    if epochs < 1:
        raise UserError(f"--epochs={epochs}: give at least 1")
    if limit is not None and limit < 1:
        raise UserError(f"--limit={limit}: give at least 1, or leave it out")
    # From here on the inputs are sound and TensorFlow is worth it.
    from images.trainer import examples as reading
    from images.trainer.learning import Learner

    seen = reading.count(reading.schema(examples, system), "train", limit)
    seen = math.ceil(seen * getattr(hyperparameters, "trial_share", 1.0))
    learner = Learner(system, examples, hyperparameters, epochs, seed, seen)
    lowest = math.inf
    for number in range(1, epochs + 1):
        epoch = learner.learn(number)
        if number >= min(FIRST_REPORT, epochs):
            report(number, {"val_loss": epoch.val_loss, learner.monitor: epoch.error})
        print(
            f"epoch {number}/{epochs}  val_loss {epoch.val_loss:.3f}  "
            f"{learner.monitor} {epoch.error:.4f}  {epoch.seconds:.0f} s"
        )
        lowest = min(lowest, epoch.val_loss)
        if shared and rungs.is_rung(number, epochs):
            behind, place = rungs.compare(Path(shared), _id(), number, lowest)
            print(f"{place}: {'ending here' if behind else 'going on'}")
            if behind:
                return


def report(step: int, metrics: dict[str, float]) -> None:
    """Reports metrics to the tuning job: one JSON line, in the format of cloudml-hypertune.

    Args:
        step: the epoch, from 1.
        metrics: name -> value.

    Source: github.com/GoogleCloudPlatform/cloudml-hypertune, hypertune/hypertune.py.
    """
    path = Path(os.environ.get("CLOUD_ML_HP_METRIC_FILE", METRIC_FILE))
    line = {
        "timestamp": time.time(),
        "trial": _id(),
        **{name: str(value) for name, value in metrics.items()},
        "global_step": str(step),
        "checkpoint_path": "",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _id() -> str:
    return os.environ.get("CLOUD_ML_TRIAL_ID", "0")


def main(argv: Sequence[str]) -> None:
    """The command line; `--help` lists the flags. Every other `--name=value` is a hyperparameter."""
    signal.signal(signal.SIGTERM, _stopped_early)
    parser = argparse.ArgumentParser(
        prog="python -m images.trainer.trial",
        description=__doc__,
        epilog="Every other --name=value is a hyperparameter of the system.",
        allow_abbrev=False,
    )
    parser.add_argument("--system", required=True)
    parser.add_argument("--examples", required=True, help="the folder that ingest wrote")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=int, help="train on at most so many examples")
    parser.add_argument("--shared", help="folder where the trials of a search compare themselves")
    arguments, rest = parser.parse_known_args(argv)
    chosen = spaces.parse(spaces.of(arguments.system), _values(rest))
    trial(
        arguments.system,
        arguments.examples,
        chosen,
        arguments.epochs,
        arguments.seed,
        arguments.limit,
        arguments.shared,
    )


def _values(flags: Sequence[str]) -> dict[str, spaces.Value]:
    values: dict[str, spaces.Value] = {}
    for flag in flags:
        name, separator, value = flag.removeprefix("--").partition("=")
        if not flag.startswith("--") or not separator:
            raise UserError(f"{flag}: not understood; give each hyperparameter as --name=value")
        values[name] = value
    return values


def _stopped_early(*_: object) -> None:
    os._exit(0)  # All that was reported is on disk; unwinding TensorFlow would only take time and print warnings.


if __name__ == "__main__":
    executor.run(main)
