"""Protects deployment's judgement: a version that answers otherwise than at export is found out."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.executor import UserError
from images.launcher import canary, deploy, endpoints, registry
from images.launcher.canary import Load
from images.launcher.endpoints import Answer, Deployed


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
    assert canary.disagreements(samples, answers) == []


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
    (wrong,) = canary.disagreements([sample("one", 0.9)], [answer])
    assert wrong.startswith("a01-000u: answered ")
    assert "expected 'one' (0.9)" in wrong


def test_a_missing_answer_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        canary.disagreements([sample("one", 0.9)], [])


@given(st.dictionaries(st.text(min_size=1, max_size=80), st.floats() | st.integers(), max_size=5))
def test_labels_are_what_the_service_takes(metrics: dict[str, float]) -> None:
    for name, value in registry.labels(metrics).items():
        assert re.fullmatch(r"[a-z0-9_-]{1,63}", name)
        assert re.fullmatch(r"[a-z0-9_-]{0,63}", value)


def test_labels_tell_the_score() -> None:
    assert registry.labels({"cer": 0.0312, "passed": True}) == {"cer": "0_0312"}


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
    with pytest.raises(UserError, match=r"--metrics=.*must be one JSON object"):
        deploy.read_json("metrics", str(tmp_path / "metrics"))


@given(st.dictionaries(st.text(), st.integers(0, 100), max_size=6), st.integers(0, 100))
def test_scaled_shares_sum_to_the_rest(shares: dict[str, int], total: int) -> None:
    found = endpoints.scaled(shares, total)
    assert found.keys() == shares.keys()
    assert sum(found.values()) == (total if any(shares.values()) else 0)
    assert all(0 <= share <= total for share in found.values())


OLD, NEW = Deployed("1", "m@1", 90), Deployed("2", "m@2", 10)


@pytest.mark.parametrize(
    ("deployed", "crowned", "expected"),
    [
        ([], "m@1", None),
        ([OLD, NEW], "m@1", "m@1"),
        ([OLD, NEW], "m@2", "m@2"),
        ([OLD, NEW], "", "m@1"),
        ([Deployed("1", "m@1", 0), Deployed("2", "m@2", 100)], "m@1", "m@2"),
        ([Deployed("1", "m@1", 0)], "m@1", None),
    ],
)
def test_who_has_all_traffic_counts_and_then_who_is_crowned(
    deployed: list[Deployed], crowned: str, expected: str | None
) -> None:
    found = endpoints.champion(deployed, crowned)
    assert (found.version if found else None) == expected


def load(own: float = 0.01, other: float = 0.01, failures: int = 0, text: str = "one") -> Load:
    right = [{"text": "one", "confidence": 0.9}]
    answers = [Answer("1", right, other) for _ in range(60)]
    answers += [Answer("2", [{"text": text, "confidence": 0.9}], own) for _ in range(canary.ENOUGH)]
    answers += [Answer("", (), 0.01, "it broke") for _ in range(failures)]
    return Load(answers, [sample("one", 0.9)] * len(answers))


@pytest.mark.parametrize(
    ("during", "expected"),
    [
        (load(), ""),
        (load(own=0.06), ""),
        (load(own=0.09), "half of its answers took more than 90 ms, of the champion's 10 ms"),
        (load(failures=2), "2.4 % of requests failed, 0.0 % before it; first: it broke"),
        (load(text="ome"), "a smoke prediction is not what export saw"),
        (Load([Answer("1", [{}], 0.1)], [sample("one", 0.9)]), "it answered only 0 of 1 requests"),
    ],
)
def test_a_canary_is_held_against_the_champion(during: Load, expected: str) -> None:
    found = canary.complaint(load(), during, OLD, NEW)
    assert found.startswith(expected) and bool(found) == bool(expected)


def test_failures_that_were_there_before_are_not_the_canarys() -> None:
    assert canary.complaint(load(failures=3), load(failures=3), OLD, NEW) == ""
