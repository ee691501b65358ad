"""Protects augmentation that is written in NumPy: where pixels go, how far greys change, the same for the same seed."""

import math

import numpy as np
import pytest
import tensorflow as tf

from images.trainer.affine import Changes, changed
from images.trainer.augmenting import randomly
from images.trainer.systems.ddsm.augmentation import EXPOSURE, GRAIN, augment, other_films

SIDE = 25
MIDDLE = SIDE // 2


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(1, 256, (3, SIDE, SIDE), np.uint8)


def after(images, **changes):
    """The pictures, all changed in the same way."""
    none = np.zeros(len(images))
    nothing = Changes(none, none, none + 1, none + 1, none, none)
    return changed(images, nothing._replace(**{name: none + value for name, value in changes.items()}))


def test_pixels_go_where_the_changes_say(noise):
    np.testing.assert_array_equal(after(noise), noise)
    np.testing.assert_allclose(after(noise, turn=math.pi / 2), noise.transpose(0, 2, 1)[:, ::-1], atol=1)
    np.testing.assert_array_equal(after(noise, right=3, below=-2)[:, 2:, :-3], noise[:, :-2, 3:])
    np.testing.assert_array_equal(after(noise, across=3)[:, :, MIDDLE + 1], noise[:, :, MIDDLE + 3])
    np.testing.assert_array_equal(after(noise, down=2)[:, MIDDLE - 2], noise[:, MIDDLE - 4])
    np.testing.assert_array_equal(after(noise, slant=1)[:, MIDDLE + 4, :-4], noise[:, MIDDLE + 4, 4:])
    assert not after(noise, right=3)[:, :, -3:].any(), "what comes in from outside is black"


def test_between_pixels_greys_are_interpolated():
    ramp = np.tile(np.arange(0, 4 * SIDE, 4, dtype=np.uint8), (1, SIDE, 1))
    assert (after(ramp, right=0.25)[0, :, 2:-2] == ramp[0, :, 2:-2] + 1).all()
    assert (after(ramp.transpose(0, 2, 1), below=-0.5)[0, 2:-2] == ramp[0].T[2:-2] - 2).all()


def test_films_keep_their_padding_black_and_their_greys_near():
    film = np.zeros((40, 128, 95), np.uint8)
    film[:, :, :60] = 120
    changed_films = other_films(film, np.random.default_rng(1), 1.0).astype(float)
    assert not changed_films[:, :, 80:].any()
    inner = changed_films[:, 40:-40, 10:40]
    means = inner.mean(axis=(1, 2))
    darkest, lightest = (255 * (120 / 255) ** power for power in (1 + EXPOSURE, 1 / (1 + EXPOSURE)))
    assert darkest - 1 < means.min() < 100
    assert 140 < means.max() < lightest + 1
    np.testing.assert_allclose(inner.std(axis=(1, 2)), GRAIN, rtol=0.1)


def test_in_a_pipeline_it_is_the_same_for_the_same_seed(noise):
    def augmented(seed, strength=0.5):
        batches = tf.data.Dataset.from_tensors(noise).map(lambda images: augment(images, tf.constant(seed), strength))
        assert batches.element_spec == tf.TensorSpec([3, SIDE, SIDE], tf.uint8)
        return next(iter(batches)).numpy()

    once = augmented([1, 2])
    np.testing.assert_array_equal(once, augmented([1, 2]))
    assert (once != augmented([1, 3])).any()
    np.testing.assert_array_equal(augmented([1, 2], strength=0.0), noise)
    same = randomly(lambda images, _: images, tf.constant(noise), tf.constant([1, 2]))
    np.testing.assert_array_equal(same, noise)
