"""Protects tuning jobs, models and endpoints in a browser: charts that tell, figures that count, answers with boxes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.localvertex.console import works
from tests.localvertex.console.accessibility import check
from tests.localvertex.console.support import PARENT, Console, Window, looker, windows

REFUSED = re.compile("status of 400")  # what one of the tests provokes


@pytest.fixture(scope="module")
def job(console: Console) -> str:
    """A tuning job, just begun."""
    return works.tune(console)


@pytest.fixture(scope="module")
def finder(console: Console) -> str:
    """An endpoint that finds things in pictures."""
    return console.deploy("finds things", works.finder())


@pytest.fixture
def window(browser: Any, console: Console) -> Iterator[Callable[..., Window]]:
    """Opens windows; at the end no script of ours has complained."""
    with windows(browser, console, REFUSED) as open_it:
        yield open_it


def test_a_tuning_job_is_watched_and_told(window: Callable[..., Window], console: Console, job: str) -> None:
    one = window()
    page = one.open("tuning")
    page.get_by_role("link", name="search").first.click()
    page.get_by_role("heading", name="succeeded").wait_for(timeout=60_000)
    told = console.call(f"v1/{job}")
    trials = told["trials"]
    assert page.locator("#trials tbody tr").count() == len(trials) == 8
    scores = {
        trial["id"]: trial["finalMeasurement"]["metrics"][0]["value"]
        for trial in trials
        if trial["state"] == "SUCCEEDED"
    }
    best = min(scores, key=lambda id: scores[id])
    assert page.locator("#best-trial").inner_text() == f"trial {best}"
    page.get_by_role("link", name="Best first").click()
    page.wait_for_url("**order=result")
    page.wait_for_function(f"() => document.querySelector('#trials tbody th').innerText.startsWith('{best}')")
    stopped = page.locator("#trials tbody tr", has_text="stopped").count()
    assert page.locator("#charts .end[d*='m0']").count() >= stopped > 0, "a cross where each was stopped"
    assert page.get_by_role("group", name="loss of each trial, step by step").locator("a").count() >= len(scores)
    assert page.get_by_role("group", name="Parameters and loss of each trial").locator(".strand").count() == len(scores)
    page.locator(".shares tr").first.wait_for(timeout=60_000)
    shares = page.locator(".shares tr").evaluate_all("rows => rows.map((row) => row.innerText.split(/\\s+/))")
    assert [name for name, *_ in shares] == ["size", "rate"] or [name for name, *_ in shares] == ["rate", "size"]
    assert sum(int(share) for _, share, *_ in shares) == pytest.approx(100, abs=1)
    page.locator("#trial-1").click()
    page.wait_for_url("**trial=1**")
    assert page.locator(".strand.chosen").count() == (1 if "1" in scores else 0)
    check(page)
    one.picture("tuning")
    page.get_by_role("link", name="Job of trial 1", exact=True).click()
    page.get_by_role("heading", name="search-trial-1").wait_for()
    assert "step 1" in page.get_by_role("region", name="Log").inner_text()
    check(page)


def test_a_tuning_job_is_cancelled(window: Callable[..., Window], console: Console) -> None:
    name = works.tune(console, trials=50)
    page = window().open(name)
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("heading", name="cancelled").wait_for(timeout=60_000)
    assert console.call(f"v1/{name}")["state"] == "JOB_STATE_CANCELLED"


def test_models_and_versions(window: Callable[..., Window], console: Console, finder: str) -> None:
    model = console.call(f"v1/{finder}")["deployedModels"][0]["model"]
    upload = {"displayName": works.HOSTILE, "containerSpec": works.finder(), "versionAliases": ["newer"]}
    console.call(f"{PARENT}/models:upload", {"model": upload, "parentModel": model})
    matrix = {"annotationSpecs": [{"displayName": "cat"}, {"displayName": "dog"}], "rows": [[3, 1], [0, 4]]}
    points = [{"confidenceThreshold": n / 4, "recall": 1 - n / 4, "precision": n / 4} for n in range(5)]
    metrics = {"accuracy": 0.875, "auPrc": 0.5, "confusionMatrix": matrix, "confidenceMetrics": points}
    evaluation = {"displayName": "on the test split", "metrics": metrics}
    console.call(f"v1/{model}@1/evaluations:import", {"modelEvaluation": evaluation})
    one = window()
    page = one.open("models")
    page.get_by_role("link", name="finds things").first.click()
    versions = page.locator("section[id^=version]")
    assert (
        versions.count() == 2 and "newer" in versions.nth(0).inner_text() and "default" in versions.nth(1).inner_text()
    )
    assert page.get_by_role("heading", level=1).inner_text() == works.HOSTILE and page.locator("main img").count() == 0
    assert "accuracy\n0.875" in versions.nth(1).inner_text()
    assert "On the diagonal: 87.5 % of all." in versions.nth(1).inner_text()
    assert versions.nth(1).get_by_role("img", name="Precision and recall: area").is_visible()
    assert "100 % of finds things" in versions.nth(1).inner_text()
    one.picture("model")
    check(page)
    versions.nth(1).get_by_role("link", name="finds things").click()
    page.get_by_role("heading", name="finds things", level=1).wait_for()


def test_a_batch_prediction_is_watched_and_told(window: Callable[..., Window], console: Console, finder: str) -> None:
    model = console.call(f"v1/{finder}")["deployedModels"][0]["model"]
    source = console.home.gcs / "batch" / "instances.jsonl"
    source.parent.mkdir()
    source.write_text('{"x": 1}\n{"x": 2}\n')
    body = {
        "displayName": "two rows",
        "model": model,
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["gs://batch/instances.jsonl"]}},
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": "gs://batch/answers"},
        },
        "dedicatedResources": {"machineSpec": {"machineType": "n1-standard-2"}},
    }
    page = window().open(console.call(f"{PARENT}/batchPredictionJobs", body)["name"])
    page.get_by_role("heading", name="two rows succeeded").wait_for()
    page.wait_for_function("() => document.querySelector('.facts').innerText.includes('Answered\\n2')")
    check(page)
    page.get_by_role("link", name=model).click()
    page.get_by_role("heading", name="Version 1").wait_for()
    never = {**body, "displayName": "never", "manualBatchTuningParameters": {"batchSize": 1}}
    source.write_text('{"x": 1}\n' * 100_000)
    page = window().open(console.call(f"{PARENT}/batchPredictionJobs", never)["name"])
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("heading", name="never cancelled").wait_for()


def test_a_custom_job_is_cancelled(window: Callable[..., Window], console: Console) -> None:
    container = {"imageUri": "example.test/job:1", "command": ["sh", "-c", "echo begun; sleep 600"]}
    pool = {"containerSpec": container, "replicaCount": 1, "machineSpec": {"machineType": "n1-standard-4"}}
    job = {"displayName": "endless", "jobSpec": {"workerPoolSpecs": [pool]}}
    page = window().open(console.call(f"{PARENT}/customJobs", job)["name"])
    page.get_by_text("begun").first.wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("heading", name="endless cancelled").wait_for()


def test_a_dropped_picture_gets_its_boxes(window: Callable[..., Window], finder: str, tmp_path: Path) -> None:
    Image.new("RGB", (400, 200), "white").save(tmp_path / "photo.png")
    one = window()
    page = one.open(finder)
    drop(page, tmp_path / "photo.png", "image/png")
    page.locator("#answer", has_text="things found").wait_for()
    assert page.locator("#answer strong").inner_text() == "2"
    rows = page.locator("#details tr").all_inner_texts()
    assert [re.split(r"\s*\t\s*", row)[:2] for row in rows] == [["<b>cat</b>", "91%"], ["dog", "55%"]]
    assert page.get_by_role("img", name="Paper, showing photo.png").is_visible()
    # The picture is 2 to 1, and lies in the middle of the square: its upper edge is at a quarter.
    row = page.evaluate(
        "() => { const paper = document.getElementById('paper'); const wide = paper.width;"
        " return [...paper.getContext('2d').getImageData(0, 0.4 * wide, wide, 1).data]; }"
    )
    side, outside = (row[4 * round(share * len(row) / 4) :][:4] for share in (0.2, 0.1))
    assert max(side[:3]) - min(side[:3]) > 40, "the left side of the first box"
    assert outside == [255, 255, 255, 255]
    one.picture("boxes")
    check(page)


def test_json_is_asked_and_counted(
    window: Callable[..., Window], console: Console, finder: str, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text('size,"a ""name"""\n1.5,small\n2,"3"\n')
    one = window()
    page = one.open("draw", endpoint=finder)
    page.wait_for_selector("#endpoint:enabled")
    page.set_input_files("#file", tmp_path / "rows.csv")
    written = page.get_by_label("Instances, a list in JSON")
    page.wait_for_function("(area) => area.value.includes('small')", arg=written.element_handle())
    assert json.loads(written.input_value()) == [{"size": 1.5, 'a "name"': "small"}, {"size": 2, 'a "name"': "3"}]
    page.get_by_role("button", name="Ask").click()
    page.get_by_text("Instance 2").wait_for()
    written.fill('{"instances": [{"x": 1}], "parameters": {"top": 3}}')
    written.press("Control+Enter")
    page.locator(".values", has_text='{"top":3}').wait_for()
    written.fill("[1,")
    page.get_by_role("button", name="Ask").click()
    page.get_by_text("What is written is not JSON").wait_for()
    written.fill('[{"fail": true}]')
    page.get_by_role("button", name="Ask").click()
    page.get_by_text("this one fails").wait_for()
    check(page)
    page = one.open(finder)
    row = page.locator("#traffic tbody tr").inner_text()
    asked = console.call(f"v1/{finder}")["deployedModels"][0]["id"]
    assert "1 INVALID_ARGUMENT" in row and "1 of 1 ready" in row and " ms" in row
    assert page.locator(f"#m-{asked}").is_visible() and page.locator(".recent .column").count() >= 2
    check(one.open("endpoints"))


@pytest.mark.parametrize(("width", "dark"), [(1280, True), (360, False)])
def test_every_page_suits_a_telephone_and_the_dark(
    window: Callable[..., Window], console: Console, job: str, finder: str, width: int, dark: bool
) -> None:
    works.finished(console, job)
    one = window(width=width, dark=dark)
    trial = console.call(f"v1/{job}")["trials"][0]["customJob"]
    model = console.call(f"v1/{finder}")["deployedModels"][0]["model"]
    for path in ("tuning", trial, "models", model, "endpoints", "draw", finder, job):
        check(one.open(path))
    one.picture(f"tuning-{width}-{'dark' if dark else 'light'}")


def test_the_share_of_traffic_is_told(window: Callable[..., Window], console: Console) -> None:
    endpoint = console.deploy("two models", looker("side"))
    uploaded = console.call(
        f"{PARENT}/models:upload", {"model": {"displayName": "other", "containerSpec": looker("amount")}}
    )
    first = console.call(f"v1/{endpoint}")["deployedModels"][0]["id"]
    machine = {"machineSpec": {"machineType": "n1-standard-2"}, "minReplicaCount": 1}
    deployed = {"model": uploaded["model"], "dedicatedResources": machine}
    console.call(f"v1/{endpoint}:deployModel", {"deployedModel": deployed, "trafficSplit": {"0": 30, first: 70}})
    page = window().open(endpoint)
    rows = page.locator("#traffic tbody tr").all_inner_texts()
    assert sorted(re.findall(r"(\d+) %", " ".join(rows))) == ["30", "70"]


def drop(page: Any, file: Path, kind: str) -> None:
    """Drop a file on the place to ask."""
    page.evaluate(
        """([name, kind, bytes]) => {
          const held = new DataTransfer();
          held.items.add(new File([new Uint8Array(bytes)], name, { type: kind }));
          const bench = document.getElementById("try");
          for (const event of ["dragover", "drop"]) {
            bench.dispatchEvent(new DragEvent(event, { dataTransfer: held, bubbles: true, cancelable: true }));
          }
        }""",
        [file.name, kind, list(file.read_bytes())],
    )
