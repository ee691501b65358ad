"""The train stage: Examples and hyperparameters in, a Keras model with its learning curve out.

Stops early when validation brings nothing more, keeps the best epoch's weights, and after a kill goes
on from the last finished epoch as if nothing had happened. Where several machines train together, the chief decides
and writes; one that loses another ends too, so that all can be started again together.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from images import executor
from images.executor import ExecutorOutput, UserError
from images.trainer import hyperparameters as spaces
from images.trainer.initial_weights import located, take
from images.trainer.replicas import Replicas, machine, of_environment

if TYPE_CHECKING:
    from images.trainer.learning import Epoch, Learner
    from images.trainer.published import Published

ENDED_WITH_ANOTHER = 143
"""Exit code, that of SIGTERM: a process ended from outside is started again, one that fails is not."""

PATIENCE = 6  # epochs in which neither the validation error nor the validation loss has fallen


def train(
    system: str,
    examples: str,
    hyperparameters: str,
    epochs: int,
    seed: int,
    checkpoints: str,
    model: str,
    steps: int | None = None,
    streams: int | None = None,
    followed: str = "",
    initial_weights: str = "",
    examples_uri: str = "",
) -> dict[str, Any]:
    """Trains a network.

    Args:
        system: such as "crnn".
        examples: the folder that ingest wrote.
        hyperparameters: a JSON file, as tune writes it.
        epochs: at most so many; the learning-rate schedule ends with the last.
        seed: of everything random.
        checkpoints: a folder that outlives this process. A checkpoint there is used if it belongs to the same
            system, examples, hyperparameters, epochs, steps and seed.
        model: the folder to write: model.keras, history.csv, logs/, schema.json, hyperparameters.json, training.json
            (what this function returns).
        steps: at most so many; None: no limit but `epochs`.
        streams: into how many parts each batch is divided, as if so many machines trained together; None: as many as
            do, which TF_CONFIG says. Each of those reads its own shards; only the first of them writes.
        followed: a folder as `checkpoints`, in whose place it is then used, and in which every epoch is published for
            another task that follows this one (see `published`); empty: nobody does.
        initial_weights: a Keras file, gs:// or a path: layers of the same name and shapes begin with its weights;
            empty: all begin at random.
        examples_uri: the Examples as gs:// URI, which shows where buckets are mounted; needed for a gs:// file.

    Returns:
        `epochs` run, the `best_epoch`, and its `val_loss` and error rate; the last epoch's training `loss`; how
        many `workers` trained, the `backend`, the `seconds` that it took, in the last epoch `examples_per_second`, and
        where a job says so the `machine_type`. Empty for all but the chief.

    Raises:
        UserError: an input is missing or malformed.
    """
    if epochs < 1:
        raise UserError(f"--epochs={epochs}: give at least 1")
    if steps is not None and steps < 1:
        raise UserError(f"--steps={steps}: give at least 1, or leave it out")
    chosen = read_hyperparameters(system, hyperparameters)
    replicas = of_environment()
    settings = {
        "system": system,
        "examples": executor.digest(examples),
        "hyperparameters": spaces.to_dict(chosen),
        "epochs": epochs,
        "steps": steps,
        "streams": streams or replicas.count,
        "seed": seed,
        # The same training may run on two kinds of machine side by side.
        "machine": {**machine(), "backend": os.environ.get("KERAS_BACKEND", "tensorflow")},
    }
    beginning = located(initial_weights, examples, examples_uri) if initial_weights else None
    if beginning:
        settings["initial_weights"] = executor.digest(beginning)
    # From here on the inputs are sound and TensorFlow is worth it.
    from images.trainer.checkpoints import Checkpoint
    from images.trainer.learning import Learner
    from images.trainer.published import Published

    published = Published(followed) if followed and replicas.chief else None
    learner = Learner(system, examples, chosen, epochs, seed, steps=steps, replicas=replicas, streams=streams)
    if beginning:
        given, weighted = take(learner.network, beginning)
        print(f"{given} of {weighted} layers begin with the weights of {initial_weights}")
    try:
        history, best = _learn(learner, Checkpoint(followed or checkpoints, settings), replicas, published)
    except Exception as error:
        if learner.lost(error):
            _end_with_the_lost(error)
        if published:
            published.fail(str(error))
        raise
    if not replicas.chief:
        return {}
    summary = _summary(history, learner.monitor, replicas)
    with executor.whole(model) as aside:
        aside.mkdir()
        learner.save(best, aside / "model.keras")
        _write_history(history, learner.monitor, aside / "history.csv")
        _write_logs(history, learner.monitor, aside / "logs")
        shutil.copyfile(Path(examples) / "schema.json", aside / "schema.json")
        (aside / "hyperparameters.json").write_text(json.dumps(spaces.to_dict(chosen), indent=2) + "\n")
        (aside / "training.json").write_text(json.dumps(summary, indent=2) + "\n")
    if published:
        published.finish(model)
    return summary


def _summary(history: Sequence[Epoch], monitor: str, replicas: Replicas) -> dict[str, Any]:
    import keras

    best = min(history, key=_rank)
    return {
        "epochs": len(history),
        "best_epoch": best.epoch,
        "val_loss": best.val_loss,
        f"val_{monitor}": best.error,
        "loss": history[-1].loss,
        "workers": replicas.count,
        "backend": keras.backend.backend(),
        "seconds": sum(epoch.seconds for epoch in history),
        # The first epoch's includes compiling.
        "examples_per_second": history[-1].examples_per_second,
        **machine(),
    }


def _end_with_the_lost(error: Exception) -> NoReturn:
    """Ends this process at once: what waits for the lost replica would wait for ever."""
    reason = str(error).partition("\n")[0]
    print(f"error: another replica is gone, so this one ends as well ({reason})", file=sys.stderr, flush=True)
    os._exit(ENDED_WITH_ANOTHER)


def read_hyperparameters(system: str, file: str) -> Any:
    """Reads a hyperparameters file.

    Raises:
        UserError: it is not there, not a JSON object, or not in the system's space.
    """
    space = spaces.of(system)
    try:
        values = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--hyperparameters={file}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"--hyperparameters={file}: not JSON ({error})") from None
    if not isinstance(values, dict):
        raise UserError(f"--hyperparameters={file}: must be one JSON object of names and values")
    return spaces.parse(space, values)


def _learn(
    learner: Learner, checkpoint: Any, replicas: Replicas, published: Published | None
) -> tuple[list[Epoch], list[Any]]:
    """Runs the epochs that are still to do; returns to the chief all epochs and the best weights."""
    from images.trainer.learning import Epoch

    history: list[Epoch] = []
    best: list[Any] = []
    if replicas.chief and (found := checkpoint.load()):
        arrays, progress = found
        learner.restore(arrays["state"])
        best, history = arrays["best"], [Epoch(**epoch) for epoch in progress]
        print(f"resuming after epoch {len(history)}/{learner.epochs}")
    if published:
        published.begin(resumed=bool(history))
    learner.share()
    while number := learner.agree(_next(history, learner.epochs, stops=published is None)):
        epoch = learner.learn(number)
        if not replicas.chief:
            continue
        if all(_rank(epoch) < _rank(earlier) for earlier in history):
            best = learner.weights()
        history.append(epoch)
        if published:  # Before the checkpoint: what a kill comes between is trained, and published, again.
            published.add(number, learner.weights())
        checkpoint.save({"state": learner.snapshot(), "best": best}, [dataclasses.asdict(epoch) for epoch in history])
        print(
            f"epoch {epoch.epoch}/{learner.epochs}  loss {epoch.loss:.3f}  val_loss {epoch.val_loss:.3f}  "
            f"val_{learner.monitor} {epoch.error:.4f}  {epoch.seconds:.0f} s"
        )
    return history, best


def _next(history: Sequence[Epoch], epochs: int, stops: bool) -> int:
    """The number of the epoch that comes next; 0 where none does.

    Args:
        history: the epochs so far.
        epochs: at most so many.
        stops: whether to stop when nothing is gained; who is followed does not know what is.
    """
    return 0 if len(history) == epochs or (stops and _stalled(history)) else len(history) + 1


def _stalled(history: Sequence[Epoch]) -> bool:
    """Whether the last epochs brought nothing. At first only the loss falls: CTC answers with blanks for a while."""
    before, last = history[:-PATIENCE], history[-PATIENCE:]
    if not before:
        return False
    lower_error = min(epoch.error for epoch in last) < min(epoch.error for epoch in before)
    lower_loss = min(epoch.val_loss for epoch in last) < min(epoch.val_loss for epoch in before)
    return not (lower_error or lower_loss)


def _rank(epoch: Epoch) -> tuple[float, float]:
    """Lower is better: the error, and between equal errors the loss."""
    return epoch.error, epoch.val_loss


def _write_history(history: Sequence[Epoch], monitor: str, file: Path) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        names = ["epoch", "loss", "val_loss", f"val_{monitor}", "learning_rate", "seconds", "examples_per_second"]
        writer.writerow(names)
        writer.writerows(
            [
                epoch.epoch,
                f"{epoch.loss:.6g}",
                f"{epoch.val_loss:.6g}",
                f"{epoch.error:.6g}",
                f"{epoch.learning_rate:.6g}",
                f"{epoch.seconds:.2f}",
                f"{epoch.examples_per_second:.1f}",
            ]
            for epoch in history
        )


def _write_logs(history: Sequence[Epoch], monitor: str, folder: Path) -> None:
    """Writes TensorBoard's scalars; `tf.summary.scalar` needs TensorBoard installed, writing does not."""
    import tensorflow as tf

    scalars = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"})
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        for epoch in history:
            values = {"epoch_loss": epoch.loss, "epoch_val_loss": epoch.val_loss}
            values |= {f"epoch_val_{monitor}": epoch.error, "epoch_learning_rate": epoch.learning_rate}
            for tag, value in values.items():
                tf.summary.write(tag, tf.constant(value, tf.float32), step=epoch.epoch, metadata=scalars)
    writer.close()


def main(argv: Sequence[str]) -> None:
    """The command line; `--help` lists the flags."""
    parser = argparse.ArgumentParser(prog="python -m images.trainer.train", description=__doc__, allow_abbrev=False)
    parser.add_argument("--system", required=True)
    parser.add_argument("--examples", required=True, help="the folder that ingest wrote")
    parser.add_argument("--hyperparameters", required=True, help="a JSON file of names and values")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--steps", type=int, help="at most so many, where epochs are long")
    parser.add_argument("--streams", type=int, help="divide batches as if so many machines trained together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--checkpoints", required=True, help="a folder that outlives a kill")
    parser.add_argument("--initial_weights", default="", help="a Keras file whose layers' weights to begin with")
    parser.add_argument("--examples_uri", default="", help="the Examples as gs:// URI, for a gs:// file to begin with")
    parser.add_argument("--followed", default="", help="such a folder, in which another task follows the training")
    parser.add_argument("--model", required=True, help="the folder to write")
    parser.add_argument("--executor_input", help="KFP's ExecutorInput; leave it out by hand")
    arguments = vars(parser.parse_args(argv))
    output = ExecutorOutput(arguments.pop("executor_input"))
    summary = train(**arguments)
    if of_environment().chief:
        output.log("model", digest=executor.digest(arguments["model"]), **summary)
        output.write()


if __name__ == "__main__":
    executor.run(main)
