"""The follow stage: evaluates a training's checkpoints while it goes on, and keeps the best of them.

Every epoch's weights are measured on the validation split by the system's full evaluation, of which training itself
knows only a cheap part. The measurements go to TensorBoard, with pictures, and to a table. When training has ended,
the weights with the highest score become the model. Killed and begun again, it goes on where it was; a training that
is cut off and resumes is waited for.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from images import executor
from images.executor import ExecutorOutput, UserError
from images.trainer import roles
from images.trainer.published import DONE, FAILED, Published, State, summary

FOLDER, TABLE, LOGS = "followed", "evaluations.jsonl", "logs"
LOOK_SECONDS = 1.0
GRACE_SECONDS = 90.0
"""How long a training that has failed may take to be begun again."""


def follow(
    system: str,
    examples: str,
    hyperparameters: str,
    checkpoints: str,
    model: str,
    evaluations: str,
    patience: float,
    grace: float = GRACE_SECONDS,
) -> dict[str, Any]:
    """Follows a training to its end.

    Args:
        system: such as "detection"; its `metrics.CHOSEN_BY` names the score by which epochs are compared.
        examples: the folder that ingest wrote.
        hyperparameters: the JSON file that the training has.
        checkpoints: the folder in which it publishes its epochs (see `published`).
        model: the folder to write: what train writes, with the weights of the best epoch, and the scores in its tables.
        evaluations: the CSV file to write, a row an epoch.
        patience: seconds without anything new after which training is given up.
        grace: seconds after which a training that has failed, and has not begun again, is given up.

    Returns:
        What training said of itself, with `best_epoch`, and the scores of that epoch as `val_<name>`.

    Raises:
        UserError: an input is missing or malformed; training never began, failed, or says nothing any more.
    """
    from images.trainer.train import read_hyperparameters

    chosen = read_hyperparameters(system, hyperparameters)
    published = Published(checkpoints)
    news = _News(published, patience, grace)
    follower: _Follower | None = None
    while True:
        state = news.state()  # Before looking for epochs: all that there will be were there when it was done.
        for epoch in published.epochs():
            follower = follower or _Follower(system, examples, chosen, published)
            if follower.measured(epoch):
                news.heard()
        if state is not None and state.name == DONE:
            break
        news.check()
        time.sleep(LOOK_SECONDS)
    if follower is None or not follower.rows:
        raise UserError(f"--checkpoints={checkpoints}: training is done, but has published no epoch")
    return follower.finish(model, evaluations)


class _News:
    """When something was last heard of a training.

    Args:
        published: what it leaves.
        patience: seconds that it may say nothing.
        grace: seconds that it may stay failed.
    """

    def __init__(self, published: Published, patience: float, grace: float) -> None:
        self._published, self._patience, self._grace = published, patience, grace
        self._heard = time.monotonic()
        self._last: State | None = None

    def heard(self) -> None:
        """Something was."""
        self._heard = time.monotonic()

    def state(self) -> State | None:
        """How far training is."""
        found = self._published.state()
        if found != self._last:
            self._last = found
            self.heard()
        return found

    def check(self) -> None:
        """Raises UserError when there is no more hope."""
        silent = time.monotonic() - self._heard
        if self._last is not None and self._last.name == FAILED and silent > self._grace:
            raise UserError(f"training failed: {self._last.reason}")
        if silent > self._patience:
            missing = "an epoch" if self._last else "a sign that training has begun"
            raise UserError(
                f"nothing new in {self._published.folder} for {silent:.0f} s, {missing} was awaited: "
                "the trainer has died or never began; see its log, or give a longer patience"
            )


class _Follower:
    """The network, and what was measured of it so far.

    Args:
        system: such as "detection".
        examples: the Examples.
        chosen: the hyperparameters.
        published: what training leaves.
    """

    def __init__(self, system: str, examples: str, chosen: Any, published: Published) -> None:
        # TensorFlow is worth it only now that there is something to measure.
        import keras

        from images.trainer.answering import Answering
        from images.trainer.examples import schema

        keras.config.set_dtype_policy("float32")
        self._published = published
        self._metrics, self._report = roles.load(system, "metrics"), roles.load(system, "report")
        self._network = roles.load(system, "model").build(chosen, schema(examples, system))
        self._answering = Answering(self._network, system, examples, "validation")
        self._chosen = chosen
        self._folder = published.folder / FOLDER
        self._folder.mkdir(parents=True, exist_ok=True)
        self.rows = {int(row["epoch"]): row for row in _lines(self._folder / TABLE)}

    def measured(self, epoch: int) -> bool:
        """Measures an epoch, unless that is done; tells whether it was done now."""
        if epoch in self.rows or (weights := self._published.weights(epoch)) is None:
            return False
        self._network.set_weights(weights)
        truths, answers, features = self._answering()
        rates: dict[str, float] = self._metrics.evaluate(truths, answers, features)
        _write_logs(self._folder / LOGS, epoch, rates, self._report.summaries(truths, answers, features))
        row = {"epoch": epoch, **rates}
        with (self._folder / TABLE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.rows[epoch] = row
        print(
            f"epoch {epoch}  " + "  ".join(f"{name} {rates[name]:.4f}" for name in self._metrics.SHOWN if name in rates)
        )
        return True

    def finish(self, model: str, evaluations: str) -> dict[str, Any]:
        """Writes the model and the table; see `follow`."""
        rows = [self.rows[epoch] for epoch in sorted(self.rows)]
        best = max(rows, key=lambda row: (row.get(self._metrics.CHOSEN_BY, 0.0), -row["epoch"]))
        weights = self._published.weights(best["epoch"])
        assert weights is not None
        self._network.set_weights(weights)
        found = summary(self._published.finished) | {"best_epoch": best["epoch"]}
        found |= {f"val_{name}": best[name] for name in self._metrics.SHOWN if name in best}
        with executor.whole(model) as aside:
            shutil.copytree(self._published.finished, aside)
            self._network.save(aside / "model.keras")
            for events in sorted((self._folder / LOGS).iterdir()):
                shutil.copyfile(events, aside / "logs" / events.name)
            _extend(aside / "history.csv", self.rows, self._metrics.SHOWN)
            (aside / "training.json").write_text(json.dumps(found, indent=2) + "\n")
        with executor.whole(evaluations) as aside:
            aside.write_text(_table(rows), encoding="utf-8")
        print(f"the best is epoch {best['epoch']} of {len(rows)}")
        return found


def _lines(table: Path) -> list[dict[str, Any]]:
    """The rows measured before; one that a kill cut short is measured again."""
    rows = []
    for line in table.read_text(encoding="utf-8").splitlines() if table.is_file() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()} for row in rows
    )
    return buffer.getvalue()


def _extend(history: Path, rows: Mapping[int, Mapping[str, Any]], names: Sequence[str]) -> None:
    """Adds the scores to the learning curve, as `val_<name>`."""
    with history.open(newline="", encoding="utf-8") as file:
        epochs = list(csv.DictReader(file))
    for epoch in epochs:
        scores = rows.get(int(epoch["epoch"]), {})
        epoch.update({f"val_{name}": f"{scores.get(name, 0.0):.6g}" for name in names})
    history.write_text(_table(epochs), encoding="utf-8")


def _write_logs(folder: Path, epoch: int, rates: Mapping[str, float], pictures: Sequence[Any]) -> None:
    """Writes what TensorBoard shows; `tf.summary.image` needs TensorBoard installed, writing does not."""
    import tensorflow as tf
    from PIL import Image

    def metadata(plugin: str) -> Any:
        return tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": plugin})

    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        for name, rate in rates.items():
            tf.summary.write(
                f"validation/{name}", tf.constant(rate, tf.float32), step=epoch, metadata=metadata("scalars")
            )
        files = []
        for pixels in pictures:
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            files.append(buffer.getvalue())
        if files:
            height, width = pictures[0].shape[:2]
            shown = tf.constant([str(width).encode(), str(height).encode(), *files])
            tf.summary.write("validation-pictures", shown, step=epoch, metadata=metadata("images"))
    writer.close()


def main(argv: Sequence[str]) -> None:
    """The command line; `--help` lists the flags."""
    parser = argparse.ArgumentParser(prog="python -m images.trainer.follow", description=__doc__, allow_abbrev=False)
    parser.add_argument("--system", required=True)
    parser.add_argument("--examples", required=True, help="the folder that ingest wrote")
    parser.add_argument("--hyperparameters", required=True, help="the JSON file that the training has")
    parser.add_argument("--checkpoints", required=True, help="the folder in which the training publishes its epochs")
    parser.add_argument("--patience", type=float, default=3600.0, help="seconds without anything new to wait, at most")
    parser.add_argument("--grace", type=float, default=GRACE_SECONDS, help="seconds that a failed training may stay so")
    parser.add_argument("--model", required=True, help="the folder to write")
    parser.add_argument("--evaluations", required=True, help="the CSV file to write")
    parser.add_argument("--executor_input", help="KFP's ExecutorInput; leave it out by hand")
    arguments = vars(parser.parse_args(argv))
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever the network is trained with
    output = ExecutorOutput(arguments.pop("executor_input"))
    found = follow(**arguments)
    output.log("model", digest=executor.digest(arguments["model"]), **found)
    output.log("evaluations", digest=executor.digest(arguments["evaluations"]))
    output.write()


if __name__ == "__main__":
    executor.run(main)
