"""Protects that a system is added by its own files alone: a folder, a pipeline, its settings, and nothing edited."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.checkouts import Checkout, cached, executed

QUADRANTS = Path(__file__).with_name("quadrants")
STAGES = {"ingest", "preset", "train", "evaluate", "export", "deploy"}


@pytest.fixture(scope="module")
def run(checkout: Checkout) -> dict[str, Any]:
    """The first run of the sixth system."""
    shutil.copytree(QUADRANTS / "system", checkout.folder / "images" / "trainer" / "systems" / "quadrants")
    shutil.copyfile(QUADRANTS / "pipeline.py", checkout.folder / "pipelines" / "quadrants.py")
    for environment in ("local", "production"):
        with (checkout.folder / "pipelines" / "settings" / f"{environment}.yaml").open("a") as settings:
            settings.write((QUADRANTS / "settings.yaml").read_text())
    return checkout.run("quadrants")


def test_it_runs_from_its_sample_to_its_endpoint(run: dict[str, Any]) -> None:
    assert run["state"] == "PIPELINE_STATE_SUCCEEDED"
    assert executed(run) >= STAGES
    assert run["metrics"]["accuracy"] > 0.9
    assert all(0 <= each["confidence"] <= 1 for each in run["predictions"])
    assert sum(each["truth"] == each["answer"] for each in run["predictions"]) >= 4


def test_its_endpoint_answers(checkout: Checkout, run: dict[str, Any]) -> None:
    (checkout.folder / "point.json").write_text(json.dumps({"x": -0.7, "y": -0.6, "key": "a point"}))
    printed = checkout.make("predict", "PIPELINE=quadrants", "INPUT=point.json").stdout
    assert "south-west" in printed and "a point" in printed


def test_it_is_cached_by_its_own_code(checkout: Checkout, run: dict[str, Any]) -> None:
    report = checkout.folder / "images" / "trainer" / "systems" / "quadrants" / "report.py"
    report.write_text(report.read_text().replace("Telling", "Keeping"))
    again = checkout.run("quadrants")
    assert "evaluate" in executed(again) and cached(again) >= {"ingest", "preset", "train", "export"}
    assert "Keeping quadrants apart" in (checkout.folder / "build" / "quadrants.report.html").read_text()
