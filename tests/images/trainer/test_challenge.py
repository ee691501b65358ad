"""Protects the comparison: champion and challenger answer the same test examples, as SavedModels, as clients ask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from images.executor import UserError
from images.trainer.challenge import challenge
from images.trainer.gate import Rule

NAMES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
RULE = Rule(highest_error=0.25, margin=0.25, slice_margin=0.4, level=0.05)


def saved_model(folder: Path, classes: tuple[str, str, str]) -> Path:
    """A SavedModel that tells the classes apart by the petals' length, and calls them so."""
    import tensorflow as tf

    inputs = [tf.TensorSpec([None], tf.float32, name=name) for name in NAMES]

    @tf.function(input_signature=[*inputs, tf.TensorSpec([None], tf.string, name="key")])
    def serving_default(sepal_length, sepal_width, petal_length, petal_width, key):  # type: ignore[no-untyped-def]
        number = tf.cast(petal_length > 2.5, tf.int32) + tf.cast(petal_length > 4.85, tf.int32)
        found = tf.gather(tf.constant(classes), number)
        unused = 0.0 * (sepal_length + sepal_width + petal_width)
        return {"class": found, "confidence": 0.9 + unused, "key": tf.identity(key)}

    module = tf.Module()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serving_default})
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, iris_examples: Path) -> dict[str, Path]:
    """Examples, a good model, and one that was taught the wrong names."""
    folder = tmp_path_factory.mktemp("iris")
    return {
        "examples": iris_examples,
        "good": saved_model(folder / "good", ("setosa", "versicolor", "virginica")),
        "bad": saved_model(folder / "bad", ("setosa", "virginica", "versicolor")),
    }


def compare(made: dict[str, Path], challenger: str, champion: str | None, folder: Path) -> dict[str, Any]:
    files = {"verdict": str(folder / "verdict"), "report": str(folder / "report.html")}
    serving = str(made[champion]) if champion else None
    challenge("iris", str(made["examples"]), str(made[challenger]), serving, RULE, **files)
    loaded: dict[str, Any] = json.loads((folder / "verdict").read_text())
    return loaded


def test_a_model_taught_the_wrong_names_is_refused(made: dict[str, Path], tmp_path: Path) -> None:
    verdict = compare(made, "bad", "good", tmp_path)
    assert verdict["passed"] is False
    assert verdict["challenger_error"] > 0.5 > verdict["champion_error"]
    assert "\n" not in verdict["reason"] and "above the 0.25 that a model may have" in verdict["reason"]
    report = (tmp_path / "report.html").read_text()
    assert "<svg" in report and "class virginica" in report


def test_a_better_model_passes(made: dict[str, Path], tmp_path: Path) -> None:
    verdict = compare(made, "good", "bad", tmp_path)
    assert verdict["passed"] is True
    assert verdict["difference"] < verdict["difference_high"] < 0


def test_a_first_model_passes_by_the_minimum_alone(made: dict[str, Path], tmp_path: Path) -> None:
    assert compare(made, "good", None, tmp_path)["passed"] is True
    assert compare(made, "bad", None, tmp_path)["passed"] is False


def test_what_is_no_model_is_named(made: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--challenger=.*no saved_model.pb there"):
        challenge("iris", str(made["examples"]), str(tmp_path), None, RULE, str(tmp_path / "v"), str(tmp_path / "r"))
