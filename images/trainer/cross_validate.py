"""The cross-validation stage: one fold of a small table, learned by the network and by the baselines beside it.

    python -m images.trainer.cross_validate --system=iris --examples=FOLDER --hyperparameters=FILE --fold=0 --scores=F

All examples take part, whatever split they are in. Each seed divides them anew, each fold holding its share of every
class; what is learned of a column's distribution is learned from the other folds only.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from images import executor
from images.executor import UserError
from images.trainer import records, roles
from images.trainer.distributions import distribution
from images.trainer.train import read_hyperparameters


def cross_validate(
    system: str, examples: str, hyperparameters: str, fold: int, folds: int, seeds: int, epochs: int, scores: str
) -> list[dict[str, Any]]:
    """Trains on all folds but one, and answers that one.

    Args:
        system: a system of tables, such as "iris".
        examples: the folder that ingest wrote.
        hyperparameters: a JSON file, as tune writes it.
        fold: which one is answered, from 0.
        folds: how many there are.
        seeds: how often all is done, each time with another division and other initial weights.
        epochs: passes over the training rows; none is held out to stop earlier by.
        scores: the JSON file to write.

    Returns:
        What the file holds: `{"model", "baseline", "seed", "fold", "folds", "right", "rows"}` of each model and seed.

    Raises:
        UserError: an input is missing or malformed.
    """
    if folds < 2 or not 0 <= fold < folds:
        raise UserError(f"--fold={fold} --folds={folds}: give at least 2 folds, and one of them counting from 0")
    if seeds < 1 or epochs < 1:
        raise UserError(f"--seeds={seeds} --epochs={epochs}: give at least 1 of each")
    chosen = read_hyperparameters(system, hyperparameters)
    schema, numbers, labels = _table(system, examples)
    from sklearn.model_selection import StratifiedKFold

    found = []
    for seed in range(seeds):
        division = StratifiedKFold(folds, shuffle=True, random_state=seed).split(numbers, labels)
        training, held_out = list(division)[fold]
        network = _network_answers(system, chosen, schema, numbers, labels, training, held_out, seed, epochs)
        answers = {("network", False): network}
        for name, baseline in roles.load(system, "baselines").baselines(seed).items():
            answers[name, True] = baseline.fit(numbers[training], labels[training]).predict(numbers[held_out])
        for (name, is_baseline), answer in answers.items():
            right = int((answer == labels[held_out]).sum())
            place = {"model": name, "baseline": is_baseline, "seed": seed, "fold": fold, "folds": folds}
            found.append({**place, "right": right, "rows": len(held_out)})
            print(
                f"fold {fold + 1}/{folds}  seed {seed + 1}/{seeds}  {name}: {right} of {len(held_out)} right",
                flush=True,
            )
    with executor.whole(scores) as aside:
        aside.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return found


def _table(system: str, examples: str) -> tuple[dict[str, Any], Any, Any]:
    """The schema, the numbers [rows, columns] and the classes [rows] of all splits."""
    import numpy as np

    try:
        schema = json.loads((Path(examples) / "schema.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"--examples={examples}: no schema.json there; give the folder that ingest wrote") from None
    if schema.get("system") != system or "numbers" not in schema.get("features", {}):
        raise UserError(f"--examples={examples}: no table of {system}")
    rows = [row for path in sorted(Path(examples).glob("*/part-*.tfrecord")) for row in records.read(path.read_bytes())]
    numbers = np.array([row["numbers"] for row in rows], np.float32)
    return schema, numbers, np.array([row["label"][0] for row in rows])


def _network_answers(
    system: str,
    hyperparameters: Any,
    schema: dict[str, Any],
    numbers: Any,
    labels: Any,
    training: Any,
    held_out: Any,
    seed: int,
    epochs: int,
) -> Any:
    import keras
    import numpy as np

    from images.trainer.learning import optimizer

    keras.utils.set_random_seed(seed)
    model = roles.load(system, "model")
    columns = {name: distribution(numbers[training][:, index]) for index, name in enumerate(schema["columns"])}
    network = model.build(hyperparameters, {**schema, "columns": columns})
    steps = epochs * -(-len(training) // hyperparameters.batch_size)
    network.compile(optimizer(hyperparameters.learning_rate, steps), loss=model.loss())
    network.fit(
        numbers[training],
        labels[training],
        batch_size=hyperparameters.batch_size,
        epochs=epochs,
        shuffle=True,
        verbose=0,
    )
    return np.argmax(network.predict(numbers[held_out], verbose=0), axis=-1)


def main(argv: Sequence[str]) -> None:
    """The command line; `--help` lists the flags."""
    parser = argparse.ArgumentParser(
        prog="python -m images.trainer.cross_validate", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--system", required=True)
    parser.add_argument("--examples", required=True, help="the folder that ingest wrote")
    parser.add_argument("--hyperparameters", required=True, help="a JSON file of names and values")
    parser.add_argument("--fold", type=int, required=True, help="which fold is answered, from 0")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--scores", required=True, help="the JSON file to write")
    cross_validate(**vars(parser.parse_args(argv)))


if __name__ == "__main__":
    executor.run(main)
