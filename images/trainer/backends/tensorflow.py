"""Training with TensorFlow: on one accelerator or the processor of each machine."""

from __future__ import annotations

import functools
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from images.trainer.replicas import Replicas


class TensorFlow:
    """The default backend. Each replica has a whole network of its own; what they share is the sum of their gradients.

    Args:
        replicas: who train together.
    """

    length_step = 1

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        # Before anything else of TensorFlow: afterwards it is too late to connect.
        gpus = tf.config.list_physical_devices("GPU")
        tf.config.set_visible_devices(gpus[:1], "GPU")
        alone = replicas.count == 1
        self._strategy = tf.distribute.get_strategy() if alone else tf.distribute.MultiWorkerMirroredStrategy()
        tf.config.experimental.enable_op_determinism()
        self.precision = "mixed_float16" if gpus else "float32"
        self._step: Any = None
        self._judge = tf.function(_judged, reduce_retracing=True)
        self._sum = tf.function(self._summed, input_signature=[tf.TensorSpec([None], tf.int32)])

    def fit(self, network: keras.Model, data: tf.data.Dataset) -> float:
        """Trains for one epoch; see `Backend`. Keras' own `fit` fails under the strategy for several replicas."""
        if self._replicas.count == 1:
            return float(network.fit(data, epochs=1, shuffle=False, verbose=0).history["loss"][-1])
        if self._step is None:
            _draw_apart(network, self._replicas.index)
            # Traced for shapes that all have in common: who traces anew, for a longer label, is out of step.
            self._step = tf.function(functools.partial(self._stepped, network), input_signature=data.element_spec)
        losses = [float(self._step(*batch)) for batch in data]
        return sum(losses) / len(losses)

    def _stepped(self, network: keras.Model, inputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        variables = network.trainable_variables
        with tf.GradientTape() as tape:
            loss = network.loss(targets, network(inputs, training=True))
            scaled = network.optimizer.scale_loss(loss)
        # All have equal shares of the batch, so the mean over it is the mean of theirs.
        loss, *gradients = [
            total / self._replicas.count for total in self._summed([loss, *tape.gradient(scaled, variables)])
        ]
        network.optimizer.apply(gradients, variables)
        return loss

    def judge(self, network: keras.Model, inputs: tf.Tensor, targets: tf.Tensor) -> tuple[Any, float]:
        """The network's outputs for a batch and their mean loss; see `Backend`."""
        outputs, loss = self._judge(network, inputs, targets)
        return outputs, float(loss)

    def of_chief(self, values: np.ndarray) -> np.ndarray:
        """The chief's values; see `Backend`."""
        if self._replicas.count == 1:
            return values
        summed: np.ndarray = self._sum(values if self._replicas.chief else np.zeros_like(values)).numpy()
        return summed

    def _summed(self, values: Any) -> Any:
        def of_one(values: Any) -> Any:
            # What comes from outside is on no device until it is copied.
            return tf.distribute.get_replica_context().all_reduce("SUM", tf.nest.map_structure(tf.identity, values))

        return self._strategy.run(of_one, (values,))

    def lost(self, error: Exception) -> bool:
        """Whether an error says that another replica is gone."""
        return isinstance(error, (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError))


def _judged(network: keras.Model, inputs: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    outputs = network(inputs, training=False)
    return outputs, network.loss(targets, outputs)


def _draw_apart(network: keras.Model, index: int) -> None:
    """Gives each replica draws of its own, such as dropout's; the chief's are those of one that trains alone."""
    for variable in network.non_trainable_variables:
        if variable.name == "seed_generator_state":
            variable.assign_add([index, 0])
