"""Protects the cross-validation of tables: every row answered once a division, honest intervals, a fair comparison."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.executor import UserError
from images.trainer.compare import compare, interval


@pytest.fixture(scope="module")
def irises(tmp_path_factory, iris_examples):
    """A folder with Examples of all irises, and the classic hyperparameters."""
    folder = tmp_path_factory.mktemp("irises")
    (folder / "examples").symlink_to(iris_examples)
    values = {"hidden_units": "16", "learning_rate": 0.02, "batch_size": 16, "dropout": 0.0, "activation": "tanh"}
    (folder / "hyperparameters.json").write_text(json.dumps(values))
    return folder


def flags(folder: Path, **changes: object) -> list[str]:
    values = {"fold": 0, "folds": 3, "seeds": 1, "epochs": 20, **changes}
    return [
        "--system=iris",
        f"--examples={folder}/examples",
        f"--hyperparameters={folder}/hyperparameters.json",
        f"--scores={folder}/scores.json",
        *(f"--{name}={value}" for name, value in values.items()),
    ]


def test_a_fold_is_answered_by_the_network_and_by_the_baselines(irises, stage):
    made = stage("trainer.cross_validate", *flags(irises, fold=2))
    assert made.returncode == 0, made.stderr
    found = json.loads((irises / "scores.json").read_text())
    assert [(score["model"], score["baseline"]) for score in found] == [
        ("network", False),
        ("logistic regression", True),
        ("gradient boosting", True),
    ]
    assert {(score["fold"], score["folds"], score["rows"]) for score in found} == {(2, 3, 49)}
    assert all(score["right"] >= 0.85 * score["rows"] for score in found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fold": 3}, "--fold=3 --folds=3: give at least 2 folds, and one of them counting from 0"),
        ({"seeds": 0}, "--seeds=0 --epochs=20: give at least 1 of each"),
        ({"examples": "nowhere"}, "--examples=nowhere: no schema.json there"),
    ],
)
def test_mistakes_are_told(irises, stage, changes, message):
    made = stage("trainer.cross_validate", *flags(irises, **changes))
    assert made.returncode == 2
    assert message in made.stderr
    assert "Traceback" not in made.stderr


def scores(network: list[int], baseline: list[int], rows: int = 10) -> list[list[dict[str, object]]]:
    """Of each fold how many rows each of two models has right."""
    return [
        [
            {"model": name, "baseline": name != "network", "seed": 0, "fold": fold, "folds": len(network)}
            | {"right": right, "rows": rows}
            for name, right in (("network", ours), ("simple rule", theirs))
        ]
        for fold, (ours, theirs) in enumerate(zip(network, baseline, strict=True))
    ]


def test_the_lead_is_measured_fold_by_fold(tmp_path):
    rates = compare(scores([9, 5, 7], [8, 4, 6]), str(tmp_path / "metrics.json"), str(tmp_path / "report.html"))
    assert rates["cross_validated_accuracy"] == pytest.approx(0.7)
    assert rates["simple_rule_accuracy"] == pytest.approx(0.6)
    assert rates["lead_over_simple_rule"] == pytest.approx(0.1)
    assert rates["lead_over_simple_rule_low"] == pytest.approx(0.1)
    assert json.loads((tmp_path / "metrics.json").read_text()) == rates
    page = (tmp_path / "report.html").read_text()
    assert "better" in page
    assert "70.0 %" in page


def test_an_interval_ends_where_accuracy_does(tmp_path):
    rates = compare(scores([10, 9, 10], [0, 1, 0]), str(tmp_path / "metrics.json"), str(tmp_path / "report.html"))
    assert (rates["cross_validated_accuracy_high"], rates["simple_rule_accuracy_low"]) == (1, 0)
    assert rates["lead_over_simple_rule_high"] == 1


@pytest.mark.parametrize("broken", [[], [[]], [[{"model": "network"}]], scores([9, 5, 7], [8, 4, 6])[:2]])
def test_a_missing_fold_is_no_result(tmp_path, broken):
    with pytest.raises(UserError, match="--scores"):
        compare(broken, str(tmp_path / "metrics.json"), str(tmp_path / "report.html"))
    assert not list(tmp_path.iterdir())


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.integers(2, 10))
def test_folds_that_share_rows_widen_the_interval(values, folds):
    low, high = interval(values, folds)
    mean = math.fsum(values) / len(values)
    assert low <= mean + 1e-9
    assert high >= mean - 1e-9
    wider = interval(values, 2)
    assert wider[1] - wider[0] >= high - low - 1e-9


def test_a_preset_is_written_by_name(tmp_path, stage):
    made = stage("trainer.preset", "--system=mnist", "--name=classic", f"--hyperparameters={tmp_path}/h.json")
    assert made.returncode == 0, made.stderr
    assert json.loads((tmp_path / "h.json").read_text())["architecture"] == "classic"
    made = stage("trainer.preset", "--system=mnist", "--name=clasic", f"--hyperparameters={tmp_path}/no.json")
    assert (made.returncode, made.stderr.strip()) == (
        2,
        "error: --name=clasic: mnist has no such preset; did you mean classic?",
    )
    assert not (tmp_path / "no.json").exists()
