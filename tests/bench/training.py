"""Training words a second: the word reader against the network it takes the place of, on one core each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from tests.bench.measurement import Measurement, at_least

BOUND = 80.0

# Each in a process of its own: TensorFlow sets its threads once, and the big network leaves memory behind.
PROGRAM = """
import sys, time
import keras, numpy as np, tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
from tests.bench import training
network, shape, batch, steps = training.{name}()
random = np.random.default_rng(0)
images = random.integers(0, 256, (batch * steps, *shape), np.uint8)
labels = random.integers(1, 80, (batch * steps, 6))
network.compile(optimizer=keras.optimizers.AdamW(1e-4), loss=keras.losses.CTC(), jit_compile=False)
data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch)
network.fit(data.take(1), shuffle=False, verbose=0)
rates = []
for _ in range(3):
    start = time.process_time()
    network.fit(data, shuffle=False, verbose=0)
    rates.append(batch * steps / (time.process_time() - start))
print(max(rates))
"""


def measurements() -> Iterator[Measurement]:
    """How many times as many words a second of processor time our network learns from."""
    before, now = _words_a_second("notebook"), _words_a_second("reader")
    detail = f"{now:.0f} words a second against {before:.1f}"
    yield at_least("training / the notebook's network", now / before, BOUND, detail)


def reader() -> tuple[object, tuple[int, int], int, int]:
    """Our network with its default hyperparameters: model, image shape, batch size, steps to time."""
    from images.trainer.systems.crnn import model
    from images.trainer.systems.crnn.hyperparameters import Hyperparameters

    alphabet = "".join(chr(33 + index) for index in range(82))
    schema = {"image": {"height": 32, "width": 128}, "alphabet": alphabet}
    chosen = Hyperparameters()
    return model.build(chosen, schema), (32, 128), chosen.batch_size, 30


def notebook() -> tuple[object, tuple[int, int], int, int]:
    """The notebook's own best network: two convolutions, two bidirectional LSTMs, 20 million parameters."""
    import keras
    from keras import layers

    image = keras.Input((100, 400), dtype="uint8")
    features = layers.Reshape((100, 400, 1))(layers.Rescaling(1 / 255)(image))
    for channels in (32, 64):
        features = layers.Conv2D(channels, 3, padding="same", activation="relu")(features)
        features = layers.MaxPooling2D(2)(features)
    columns = layers.Reshape((100, 25 * 64))(layers.Permute((2, 1, 3))(features))
    columns = layers.Dense(256, activation="relu")(columns)
    for units in (512, 1024):
        columns = layers.Bidirectional(layers.LSTM(units, return_sequences=True))(columns)
    return keras.Model(image, layers.Dense(83)(columns)), (100, 400), 32, 1


def _words_a_second(name: str) -> float:
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(name=name)], capture_output=True, text=True, check=True
    )
    return float(process.stdout)
