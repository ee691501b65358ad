"""Protects how networks learn: rates follow their schedule, and what is made faster takes the same steps as Keras'."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from images.trainer import examples as stored
from images.trainer import optimizers


@pytest.mark.parametrize("kind", ["adamw", "adam", "momentum", "rmsprop"])
@pytest.mark.parametrize("schedule", ["cosine", "exponential", "constant"])
def test_rates_rise_and_then_follow_their_schedule(kind, schedule):
    chosen = optimizers.optimizer(0.01, 100, kind, schedule)
    assert type(chosen).__name__.lower() == {"momentum": "sgd"}.get(kind, kind)
    rates = [float(chosen._learning_rate(step)) for step in (0, 5, 50, 99)]
    assert rates[0] < rates[1]
    assert rates[1] == pytest.approx(0.01, rel=0.05)
    assert {"cosine": rates[3] < 1e-4, "exponential": 0 < rates[3] < 1e-3, "constant": rates[3] == rates[1]}[schedule]


@pytest.mark.parametrize("steps", [1, 2, 30, 1000])
def test_the_cosine_is_that_of_keras(steps):
    warmup = max(1, round(optimizers.WARMUP_SHARE * steps))
    expected = keras.optimizers.schedules.CosineDecay(
        4e-3 / 25, max(1, steps - warmup), warmup_target=4e-3, warmup_steps=warmup
    )
    own = optimizers.optimizer(4e-3, steps)._learning_rate
    for step in {0, 1, steps // 2, steps - 1, steps, steps + 1}:
        assert float(own(step)) == pytest.approx(float(expected(step)), abs=1e-8)


@pytest.mark.parametrize("kind", ["adamw", "adam"])
def test_weights_updated_in_one_pass_learn_the_same(kind, monkeypatch):
    def learned(large):
        monkeypatch.setattr(optimizers, "LARGE", large)
        random = np.random.default_rng(0)
        shapes = [(60, 40), (40,)]
        weights = [keras.Variable(random.normal(size=shape), dtype="float32") for shape in shapes]
        optimizer = optimizers.optimizer(1e-2, 40, kind)
        optimizer.build(weights)
        step = tf.function(lambda gradients: optimizer.apply(gradients, weights))
        for _ in range(40):
            step([tf.constant(random.normal(size=shape), tf.float32) for shape in shapes])
        return [weight.numpy() for weight in weights]

    for one_pass, keras_own in zip(learned(large=1000), learned(large=10**9), strict=True):
        np.testing.assert_allclose(one_pass, keras_own, atol=1e-6)


def test_no_iterator_waits_for_a_tuner(trained):
    batches = stored.batches(trained.examples, stored.schema(trained.examples, "crnn"), "train", 8, shuffle_seed=1)
    assert batches.map(lambda batch: batch["image"]).prefetch(2).options().autotune.enabled is False
