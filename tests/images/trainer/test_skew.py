"""Protects the skew check: shifted, missing and strange values are told; chance alone is not."""

from __future__ import annotations

import itertools
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from images.executor import UserError
from images.trainer import skew
from images.trainer.distributions import distribution
from images.trainer.systems.iris import data as iris

TRAINED = 400
MEANS, SPREADS = (5.8, 3.0, 3.8, 1.2), (0.8, 0.4, 0.7, 0.3)


def flowers(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Rows of one distribution; the third number may be shifted by so many deviations."""
    rows = np.random.default_rng(seed).normal(MEANS, SPREADS, (count, 4)).round(2)
    rows[:, 2] += shift * SPREADS[2]
    return rows.round(3)


def table(path: Path, rows: np.ndarray) -> Path:
    path.write_text("\n".join([",".join(iris.NAMES), *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> Path:
    """What the stage reads of Examples."""
    folder, training = tmp_path_factory.mktemp("examples"), flowers(TRAINED, seed=1)
    columns = {name: distribution(training[:, index]) for index, name in enumerate(iris.NAMES)}
    schema = {"system": "iris", "columns": columns, "answer": distribution([0, 1] * 200), "counts": {"train": TRAINED}}
    (folder / "schema.json").write_text(json.dumps(schema))
    return folder


@pytest.fixture
def check(examples, tmp_path):
    """Runs the stage on a file or folder, and gives what it found."""

    def checked(data: Path, threshold: float = skew.THRESHOLD) -> dict[str, float]:
        return skew.skew(
            "iris", str(examples), str(data), str(tmp_path / "metrics.json"), str(tmp_path / "report.html"), threshold
        )

    return checked


def test_the_same_distribution_passes_and_a_shifted_one_does_not(check, tmp_path):
    assert check(table(tmp_path / "same.csv", flowers(300, seed=2)))["passed"] is True
    found = check(table(tmp_path / "shifted.csv", flowers(300, seed=2, shift=1.5)))
    assert found["passed"] is False
    assert found["petal_length_distance"] == found["largest_distance"] > 0.4
    assert max(found[f"{name}_distance"] for name in iris.NAMES if name != "petal_length") < 0.15
    assert json.loads((tmp_path / "metrics.json").read_text()) == found
    page = (tmp_path / "report.html").read_text()
    assert "drifted" in page and "petal_length" in page and "<script" not in page


def test_a_few_rows_are_no_drift_but_many_alike_are(check, tmp_path):
    few = [check(table(tmp_path / "few.csv", flowers(8, seed))) for seed in range(10)]
    assert min(found["largest_distance"] for found in few) > skew.THRESHOLD
    assert sum(found["passed"] for found in few) >= 8
    assert check(table(tmp_path / "alike.csv", flowers(1, seed=3).repeat(8, axis=0)))["passed"] is False


def test_false_alarms_are_rare(examples, tmp_path):
    column = json.loads((examples / "schema.json").read_text())["columns"]["sepal_length"]
    alarms = sum(skew.compared("x", column, flowers(30, seed)[:, 0], 0.0).drifted for seed in range(100, 200))
    assert alarms <= 6  # One in a hundred is expected.


def test_the_threshold_decides(check, tmp_path):
    path = table(tmp_path / "new.csv", flowers(300, seed=2, shift=0.5))
    distance = check(path, threshold=1.0)["largest_distance"]
    assert check(path, threshold=1.0)["passed"] is True
    assert check(path, threshold=distance - 0.01)["passed"] is False
    assert check(path, threshold=distance + 0.01)["passed"] is True


def test_missing_and_strange_values_are_told(check, tmp_path):
    rows = [list(map(str, row)) for row in flowers(100, seed=4)]
    for index in range(40):
        rows[index][1] = ("", "NA", "x", "nan")[index % 4]
    for index in range(10):
        rows[index][0] = "99"
    path = tmp_path / "new.csv"
    path.write_text("\n".join([",".join(iris.NAMES), *map(",".join, rows)]))
    found = check(path)
    assert found["sepal_width_missing"] == pytest.approx(0.4)
    assert found["sepal_length_outside"] >= 0.1
    assert found["sepal_length_missing"] == found["petal_width_missing"] == 0
    assert found["sepal_width_distance"] > 0.3 and found["passed"] is False


def test_a_column_that_is_missing_everywhere_is_as_far_as_can_be(check, tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"sepal_length": 5.8, "sepal_width": 3.0, "petal_length": 3.8}\n' * 5)
    found = check(path)
    assert found["petal_width_missing"] == 1 and found["petal_width_distance"] == pytest.approx(1)
    assert found["passed"] is False
    assert "nan" in (tmp_path / "report.html").read_text()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.floats(-50, 50), st.just(float("nan"))), min_size=1, max_size=60))
def test_a_distance_is_scipys_over_all_bins(values):
    training = flowers(TRAINED, seed=1)[:, 0]
    column = distribution(training)
    found = skew.compared("x", column, np.array(values), 0.2)
    edges = [-np.inf, training.min() - 1e-4, *column["edges"], training.max() + 1e-4, np.inf]
    old = [((training >= low) & (training < high)).mean() for low, high in itertools.pairwise(edges)]
    new = [np.mean([low <= value < high for value in values]) for low, high in itertools.pairwise(edges)]
    expected = jensenshannon([*old, 0], [*new, np.mean(np.isnan(values))], base=2)
    assert found.distance == pytest.approx(expected, abs=1e-9)
    assert 0 <= found.distance <= 1 and sum(found.shares) == pytest.approx(1)


FORMS = {
    "named": lambda row: dict(zip(iris.NAMES, row, strict=True)),
    "list": list,
    "numbers": lambda row: {"numbers": row, "key": "a"},
    "csv_row": lambda row: {"csv_row": ",".join(map(str, row)), "key": "a"},
    "bare csv": lambda row: ",".join(map(str, row)),
    "request": lambda row: {"instances": [dict(zip(iris.NAMES, row, strict=True))]},
    "batch prediction": lambda row: {"instance": row, "prediction": {"class": "setosa"}},
}


@pytest.mark.parametrize("form", FORMS)
def test_logged_requests_are_read_in_every_form(tmp_path, form):
    rows = flowers(10, seed=5)
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(json.dumps(FORMS[form](row)) for row in rows.tolist()) + "\n\n")
    found = skew.read(str(path), "iris")
    assert list(found.columns) == [*iris.NAMES, *(["answer"] if form == "batch prediction" else [])]
    np.testing.assert_array_equal(found[[*iris.NAMES]].to_numpy(), rows)


def test_what_is_no_instance_counts_as_missing(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"sepal_lenght": 1}\n[1, null]\n7\n{"csv_row": "1,x,,4,5"}\n{"numbers": {"a": 1}}\n"" \n')
    np.testing.assert_array_equal(
        skew.read(str(path), "iris").to_numpy(),
        [[np.nan] * 4, [1, *[np.nan] * 3], [np.nan] * 4, [1, np.nan, np.nan, 4], [np.nan] * 4, [np.nan] * 4],
    )


def test_answers_are_compared_where_they_were_logged(check, tmp_path):
    path, rows = tmp_path / "log.jsonl", flowers(300, seed=9).tolist()
    for answers, drifted in ((("setosa", "versicolor"), False), (("virginica",), True), ((None, "rose"), True)):
        logged = zip(rows, itertools.cycle(answers))
        path.write_text("".join(json.dumps({"instance": r, "prediction": {"class": a}}) + "\n" for r, a in logged))
        found = check(path)
        assert (found["answer_distance"] == found["largest_distance"]) is drifted, found
        assert found["passed"] is not drifted
        assert found["answer_missing"] == (1 if answers[0] is None else 0)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "answer_distance" not in check(path)


def test_a_folder_is_read_whole_also_packed(tmp_path):
    folder, packed = tmp_path / "folder", tmp_path / "packed"
    folder.mkdir()
    packed.mkdir()
    table(folder / "a.csv", flowers(3, seed=6))
    (folder / "b.jsonl").write_text(json.dumps(flowers(1, seed=7)[0].tolist()))
    (folder / "sample.json").write_text("{\n}")  # What is beside the data of a sample.
    with tarfile.open(packed / "source.tar", "w") as tar:
        tar.add(folder, ".")
    expected = np.concatenate([flowers(3, seed=6), flowers(1, seed=7)])
    for place in (folder, packed):
        np.testing.assert_array_equal(skew.read(str(place), "iris").to_numpy(), expected)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("new.csv", "", "new.csv: empty"),
        ("new.csv", ",".join(iris.NAMES), "new.csv: only a header"),
        ("new.csv", "a,b\n1,2\n", "line 1: no column sepal_length"),
        ("new.jsonl", "", "no row in it"),
        ("new.jsonl", "[1,2,3,4]\n{", "new.jsonl: line 2: not JSON; give one request a line"),
        ("new.jsonl", "[" * 100_000, "new.jsonl: line 1: not JSON"),
        ("new.txt", "1,2,3,4", "no .csv or .jsonl file there"),
    ],
)
def test_bad_data_is_one_message_and_leaves_nothing(check, tmp_path, name, content, message):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / name).write_text(content)
    with pytest.raises(UserError) as error:
        check(folder)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert sorted(os.listdir(tmp_path)) == ["source"]


def test_the_stage_writes_what_kfp_reads(examples, tmp_path, stage):
    path = table(tmp_path / "new.csv", flowers(50, seed=8, shift=3))
    outputs = {name: {"artifacts": [{"name": name, "uri": f"gs://b/{name}"}]} for name in ("metrics", "report")}
    asked = {"outputs": {"artifacts": outputs, "outputFile": f"{tmp_path}/output.json"}}
    flags = ["--system=iris", f"--examples={examples}", f"--data={path}", "--threshold=0.3"]
    flags += [f"--metrics={tmp_path}/metrics.json", f"--report={tmp_path}/report.html"]
    made = stage("trainer.skew", *flags, "--executor_input", json.dumps(asked))
    assert made.returncode == 0, made.stderr  # Drift is no failure of the stage.
    written = json.loads((tmp_path / "output.json").read_text())["artifacts"]["metrics"]["artifacts"][0]["metadata"]
    assert written["passed"] is False and written["new_rows"] == 50
    assert written["told"].startswith("drifted: of 50 new examples, petal_length is furthest from training, by 0.")
    assert made.stdout.startswith("passed False  new_rows 50")
    failed = stage("trainer.skew", *flags[:2], f"--data={tmp_path}/absent", *flags[3:])
    assert failed.returncode == 2 and failed.stderr.count("\n") == 1 and "absent" in failed.stderr
