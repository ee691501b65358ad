"""Protects work already done: a killed trainer resumes from its checkpoint, a killed service from its journal."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from tests.e2e.conftest import Checkout, executed

EPOCHS = 8
SMALL = f"ARGS=max_trials=1 parallel_trials=1 trial_epochs=1 train_epochs={EPOCHS}"
Found = TypeVar("Found")


@pytest.fixture(scope="module")
def sampled(checkout: Checkout) -> Checkout:
    checkout.make("sample", "PIPELINE=crnn", "COUNT=1500")
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


def checkpoint(checkout: Checkout, seed: int) -> Path | None:
    """A checkpoint that training has finished writing, of a run newer than any before `seed`'s."""
    found = sorted(path for path in checkout.folder.glob(".localvertex/gcs/**/checkpoints") if any(path.iterdir()))
    return found[seed - 1] if len(found) >= seed else None


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


def test_killed_trainer_resumes_where_it_was(sampled: Checkout) -> None:
    run = sampled.start("run", "PIPELINE=crnn", SMALL)
    wait_for(lambda: checkpoint(sampled, 1), run)
    killed = wait_for(lambda: trainer(sampled), run)
    killed.kill()
    printed, _ = run.communicate()
    assert run.returncode == 0, printed
    assert [int(row["epoch"]) for row in history(sampled)] == list(range(1, EPOCHS + 1))
    logs = "".join(path.read_text() for path in sampled.folder.glob(".localvertex/logs/**/*.log"))
    assert logs.count(f"epoch 1/{EPOCHS} ") == 1, "the first epoch was trained twice"
    assert "resum" in logs


@pytest.fixture(scope="module")
def recovered(sampled: Checkout) -> dict[str, Any]:
    """The summary of a run whose client and service were both killed while it trained."""
    run = sampled.start("run", "PIPELINE=crnn", f"{SMALL} seed=2")
    wait_for(lambda: checkpoint(sampled, 2), run)
    server = psutil.Process(server_pid(sampled))
    os.killpg(run.pid, signal.SIGKILL)
    server.kill()
    run.communicate()
    return sampled.run("crnn", f"{SMALL} seed=2")


def server_pid(checkout: Checkout) -> int:
    for process in psutil.process_iter(["cmdline"]):
        if f"--home={checkout.folder}/.localvertex" in (process.info["cmdline"] or []):
            return int(process.pid)
    pytest.fail("no localvertex serves this checkout")


def test_killed_service_keeps_finished_tasks(sampled: Checkout, recovered: dict[str, Any]) -> None:
    assert recovered["state"] == "PIPELINE_STATE_SUCCEEDED"
    assert {"train", "export", "deploy"} <= executed(recovered)
    assert [int(row["epoch"]) for row in history(sampled)] == list(range(1, EPOCHS + 1))


def test_no_process_outlives_the_service(sampled: Checkout, recovered: dict[str, Any]) -> None:
    server = psutil.Process(server_pid(sampled))
    ours = {server.pid, *(child.pid for child in server.children(recursive=True))}
    assert {process.pid for process in processes(sampled)} <= ours
    sampled.make("stop")
    assert processes(sampled) == []
