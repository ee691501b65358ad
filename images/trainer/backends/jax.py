"""Training with JAX: on all devices of one machine or of several; the way to TPUs."""

from __future__ import annotations

from typing import Any

import jax
import keras
import numpy as np
import tensorflow as tf

from images.trainer.replicas import Replicas


class Jax:
    """Divides batches among devices, by `keras.distribution.DataParallel`.

    Every shape is compiled anew, so all batches have the same shapes: those to judge are filled up, and sequences
    are padded to few lengths.

    Args:
        replicas: who train together.
        share: examples of a batch that are this replica's. The more devices can take equal parts of it, the more do.
        batch: examples to judge at a time, at most.
    """

    length_step = 32

    def __init__(self, replicas: Replicas, share: int, batch: int) -> None:
        tf.config.set_visible_devices([], "GPU")  # TensorFlow only reads the data here.
        if replicas.count > 1:
            keras.distribution.initialize(",".join(replicas.addresses), replicas.count, replicas.index)
        local = len(jax.local_devices())
        taken = next(count for count in range(local, 0, -1) if share % count == 0)
        if taken < local:
            print(f"a batch of {share} is divided among {taken} of the {local} devices")
        devices = [
            device
            for process in range(jax.process_count())
            for device in jax.local_devices(process_index=process)[:taken]
        ]
        names = [f"{device.platform}:{device.id}" for device in devices]
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=names, auto_shard_dataset=False))
        # Every replica judges with the devices of its own.
        own = jax.sharding.Mesh(np.array(jax.local_devices()[:taken]), ("batch",))
        self._whole = jax.sharding.NamedSharding(own, jax.sharding.PartitionSpec())
        self._parts = jax.sharding.NamedSharding(own, jax.sharding.PartitionSpec("batch"))
        self._batch = -(-batch // taken) * taken
        self.precision = {"tpu": "mixed_bfloat16", "gpu": "mixed_float16"}.get(jax.default_backend(), "float32")
        self._judge = jax.jit(_judged, static_argnums=0)

    def fit(self, network: keras.Model, data: tf.data.Dataset) -> float:
        """Trains for one epoch; see `Backend`."""
        return float(network.fit(data, epochs=1, shuffle=False, verbose=0).history["loss"][-1])

    def judge(self, network: keras.Model, inputs: tf.Tensor, targets: tf.Tensor) -> tuple[Any, float]:
        """The network's outputs for a batch and their mean loss; see `Backend`."""
        count = len(inputs)
        arrays = [_filled(tensor.numpy(), self._batch) for tensor in (inputs, targets)]
        weights = np.float32(np.arange(self._batch) < count)
        state = jax.device_put(
            [
                [np.asarray(v) for v in network.trainable_variables],
                [np.asarray(v) for v in network.non_trainable_variables],
            ],
            self._whole,
        )
        outputs, loss = self._judge(network, *state, *jax.device_put([*arrays, weights], self._parts))
        return np.asarray(outputs)[:count], float(loss) * self._batch / count

    def of_chief(self, values: np.ndarray) -> np.ndarray:
        """The chief's values; see `Backend`."""
        from jax.experimental.multihost_utils import broadcast_one_to_all

        return np.asarray(broadcast_one_to_all(values))

    def lost(self, error: Exception) -> bool:
        """Whether an error says that another replica is gone."""
        return isinstance(error, jax.errors.JaxRuntimeError) and "Gloo" in str(error)


def _judged(
    network: keras.Model, trainable: Any, others: Any, inputs: Any, targets: Any, weights: Any
) -> tuple[Any, Any]:
    outputs, _ = network.stateless_call(trainable, others, inputs, training=False)
    return outputs, network.loss(targets, outputs, sample_weight=weights)


def _filled(array: np.ndarray, rows: int) -> np.ndarray:
    return np.pad(array, [(0, rows - len(array))] + [(0, 0)] * (array.ndim - 1))
