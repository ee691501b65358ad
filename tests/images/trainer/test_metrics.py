"""Protects the error rates: the edit distance's laws, known rates, intervals that cover."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.trainer import intervals
from images.trainer.systems.crnn import metrics

WORDS = st.text("abc", max_size=7)


@given(WORDS, WORDS)
def test_the_number_of_edits_is_a_distance(one, other):
    distance = len(metrics.edits(one, other))
    assert (distance == 0) == (one == other)
    assert distance == len(metrics.edits(other, one))
    assert abs(len(one) - len(other)) <= distance <= max(len(one), len(other))


@given(WORDS, WORDS, WORDS)
def test_no_detour_is_shorter(one, way, other):
    assert len(metrics.edits(one, other)) <= len(metrics.edits(one, way)) + len(metrics.edits(way, other))


@given(WORDS, WORDS)
def test_the_edits_have_as_many_of_each_character_as_they_must(truth, answer):
    found = metrics.edits(truth, answer)
    changed = list(truth)
    for wanted, read in found:
        if wanted:
            changed.remove(wanted)
        if read:
            changed.append(read)
    assert sorted(changed) == sorted(answer)


@given(WORDS, WORDS)
def test_tensorflow_counts_the_same(truth, answer):
    import tensorflow as tf

    def sparse(word):
        return tf.sparse.from_dense([list(word)]) if word else tf.SparseTensor(np.zeros((0, 2), int), [], [1, 0])

    if not truth or not answer:
        assert len(metrics.edits(truth, answer)) == max(len(truth), len(answer))
        return
    distance = tf.edit_distance(sparse(answer), sparse(truth), normalize=False)
    assert len(metrics.edits(truth, answer)) == int(distance[0])


@pytest.mark.parametrize(
    ("truth", "answer", "expected"),
    [
        ("kitten", "sitting", [("k", "s"), ("e", "i"), ("", "g")]),
        ("word", "", [("w", ""), ("o", ""), ("r", ""), ("d", "")]),
        ("", "a", [("", "a")]),
        ("a b", "a b", []),
    ],
)
def test_known_edits(truth, answer, expected):
    assert metrics.edits(truth, answer) == expected


def test_known_rates():
    truths = [b"Don't", b"stop", b"now,", "für".encode()]
    answers = {"text": [b"dont", b"stop", b"now.", b"fr"]}
    rates = metrics.evaluate(truths, answers)
    assert rates["cer"] == metrics.measure(truths, answers)["cer"] == 4 / 16
    assert rates["wer"] == 3 / 4
    assert rates["exact_match"] == 1 / 4
    assert rates["cer_ignoring_case"] == 3 / 16
    assert rates["cer_ignoring_punctuation"] == 2 / 14
    assert (rates["substitutions"], rates["deletions"], rates["insertions"]) == (2 / 16, 2 / 16, 0)
    assert rates["words"] == 4


def test_words_of_a_line_are_counted_apart():
    rates = metrics.evaluate([b"one two three"], {"text": [b"one too three four"]})
    assert rates["wer"] == 2 / 3


def test_the_same_answers_give_the_same_interval():
    truths, answers = [b"abcd"] * 40, {"text": [b"abcd"] * 30 + [b"abc"] * 10}
    first, second = metrics.evaluate(truths, answers), metrics.evaluate(truths, answers)
    assert first == second
    assert first["cer_low"] < first["cer"] < first["cer_high"]


def test_the_interval_covers_as_often_as_it_says():
    random = np.random.default_rng(5)
    covered = 0
    for _ in range(100):
        lengths = random.integers(1, 10, 300)
        errors = random.binomial(lengths, 0.1)
        low, high = intervals.of_ratio(errors, lengths)
        covered += low <= 0.1 <= high
    assert 85 <= covered <= 100


def test_more_examples_narrow_the_interval():
    few, many = intervals.of_ratio([0, 1] * 20, [1] * 40), intervals.of_ratio([0, 1] * 500, [1] * 1000)
    assert many[1] - many[0] < few[1] - few[0]
