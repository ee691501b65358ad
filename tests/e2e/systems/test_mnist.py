"""Protects mnist end to end: two networks in one report, requests in both forms, batch prediction, the scale table."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.e2e.checkouts import Checkout, cached, executed

# Enough to tell most digits apart; the README has the full score.
SMALL = "ARGS=max_trials=2 trial_epochs=1 trial_examples=500 train_epochs=15 classic_steps=60 highest_error=1"
BATCHES = """
import base64, json, os, time
from pathlib import Path
from google.cloud import aiplatform, storage
from images.trainer import records

aiplatform.init(project="localvertex", location="us-central1")
(model,) = aiplatform.Model.list(filter='display_name="mnist"')
bucket = storage.Client().bucket("localvertex")
bucket.blob("batch/request.jsonl").upload_from_filename("request.json")
pictures = [json.loads(line)["bytes_inputs"]["b64"] for line in Path("pictures.jsonl").read_text().splitlines()]
records.write(Path("pictures.tfrecord"), [base64.b64decode(picture) for picture in pictures])
bucket.blob("batch/pictures.tfrecord").upload_from_filename("pictures.tfrecord")
answers = {}
for kind, name in (("jsonl", "request.jsonl"), ("tf-record", "pictures.tfrecord")):
    job = model.batch_predict(
        job_display_name=kind,
        gcs_source=f"gs://localvertex/batch/{name}",
        gcs_destination_prefix="gs://localvertex/batch/answers",
        instances_format=kind,
        machine_type="n1-standard-2",
        sync=False,
    )
    job.wait_for_resource_creation()
    while not job.done():
        time.sleep(0.2)
    lines = [line for blob in job.iter_outputs() for line in blob.download_as_text().splitlines()]
    answers[kind] = [json.loads(line)["prediction"]["class"] for line in lines]
print(json.dumps(answers), flush=True)
os._exit(0)  # The SDK's threads would go on telling about the jobs.
"""


@pytest.fixture(scope="module")
def cold(checkout: Checkout) -> dict[str, Any]:
    checkout.make("sample", "PIPELINE=mnist", "COUNT=600")
    return checkout.run("mnist", SMALL)


def test_a_run_trains_both_networks_and_ends_in_an_endpoint(checkout: Checkout, cold: dict[str, Any]) -> None:
    assert cold["state"] == "PIPELINE_STATE_SUCCEEDED"
    assert executed(cold) >= {"ingest", "tune", "train", "train the classic network", "evaluate", "export"}
    assert cold["metrics"]["accuracy"] > 0.5 and cold["metrics"]["baseline_accuracy"] > 0.3
    assert cold["metrics"]["accuracy_low"] < cold["metrics"]["accuracy"] < cold["metrics"]["accuracy_high"]
    report = (checkout.folder / "build" / "mnist.report.html").read_text()
    assert "classic" in report and "workers" in report


def test_an_unchanged_rerun_trains_nothing(checkout: Checkout, cold: dict[str, Any]) -> None:
    again = checkout.run("mnist", SMALL)
    assert cached(again) >= {"ingest", "tune", "train", "train the classic network", "evaluate", "export"}
    assert again["metrics"] == cold["metrics"]


def test_the_request_file_is_answered_one_by_one_and_in_batches(checkout: Checkout, cold: dict[str, Any]) -> None:
    checkout.make("request", "PIPELINE=mnist")
    lines = [json.loads(line) for line in (checkout.folder / "request.json").read_text().splitlines()]
    assert all(len(line["inputs"]) == 784 for line in lines)
    printed = checkout.make("predict", "PIPELINE=mnist", "INPUT=request.json").stdout
    assert all(str(line["key"]) in printed for line in lines)
    (samples,) = (checkout.folder / ".localvertex" / "gcs").rglob("samples.jsonl")
    (checkout.folder / "pictures.jsonl").write_text(samples.read_text())
    answers = checkout.script(BATCHES)
    assert len(answers["jsonl"]) == len(lines)
    labels = [json.loads(line)["label"] for line in samples.read_text().splitlines()]
    assert len(answers["tf-record"]) == len(labels)
    assert sum(a == b for a, b in zip(answers["tf-record"], labels, strict=True)) > len(labels) / 2


def test_scale_trains_on_one_and_on_two_workers_and_compares(checkout: Checkout, cold: dict[str, Any]) -> None:
    printed = checkout.make("scale", "PIPELINE=mnist").stdout
    rows = re.findall(r"^ *([12]) +(\d.*)$", printed, re.MULTILINE)
    assert [workers for workers, _ in rows] == ["1", "2"], printed
    assert "speed-up" in printed and "prices of" in printed
