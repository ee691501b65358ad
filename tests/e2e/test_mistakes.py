"""Protects the person who mistypes: each mistake gets one clear message, exit code 2 and no traceback."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.checkouts import Checkout, environment


def refused(checkout: Checkout, *arguments: str) -> str:
    """What `python -m pipelines` printed on stderr while refusing."""
    done = checkout.pipelines(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.count("error:") == 1, done.stderr
    return done.stderr


def test_unknown_pipeline(checkout: Checkout) -> None:
    message = refused(checkout, "run", "--pipeline", "crn")
    assert "crn" in message and "crnn" in message


def test_missing_folder(checkout: Checkout) -> None:
    assert "/no/such/folder" in refused(checkout, "run", "--pipeline", "crnn", "--data", "/no/such/folder")


def test_misspelt_parameter_is_refused_by_name_before_anything_runs(checkout: Checkout) -> None:
    message = refused(checkout, "run", "--pipeline", "crnn", "--args", "max_trails=2")
    assert "max_trails" in message and "max_trials" in message


def test_mistyped_parameter(checkout: Checkout) -> None:
    message = refused(checkout, "run", "--pipeline", "crnn", "--args", "max_trials=many")
    assert "max_trials" in message and "many" in message


def test_unknown_setting_is_refused_by_name(checkout: Checkout) -> None:
    settings = checkout.folder / "pipelines" / "settings" / "local.yaml"
    before = settings.read_text()
    try:
        settings.write_text(before.replace("train_epochs:", "train_epoch:"))
        message = refused(checkout, "run", "--pipeline", "crnn")
    finally:
        settings.write_text(before)
    assert "train_epoch" in message and "local.yaml" in message


def test_port_in_use(checkout: Checkout) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "localvertex", "start"],
            cwd=checkout.folder,
            capture_output=True,
            text=True,
            env=environment() | {"LOCALVERTEX_PORT": str(port), "LOCALVERTEX_HOME": str(checkout.folder / "other")},
        )
    assert done.returncode == 2
    assert str(port) in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "reason"),
    [([], "too little usable data"), (["a01-000u-00-00 ok 154 408 768 27 51 AT A"], "missing file")],
    ids=["empty list", "no image"],
)
def test_folder_without_a_usable_word(checkout: Checkout, tmp_path: Path, words: list[str], reason: str) -> None:
    (tmp_path / "words.txt").write_text("\n".join(["# nothing here", *words, ""]))
    done = checkout.make("run", "PIPELINE=crnn", f"DATA={tmp_path}", expect=2)
    printed = done.stdout + done.stderr
    assert "Traceback" not in printed
    assert printed.count("error: ") == 1
    assert "task ingest failed" in printed
    assert reason in printed
