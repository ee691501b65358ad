"""What the evaluation of a word reader shows: error rates, edits, confused characters, the worst words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from images.trainer.report import Number, Section, learning_curve, percent, picture
from images.trainer.systems.crnn.metrics import MONITOR, Edit, edits, kind, pairs

WORST_WORDS = 24
MOST_CONFUSED = 12
CONFIDENCES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99)

TITLE = "Reading handwritten words"


def numbers(rates: Mapping[str, float]) -> list[Number]:
    """The numbers at the top."""

    def with_interval(name: str, title: str) -> Number:
        low, high = rates[f"{name}_low"], rates[f"{name}_high"]
        return Number(title, percent(rates[name]), f"95 %: {100 * low:.1f} to {percent(high)}")

    return [
        with_interval("cer", "Character error rate"),
        with_interval("wer", "Word error rate"),
        with_interval("exact_match", "Read without an error"),
        Number("Test words", f"{rates['words']:,}", "of writers not trained on, where writers are known"),
    ]


def sections(
    rates: Mapping[str, float],
    truths: Sequence[bytes],
    answers: Mapping[str, Sequence[Any]],
    features: Mapping[str, Sequence[Any]],
    history: Mapping[str, Sequence[float]],
) -> list[Section]:
    """Everything below the numbers.

    Args:
        rates: from `metrics.evaluate`.
        truths: UTF-8 words.
        answers: `text` and `confidence` of each word.
        features: `image` (uint8 [height, width]) and `key` of each word.
        history: the columns of history.csv.
    """
    words = pairs(truths, answers)
    wrong = [edits(truth, answer) for truth, answer in words]
    return [
        learning_curve(history, MONITOR, "Character error rate, %", "words", "Training words are augmented."),
        _worst(words, wrong, answers["confidence"], features),
        _kinds(rates),
        _trust(words, answers["confidence"]),
        _confused(wrong),
        *(_by_character(wrong, name) for name in ("substitution", "deletion", "insertion")),
    ]


def _worst(
    words: Sequence[tuple[str, str]],
    wrong: Sequence[Sequence[Edit]],
    confidences: Sequence[float],
    features: Mapping[str, Sequence[Any]],
) -> Section:
    ranked = sorted(
        (index for index, found in enumerate(wrong) if found),
        key=lambda index: (-len(wrong[index]) / max(1, len(words[index][0])), -confidences[index], index),
    )
    pictures = [
        (
            picture(np.asarray(features["image"][index])),
            *words[index],
            f"confidence {percent(confidences[index])} · {features['key'][index].decode()}",
        )
        for index in ranked[:WORST_WORDS]
    ]
    note = "Most edits per character first. As the network saw them, with the truth and the answer."
    return Section("Worst words", note if pictures else "Every word was read without an error.", pictures=pictures)


def _confused(wrong: Sequence[Sequence[Edit]]) -> Section:
    counts = Counter(edit for found in wrong for edit in found if kind(edit) == "substitution")
    both = Counter({pair: counts[pair] + counts[pair[::-1]] for pair in map(_ordered, counts)})
    rows = [
        (f"{_shown(a)} and {_shown(b)}", str(count), str(counts[a, b]), str(counts[b, a]))
        for (a, b), count in _commonest(both)
    ]
    return Section(
        "Most confused characters",
        "Pairs taken for one another: how often the first was read as the second, and the reverse.",
        columns=("pair", "times", "as second", "as first"),
        rows=rows,
    )


def _kinds(rates: Mapping[str, float]) -> Section:
    rows = [
        ("Substitutions", percent(rates["substitutions"])),
        ("Deletions", percent(rates["deletions"])),
        ("Insertions", percent(rates["insertions"])),
        ("All, ignoring case", percent(rates["cer_ignoring_case"])),
        ("All, ignoring punctuation", percent(rates["cer_ignoring_punctuation"])),
    ]
    return Section("Edits", "Per character of the truths.", columns=("kind", "rate"), rows=rows)


def _by_character(wrong: Sequence[Sequence[Edit]], name: str) -> Section:
    counts = Counter(edit for found in wrong for edit in found if kind(edit) == name)
    if name == "substitution":
        columns = ("character", "read as", "times")
        rows = [(_shown(truth), _shown(answer), str(count)) for (truth, answer), count in _commonest(counts)]
    else:
        columns = ("character", "times")
        rows = [(_shown(truth or answer), str(count)) for (truth, answer), count in _commonest(counts)]
    return Section(
        f"{name.capitalize()}s",
        f"The commonest {len(rows)} of {sum(counts.values())}." if rows else "None.",
        columns=columns,
        rows=rows,
    )


def _trust(words: Sequence[tuple[str, str]], confidences: Sequence[float]) -> Section:
    right = np.array([truth == answer for truth, answer in words])
    confidence = np.asarray(confidences)
    rows = []
    for threshold in CONFIDENCES:
        kept = confidence >= threshold
        share = right[kept].mean() if kept.any() else 1.0
        rows.append((f"{threshold:.2f}", percent(kept.mean()), percent(share)))
    note = "Keeping only answers at least so confident: how many are left, and how many of those are right."
    return Section("Confidence", note, columns=("at least", "answers kept", "of those right"), rows=rows)


def _ordered(pair: Edit) -> Edit:
    return (min(pair), max(pair))


def _commonest(counts: Counter[Edit]) -> list[tuple[Edit, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_CONFUSED]


def _shown(character: str) -> str:
    return "space" if character == " " else character
