"""Protects work already done: a killed trainer resumes from its checkpoint, a killed service from its journal."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any, TypeVar

import psutil
import pytest

from tests.e2e.checkouts import Checkout

EPOCHS = 5
SMALL = f"ARGS=max_trials=1 parallel_trials=1 trial_epochs=1 trial_examples=200 train_epochs={EPOCHS} highest_error=1"
Found = TypeVar("Found")


@pytest.fixture(scope="module")
def sampled(checkout: Checkout) -> Checkout:
    checkout.make("sample", "PIPELINE=crnn", "COUNT=1000")
    return checkout


def processes(checkout: Checkout) -> list[psutil.Process]:
    """Everything localvertex started for this checkout, found by the mark it leaves in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("LOCALVERTEX_WORKLOAD", "").startswith(f"{checkout.folder}/"):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def trainer(checkout: Checkout) -> psutil.Process | None:
    for process in processes(checkout):
        try:
            if process.cmdline()[1:3] == ["-m", "images.trainer.train"]:
                return process
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return None


def trained(checkout: Checkout) -> int:
    """Nanosecond at which training last finished an epoch; 0 before the first."""
    found = checkout.folder.glob(".localvertex/gcs/**/checkpoints/*.npz")
    return max((path.stat().st_mtime_ns for path in found), default=0)


def wait_for(look: Callable[[], Found | None], running: subprocess.Popen[str]) -> Found:
    """Looks until something is found; fails when the run ends before."""
    while running.poll() is None:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    pytest.fail(f"the run ended too soon\n{running.communicate()[0]}")


def history(checkout: Checkout) -> list[dict[str, str]]:
    newest = max(checkout.folder.glob(".localvertex/gcs/**/history.csv"), key=lambda path: path.stat().st_mtime)
    with newest.open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture(scope="module")
def survived(sampled: Checkout) -> dict[str, Any]:
    """The summary of a run whose trainer was killed, and then, while it trained again, the service and its client."""
    run = sampled.start("run", "PIPELINE=crnn", SMALL)
    wait_for(lambda: trained(sampled), run)
    wait_for(lambda: trainer(sampled), run).kill()
    before = trained(sampled)
    wait_for(lambda: trained(sampled) > before, run)
    os.killpg(run.pid, signal.SIGKILL)
    psutil.Process(server_pid(sampled)).kill()
    run.communicate()
    return sampled.run("crnn", SMALL)


def server_pid(checkout: Checkout) -> int:
    for process in psutil.process_iter(["cmdline"]):
        if f"--home={checkout.folder}/.localvertex" in (process.info["cmdline"] or []):
            return int(process.pid)
    pytest.fail("no localvertex serves this checkout")


def test_training_went_on_where_it_was(sampled: Checkout, survived: dict[str, Any]) -> None:
    assert survived["state"] == "PIPELINE_STATE_SUCCEEDED"
    assert [int(row["epoch"]) for row in history(sampled)] == list(range(1, EPOCHS + 1))
    logs = "".join(path.read_text() for path in sampled.folder.glob(".localvertex/logs/**/*.log"))
    assert logs.count("resuming after epoch") == 2
    assert logs.count(f"epoch 1/{EPOCHS} ") == 1, "the first epoch was trained twice"


def test_finished_tasks_were_kept(sampled: Checkout, survived: dict[str, Any]) -> None:
    logs = [path for path in sampled.folder.glob(".localvertex/logs/crnn-*/*.log")]
    assert {path.parent.name for path in logs} == {survived["run"].rsplit("/", 1)[-1]}, "a second run was begun"
    (ingest,) = [path for path in logs if path.stem == "exit-handler-1.ingest"]
    assert ingest.read_text().count(" train, ") == 1, "ingest ran twice"


def test_no_process_outlives_the_service(sampled: Checkout, survived: dict[str, Any]) -> None:
    server = psutil.Process(server_pid(sampled))
    ours = {server.pid, *(child.pid for child in server.children(recursive=True))}
    assert {process.pid for process in processes(sampled)} <= ours
    sampled.make("stop")
    assert processes(sampled) == []
