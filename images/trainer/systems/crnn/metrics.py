"""How wrong read words are: edits between the truth and the answer, and the rates that count them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from images.trainer import intervals

MONITOR = "cer"

Edit = tuple[str, str]


def edits(truth: Sequence[str], answer: Sequence[str]) -> list[Edit]:
    """The fewest edits that turn the truth into the answer (Levenshtein, 1966), in reading order.

    Args:
        truth: characters, or words; none of them empty.
        answer: likewise.

    Returns:
        (a, b) for a substitution, (a, "") for a deletion, ("", b) for an insertion. Their number is the
        distance.
    """
    above = list(range(len(answer) + 1))
    rows = [above]
    for i, wanted in enumerate(truth, start=1):
        row = [i]
        for j, read in enumerate(answer, start=1):
            row.append(min(above[j - 1] + (wanted != read), above[j] + 1, row[j - 1] + 1))
        rows.append(row)
        above = row
    found: list[Edit] = []
    i, j = len(truth), len(answer)
    while i or j:
        if i and j and rows[i][j] == rows[i - 1][j - 1] + (truth[i - 1] != answer[j - 1]):
            i, j = i - 1, j - 1
            if truth[i] != answer[j]:
                found.append((truth[i], answer[j]))
        elif i and rows[i][j] == rows[i - 1][j] + 1:
            i -= 1
            found.append((truth[i], ""))
        else:
            j -= 1
            found.append(("", answer[j]))
    return found[::-1]


def measure(truths: Sequence[bytes], answers: Mapping[str, Sequence[Any]]) -> dict[str, float]:
    """The rate to watch while training.

    Args:
        truths: UTF-8 words.
        answers: `text`: what was read, in the same order.

    Returns:
        `cer`: the character error rate, edits per character of the truths; above 1 when most are insertions.
    """
    words = pairs(truths, answers)
    return {"cer": sum(_distances(words)) / max(1, sum(len(truth) for truth, _ in words))}


def evaluate(
    truths: Sequence[bytes], answers: Mapping[str, Sequence[Any]], features: Mapping[str, Sequence[Any]] | None = None
) -> dict[str, float]:
    """All rates, each from 0 (the best, but for `exact_match`).

    Args:
        truths: UTF-8 words.
        answers: `text`: what was read, in the same order.
        features: not needed.

    Returns:
        `cer`, `wer` (edits per word of the truths, words being what spaces separate) and `exact_match` (share
        of examples read without an edit), each with the ends `_low` and `_high` of its 95 % bootstrap
        interval over examples; `cer_ignoring_case`, `cer_ignoring_punctuation`; `substitutions`, `deletions`
        and `insertions` per character of the truths; `words`, the number of examples.
    """
    words = pairs(truths, answers)
    lengths = [len(truth) for truth, _ in words]
    wrong = [edits(truth, answer) for truth, answer in words]
    kinds = [kind(edit) for found in wrong for edit in found]
    word_edits = [len(edits(truth.split(), answer.split())) for truth, answer in words]
    rates: dict[str, float] = {}
    for name, parts, wholes in (
        ("cer", [len(found) for found in wrong], lengths),
        ("wer", word_edits, [len(truth.split()) for truth, _ in words]),
        ("exact_match", [int(not found) for found in wrong], [1] * len(words)),
    ):
        rates[name] = float(np.sum(parts) / max(1, np.sum(wholes)))
        rates[f"{name}_low"], rates[f"{name}_high"] = intervals.of_ratio(parts, wholes)
    rates["cer_ignoring_case"] = _cer_after(str.casefold, words)
    rates["cer_ignoring_punctuation"] = _cer_after(_without_punctuation, words)
    for name in ("substitution", "deletion", "insertion"):
        rates[f"{name}s"] = kinds.count(name) / max(1, sum(lengths))
    rates["words"] = len(words)
    return rates


def pairs(truths: Sequence[bytes], answers: Mapping[str, Sequence[Any]]) -> list[tuple[str, str]]:
    """Truth and answer of each word, as text."""
    return [(truth.decode(), text.decode()) for truth, text in zip(truths, answers["text"], strict=True)]


def kind(edit: Edit) -> str:
    """The name of an edit: substitution, deletion or insertion."""
    truth, answer = edit
    return "insertion" if not truth else "substitution" if answer else "deletion"


def _distances(words: Sequence[tuple[str, str]]) -> list[int]:
    return [0 if truth == answer else len(edits(truth, answer)) for truth, answer in words]


def _cer_after(change: Callable[[str], str], words: Sequence[tuple[str, str]]) -> float:
    changed = [(change(truth), change(answer)) for truth, answer in words]
    return sum(_distances(changed)) / max(1, sum(len(truth) for truth, _ in changed))


def _without_punctuation(text: str) -> str:
    return "".join(character for character in text if not unicodedata.category(character).startswith("P"))
