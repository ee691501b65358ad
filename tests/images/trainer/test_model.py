"""Protects the word reader's network: its shapes, its decoding, its probabilities, its augmentation."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from images.trainer.systems.crnn import augmentation, data, decoding, model
from images.trainer.systems.crnn.hyperparameters import Hyperparameters

SCHEMA = {"image": {"height": 32, "width": 128}, "alphabet": "abcdé"}


def words(count, height=32, width=128, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width), np.uint8)


@pytest.mark.parametrize("architecture", ["tcn", "bilstm"])
@pytest.mark.parametrize(("height", "width"), [(32, 128), (48, 200), (32, 130), (30, 127)])
def test_there_are_as_many_frames_as_ingest_reckons_with(architecture, height, width):
    schema = {"image": {"height": height, "width": width}, "alphabet": "abc"}
    network = model.build(Hyperparameters(architecture=architecture), schema)
    logits = network(words(2, height, width))
    assert logits.shape[0] == 2
    assert logits.shape[1] >= data.frames(width)
    assert logits.shape[2] == 4
    assert logits.dtype == tf.float32


def test_a_words_answer_does_not_depend_on_its_batch():
    network, images = model.build(Hyperparameters(), SCHEMA), words(5)
    together = network(images).numpy()
    alone = np.concatenate([network(images[i : i + 1]).numpy() for i in range(5)])
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_the_parameters_are_few():
    assert 200_000 < model.build(Hyperparameters(), SCHEMA).count_params() < 300_000


def logits_of(path, classes=6):
    """Logits that are sure of one class a frame."""
    return tf.constant(10.0 * np.eye(classes, dtype=np.float32)[np.array([path])])


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ([0, 1, 1, 0, 1, 2, 2], "aab"),
        ([1, 1, 1], "a"),
        ([0, 0, 0], ""),
        ([5, 0, 5, 4], "ééd"),
    ],
)
def test_greedy_decoding_merges_repeats_and_drops_blanks(path, text):
    answer = model.answers(logits_of(path), SCHEMA)
    assert answer["text"].numpy()[0].decode() == text
    assert 0.9 < answer["confidence"].numpy()[0] <= 1.0


def test_the_probability_is_the_sum_over_all_paths():
    logits = tf.constant(np.random.default_rng(1).normal(size=(1, 4, 3)), tf.float32)
    shares = tf.nn.softmax(logits)[0].numpy()
    by_text = {}
    for path in itertools.product(range(3), repeat=4):
        text = tuple(label for label, _ in itertools.groupby(path) if label)
        by_text[text] = by_text.get(text, 0.0) + np.prod([shares[i, label] for i, label in enumerate(path)])
    for text, share in by_text.items():
        labels = tf.constant([list(text)], tf.int32, shape=(1, len(text)))
        assert decoding.probability(logits, labels).numpy()[0] == pytest.approx(share, rel=1e-4), text
    assert sum(by_text.values()) == pytest.approx(1)


def test_the_beam_finds_the_likeliest_text_where_greedy_does_not():
    # Blank is the likeliest at each frame, but "a" in all its ways is likelier than nothing: 0.64 to 0.36.
    logits = tf.math.log(tf.constant([[[0.6, 0.4], [0.6, 0.4]]]))
    assert decoding.greedy(logits).shape == (1, 0)
    best, second = decoding.beam(logits, 2)
    assert best.numpy().tolist() == [[1]]
    assert decoding.probability(logits, best).numpy()[0] == pytest.approx(0.64)
    assert decoding.probability(logits, second).numpy()[0] == pytest.approx(0.36)


def test_the_truths_are_spelt_from_padded_labels():
    features = {"label": tf.constant([[1, 2, 0], [5, 5, 3]], tf.int64)}
    assert [truth.decode() for truth in model.truths(features, SCHEMA).numpy()] == ["ab", "ééc"]


def test_augmentation_repeats_by_seed_and_differs_between_seeds_and_images():
    images = np.repeat(words(1), 3, axis=0)
    once, again, other = (augmentation.augment(images, tf.constant(seed)).numpy() for seed in ([1, 2], [1, 2], [1, 3]))
    assert once.dtype == np.uint8
    assert once.shape == images.shape
    np.testing.assert_array_equal(once, again)
    assert (once != other).any()
    assert (once[0] != once[1]).any()


def test_augmentation_keeps_the_word_in_the_picture():
    images = np.full((64, 32, 128), 255, np.uint8)
    images[:, 8:24, 8:72] = 0
    ink = 255.0 - augmentation.augment(images, tf.constant([7, 7])).numpy()
    assert (ink.sum(axis=(1, 2)) / (255.0 * 16 * 64)).min() > 0.5
    assert ink[:, :, 110:].mean() < 10


def test_padding_is_white_and_stays_so():
    blank = np.full((4, 32, 128), 255, np.uint8)
    assert augmentation.augment(blank, tf.constant([1, 1])).numpy().min() > 255 - 6 * augmentation.GRAIN
