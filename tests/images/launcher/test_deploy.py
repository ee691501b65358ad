"""Protects deployment's judgement: a version that answers otherwise than at export is found out."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.executor import UserError
from images.launcher import deploy


def sample(text: str, confidence: float) -> dict[str, Any]:
    return {
        "instance": {"bytes_inputs": {"b64": "eA=="}, "key": "a01-000u"},
        "truth": text,
        "answer": "text",
        "expected": {"text": text, "confidence": confidence},
    }


def test_equal_answers_are_accepted_within_the_tolerance() -> None:
    samples = [sample("one", 0.9), sample("two", 0.5)]
    answers = [{"text": "one", "confidence": 0.9001}, {"text": "two", "confidence": 0.4999}]
    assert deploy.disagreements(samples, answers) == []


@pytest.mark.parametrize(
    "answer",
    [
        {"text": "ome", "confidence": 0.9},
        {"text": "one", "confidence": 0.8},
        {"text": "one", "confidence": float("nan")},
        {"confidence": 0.9},
    ],
)
def test_another_answer_is_named(answer: dict[str, Any]) -> None:
    (wrong,) = deploy.disagreements([sample("one", 0.9)], [answer])
    assert wrong.startswith("a01-000u: answered ")
    assert "expected 'one' (0.9)" in wrong


def test_a_missing_answer_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        deploy.disagreements([sample("one", 0.9)], [])


@given(st.dictionaries(st.text(min_size=1, max_size=80), st.floats() | st.integers(), max_size=5))
def test_labels_are_what_the_service_takes(metrics: dict[str, float]) -> None:
    for name, value in deploy.labels(metrics).items():
        assert re.fullmatch(r"[a-z0-9_-]{1,63}", name)
        assert re.fullmatch(r"[a-z0-9_-]{0,63}", value)


def test_labels_tell_the_score() -> None:
    assert deploy.labels({"cer": 0.0312, "passed": True}) == {"cer": "0_0312"}


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot read smoke.jsonl"), ("", "is empty"), ("{", "cannot read smoke.jsonl")],
)
def test_nothing_to_try_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "smoke.jsonl").write_text(content)
    with pytest.raises(UserError, match=message):
        deploy.read_samples(str(tmp_path))


def test_samples_are_read_in_order(tmp_path: Path) -> None:
    lines = [sample("one", 0.9), sample("zwölf", 0.5)]
    (tmp_path / "smoke.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert deploy.read_samples(str(tmp_path)) == lines


def test_metrics_must_be_an_object(tmp_path: Path) -> None:
    (tmp_path / "metrics").write_text("[1]")
    with pytest.raises(UserError, match="must be one JSON object"):
        deploy.read_metrics(str(tmp_path / "metrics"))
