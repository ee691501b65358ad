"""Protects the ddsm pipeline: from phantoms to an endpoint that reads DICOM, on two accelerators side by side."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.e2e.checkouts import Checkout, cached, executed
from tests.images.trainer.mammograms import dicom

FEW = (
    "image_height=64 image_width=48 max_trials=1 parallel_trials=1 trial_epochs=1 trial_examples=64 train_epochs=3 "
    "tutorial_steps=4 highest_error=1 margin=1 slice_margin=1"
)


@pytest.fixture(scope="module")
def data(checkout: Checkout) -> Path:
    """A small sample."""
    checkout.make("sample", "PIPELINE=ddsm", "COUNT=192", "SEED=2")
    return checkout.folder / "data" / "ddsm"


@pytest.fixture(scope="module")
def run(checkout: Checkout, data: Path) -> dict[str, Any]:
    """The first run: on the machines of cpu and, beside them, as on a TPU with JAX."""
    return checkout.run("ddsm", f"ARGS={FEW}", "ACCELERATOR=cpu,tpu")


def test_it_runs_to_its_endpoint_with_both_networks(run: dict[str, Any]) -> None:
    assert run["state"] == "PIPELINE_STATE_SUCCEEDED"
    assert {"ingest", "tune", "train", "train the tutorial's network", "evaluate", "export"} <= executed(run)
    for name in ("balanced_accuracy", "quadratic_kappa", "accuracy"):
        assert name in run["metrics"] and f"baseline_{name}" in run["metrics"]
    assert len(run["predictions"]) == 5


def test_two_accelerators_are_compared(run: dict[str, Any]) -> None:
    assert {"train on the second accelerator", "compare the accelerators"} <= executed(run)
    assert 0 <= run["metrics"]["same_answer"] <= 1
    assert run["metrics"]["speed_up"] > 0
    assert run["metrics"]["cost_ratio"] > 0


def test_its_endpoint_reads_dicom_and_png(checkout: Checkout, run: dict[str, Any], data: Path) -> None:
    png = next(data.glob("*.png"))
    greys = np.asarray(Image.open(io.BytesIO(png.read_bytes())))
    (checkout.folder / "film.dcm").write_bytes(dicom(greys))
    answers = [
        checkout.make("predict", "PIPELINE=ddsm", f"INPUT={file}").stdout.replace(Path(file).name, "")
        for file in ("film.dcm", str(png))
    ]
    assert "expected_density" in answers[0] and "probabilities" in answers[0]
    assert answers[0].split() == answers[1].split()


def test_an_unchanged_rerun_trains_nothing(checkout: Checkout, run: dict[str, Any]) -> None:
    again = checkout.run("ddsm", f"ARGS={FEW}", "ACCELERATOR=cpu,tpu")
    assert cached(again) >= {"ingest", "tune", "train", "evaluate", "export", "train on the second accelerator"}


def test_an_unknown_accelerator_is_one_message(checkout: Checkout, run: dict[str, Any]) -> None:
    done = checkout.make("run", "PIPELINE=ddsm", "ACCELERATOR=npu", expect=2)
    assert "error: ACCELERATOR=npu: no npu; there are cpu, gpu, tpu" in done.stderr
