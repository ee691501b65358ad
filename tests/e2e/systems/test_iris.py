"""Protects the deployed model: unchanged data trains nothing, corrupted data is refused, no client notices either."""

from __future__ import annotations

import csv
import json
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.checkouts import Checkout, environment, executed

SMALL = "ARGS=max_trials=1 parallel_trials=1 trial_epochs=2 train_epochs=40 seeds=1 fold_epochs=2"
LOOKS = {"snapshot", "champion", "notify"}
# Predicts without pause, and writes each answer down.
CLIENT = """
import pathlib, sys
from images.launcher.endpoints import Endpoint
from images.launcher.rest import Vertex

endpoint = Endpoint.find(Vertex("localvertex", "us-central1"), "iris")
flower = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
with open(sys.argv[1], "a", buffering=1) as file:
    while not pathlib.Path(sys.argv[1] + ".stop").exists():
        answer = endpoint.ask([flower])
        file.write(f"{answer.error or answer.predictions[0]['class']}\\n")
"""


@pytest.fixture(scope="module")
def first(checkout: Checkout) -> dict[str, Any]:
    checkout.make("sample", "PIPELINE=iris")
    return checkout.run("iris", SMALL)


@pytest.fixture(scope="module")
def client(checkout: Checkout, first: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The answers that a client gets who never stops asking."""
    answers = tmp_path_factory.mktemp("client") / "answers"
    python = str(checkout.folder / ".venv" / "bin" / "python")
    told = subprocess.run(
        [python, "-m", "localvertex", "env", "--json"], cwd=checkout.folder, capture_output=True, env=environment()
    )
    asking = subprocess.Popen(
        [python, "-c", CLIENT, str(answers)], cwd=checkout.folder, env=environment() | json.loads(told.stdout)
    )
    while not answers.exists() or not answers.stat().st_size:
        assert asking.poll() is None
        time.sleep(0.1)
    yield answers
    Path(f"{answers}.stop").touch()
    assert asking.wait() == 0


@pytest.fixture(scope="module")
def unchanged(checkout: Checkout, client: Path) -> dict[str, Any]:
    return checkout.run("iris", SMALL)


@pytest.fixture(scope="module")
def corrupted(
    checkout: Checkout, unchanged: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """A run on the same flowers under names drawn by lot."""
    folder = tmp_path_factory.mktemp("corrupted")
    (file,) = (checkout.folder / "data" / "iris").glob("*.csv")
    with file.open(newline="") as source:
        head, *rows = list(csv.reader(source))
    names = [row[-1] for row in rows]
    random.Random(1).shuffle(names)
    with (folder / file.name).open("w", newline="") as target:
        csv.writer(target).writerows([head, *([*row[:-1], name] for row, name in zip(rows, names, strict=True))])
    return checkout.run("iris", SMALL, f"DATA={folder}")


def test_the_first_model_is_released(first: dict[str, Any]) -> None:
    assert first["release"].startswith("promoted: error_rate ")
    assert first["model"].endswith("@1")


def test_unchanged_data_trains_nothing(first: dict[str, Any], unchanged: dict[str, Any]) -> None:
    assert executed(unchanged) == LOOKS
    assert unchanged["data"].startswith(f"unchanged since {first['run'].rpartition('/')[2]}: ")
    assert (unchanged["model"], unchanged["release"]) == (first["model"], first["release"])


def test_corrupted_data_is_refused_in_one_line_and_the_champion_serves_on(
    first: dict[str, Any], corrupted: dict[str, Any]
) -> None:
    assert corrupted["state"] == "PIPELINE_STATE_SUCCEEDED"
    assert "train" in executed(corrupted)
    assert corrupted["release"].startswith("refused: ") and "\n" not in corrupted["release"]
    assert (corrupted["model"], corrupted["endpoint"]) == (first["model"], first["endpoint"])


def test_there_is_nothing_to_roll_back_to_yet(checkout: Checkout, corrupted: dict[str, Any]) -> None:
    assert "no previous version" in checkout.make("rollback", "PIPELINE=iris", expect=2).stderr


def test_no_client_noticed(client: Path, corrupted: dict[str, Any]) -> None:
    answers = client.read_text().splitlines()
    assert set(answers) == {"setosa"}, f"of {len(answers)} answers"


def test_requests_are_watched(checkout: Checkout, client: Path, corrupted: dict[str, Any]) -> None:
    """One flower asked for over and over is no sample of what was trained on: that is drift, and it is told."""
    watched = checkout.run("iris_monitor")
    assert executed(watched) == {"requests", "skew", "notify"}
    run = watched["run"].rpartition("/")[2]
    (log,) = (checkout.folder / ".localvertex" / "logs" / run).glob("*notify.log")
    assert log.read_text().startswith("drift: exit-handler-1.condition-2.skew: ")
