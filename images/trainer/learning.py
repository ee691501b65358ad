"""One epoch after another: what a trial and a training have in common.

Several machines that train together each take their share of every batch: machine i reads the i-th stream of shards,
gradients are summed over all, and all stay equal. One machine that reads the same streams learns the same but for the
order in which numbers are added: without dropout, whose draws differ, both have the same loss after each of the first
epochs to within 0.2 %, with the classic digit reader at a learning rate of 5e-4. Where a gradient is nothing but such
differences, as that of a bias before a layer norm, Adam makes a whole step of it: such networks part sooner.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from images.executor import UserError
from images.trainer import examples, roles, workers
from images.trainer.backends import backend
from images.trainer.optimizers import optimizer
from images.trainer.replicas import Replicas

VALIDATION_BATCH = 256
PREFETCHED = 2  # batches


@dataclasses.dataclass(frozen=True)
class Epoch:
    """One line of the learning curve.

    Attributes:
        epoch: from 1.
        loss: mean training loss.
        val_loss: mean validation loss.
        error: validation error rate, the system's `metrics.MONITOR`.
        learning_rate: at the epoch's end.
        seconds: wall time.
        examples_per_second: trained on, by all machines together; validating does not count.
    """

    epoch: int
    loss: float
    val_loss: float
    error: float
    learning_rate: float
    seconds: float
    examples_per_second: float


class Learner:
    """A network, its optimizer and its data.

    Args:
        system: such as "crnn".
        folder: the Examples.
        hyperparameters: an instance of the system's `Hyperparameters`.
        epochs: passes over the training examples, at most.
        seed: of the weights, the order of the examples, dropout and augmentation. The same seed gives the
            same results on the same machine.
        limit: at most so many training examples; None: all.
        steps: at most so many steps; None: no limit but `epochs`.
        replicas: the machines that train together; every one of them has its own learner, of the same arguments.
        streams: into how many parts each batch is divided; as many as there are replicas, or a multiple of that.

    Attributes:
        epochs: how many there will be; the last ends with the last step. The learning-rate schedule ends there.

    Raises:
        UserError: the Examples are not usable, or a batch cannot be divided so.
    """

    def __init__(
        self,
        system: str,
        folder: str | Path,
        hyperparameters: Any,
        epochs: int,
        seed: int,
        limit: int | None = None,
        steps: int | None = None,
        replicas: Replicas = Replicas(),  # noqa: B008 - a tuple
        streams: int | None = None,
    ) -> None:
        self._streams = streams or replicas.count
        if self._streams % replicas.count:
            raise UserError(f"--streams={self._streams} cannot be divided among {replicas.count} machines")
        if hyperparameters.batch_size % self._streams:
            raise UserError(
                f"batch_size {hyperparameters.batch_size} cannot be divided into {self._streams} equal parts"
            )
        self._own_streams = range(replicas.index, self._streams, replicas.count)
        share = hyperparameters.batch_size // self._streams * len(self._own_streams)
        self._chief = replicas.chief
        self._backend = backend(replicas, share, VALIDATION_BATCH)
        keras.utils.set_random_seed(seed)
        keras.config.set_dtype_policy(self._backend.precision)
        self.schema = examples.schema(folder, system)
        self.monitor: str = roles.load(system, "metrics").MONITOR
        self._model, self._metrics = roles.load(system, "model"), roles.load(system, "metrics")
        self._folder, self._hyperparameters, self._seed, self._limit = folder, hyperparameters, seed, limit
        an_epoch = math.ceil(examples.count(self.schema, "train", limit) / hyperparameters.batch_size)
        self._steps = min(epochs * an_epoch, steps or epochs * an_epoch)
        self.epochs = math.ceil(self._steps / an_epoch)
        self._steps_of_epoch = {self.epochs: self._steps - (self.epochs - 1) * an_epoch}
        self._steps_an_epoch = an_epoch
        self.network: keras.Model = self._model.build(hyperparameters, self.schema)
        self.network.compile(
            optimizer=optimizer(
                hyperparameters.learning_rate,
                self._steps,
                getattr(hyperparameters, "optimizer", "adamw"),
                getattr(hyperparameters, "schedule", "cosine"),
            ),
            loss=self._model.loss(),
            jit_compile="auto" if keras.backend.backend() == "jax" else False,
        )
        self.network.optimizer.build(self.network.trainable_variables)
        self._read = tf.function(self._read_batch, reduce_retracing=True)
        # A function of its own, so that it is traced once and not in every epoch.
        self._pair = tf.function(self._training_pair)

    def weights(self) -> list[np.ndarray]:
        """A copy of the network's weights."""
        return [weight.copy() for weight in self.network.get_weights()]

    def snapshot(self) -> list[np.ndarray]:
        """A copy of all that changes while learning: weights, random state, the optimizer's variables."""
        return [np.array(variable) for variable in self._state()]

    def restore(self, snapshot: list[np.ndarray]) -> None:
        """Goes back to a snapshot of a learner with the same arguments."""
        for variable, value in zip(self._state(), snapshot, strict=True):
            variable.assign(value)

    def share(self) -> None:
        """Gives all replicas what the chief has restored; each of them has to call it."""
        self.restore(self._of_chief(self.snapshot()))

    def agree(self, number: int) -> int:
        """The number that the chief gives; each replica has to ask."""
        (agreed,) = self._of_chief([np.array(number, np.int64)])
        return int(agreed)

    def lost(self, error: Exception) -> bool:
        """Whether an error says that another replica is gone."""
        return self._backend.lost(error)

    def save(self, weights: list[np.ndarray], file: Path) -> None:
        """Writes a `.keras` file with these weights, in float32 whatever the network was trained in."""
        keras.config.set_dtype_policy("float32")
        network = self._model.build(self._hyperparameters, self.schema)
        network.set_weights(weights)
        network.save(file)

    def _state(self) -> list[keras.Variable]:
        return [*self.network.variables, *self.network.optimizer.variables]

    def _of_chief(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The chief's arrays, whose shapes and types are the same as here."""
        flat = [np.ascontiguousarray(array).reshape(-1).view(np.int32) for array in arrays]
        ends = np.cumsum([len(part) for part in flat])
        parts = np.split(self._backend.of_chief(np.concatenate(flat)), ends[:-1])
        return [part.view(like.dtype).reshape(like.shape) for part, like in zip(parts, arrays, strict=True)]

    def learn(self, epoch: int) -> Epoch:
        """Trains for one epoch, then validates.

        Args:
            epoch: from 1; it decides the order of the examples and their augmentation.

        Raises:
            UserError: the loss is no longer a number.
        """
        start = time.perf_counter()
        loss = self._backend.fit(self.network, self._training_data(epoch))
        trained = self._steps_of(epoch) * self._hyperparameters.batch_size
        examples_per_second = trained / (time.perf_counter() - start)
        val_loss, error = self.validate()
        if not (math.isfinite(loss) and math.isfinite(val_loss)):
            raise UserError(f"the loss is no longer a number in epoch {epoch}; use a lower learning_rate")
        rate = float(self.network.optimizer.learning_rate)
        return Epoch(epoch, loss, val_loss, error, rate, time.perf_counter() - start, examples_per_second)

    def validate(self) -> tuple[float, float]:
        """The mean loss and the error rate over the validation split; the chief finds them for all replicas."""
        found = np.array(self._validated() if self._chief else (0.0, 0.0))
        val_loss, error = self._of_chief([found])[0]
        return float(val_loss), float(error)

    def _validated(self) -> tuple[float, float]:
        total = 0.0
        truths: list[bytes] = []
        answers: dict[str, list[Any]] = {}
        for batch in self._batches("validation", VALIDATION_BATCH):
            inputs, targets = self._model.inputs(batch), self._model.targets(batch)
            outputs, loss = self._backend.judge(self.network, inputs, targets)
            truth, answer = self._read(batch, outputs)
            total += loss * len(truth)
            truths += truth.numpy().tolist()
            for name, values in answer.items():
                answers.setdefault(name, []).extend(values.numpy())
        return total / len(truths), self._metrics.measure(truths, answers)[self.monitor]

    def _read_batch(self, batch: dict[str, tf.Tensor], outputs: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        return self._model.truths(batch, self.schema), self._model.answers(outputs, self.schema)

    def _batches(self, split: str, batch_size: int, **order: Any) -> tf.data.Dataset:
        step = self._backend.length_step
        return examples.batches(self._folder, self.schema, split, batch_size, length_step=step, **order)

    def _steps_of(self, epoch: int) -> int:
        return self._steps_of_epoch.get(epoch, self._steps_an_epoch)

    def _training_data(self, epoch: int) -> tf.data.Dataset:
        """An epoch's batches, or of each batch the part that is this replica's."""
        streams = [self._stream(epoch, index) for index in self._own_streams]
        if len(streams) == 1:
            return streams[0].prefetch(PREFETCHED)
        joined = tf.data.Dataset.zip(*streams).map(
            lambda *parts: tuple(_joined(values) for values in zip(*parts, strict=True))
        )
        return joined.prefetch(PREFETCHED)

    def _stream(self, epoch: int, index: int) -> tf.data.Dataset:
        seed = self._seed * 10_007 + epoch
        batches = self._batches(
            "train",
            self._hyperparameters.batch_size // self._streams,
            shuffle_seed=seed,
            limit=self._limit,
            stream=(index, self._streams),
            steps=self._steps_of(epoch),
        )

        def pair(step: tf.Tensor, batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            return self._pair(batch, tf.stack([tf.constant(seed, tf.int64), step * self._streams + index]))  # type: ignore[no-any-return]

        return batches.enumerate().map(pair, num_parallel_calls=workers.cores())

    def _training_pair(self, batch: dict[str, tf.Tensor], seeds: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """What the network learns from of a batch, changed at random."""
        if hasattr(self._model, "training_pair"):
            return self._model.training_pair(batch, seeds, self._hyperparameters)  # type: ignore[no-any-return]
        inputs = self._model.augment(self._model.inputs(batch), seeds, self._hyperparameters)
        return inputs, self._model.targets(batch)


def _joined(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    """Parts of a batch as one; sequences are padded with 0 to the longest."""
    if parts[0].shape.rank == 2 and parts[0].shape[1] is None:
        longest = tf.reduce_max([tf.shape(part)[1] for part in parts])
        parts = [tf.pad(part, [[0, 0], [0, longest - tf.shape(part)[1]]]) for part in parts]
    return tf.concat(parts, axis=0)
