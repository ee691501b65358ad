"""A checkout of its own for the end-to-end tests: they edit stage code, change data and kill servers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", ".localvertex", "build", "data", "__pycache__", ".*_cache")


@dataclass(frozen=True)
class Checkout:
    """A copy of the repository in which `make` is run as a person would."""

    folder: Path

    def make(self, *arguments: str, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Runs `make` to its end and returns what it printed; fails the test on another exit code than expected."""
        done = subprocess.run(["make", *arguments], cwd=self.folder, capture_output=True, text=True, env=environment())
        if expect is not None and done.returncode != expect:
            pytest.fail(f"make {' '.join(arguments)} exited {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def script(self, text: str, *arguments: str) -> dict[str, Any]:
        """Runs a script against this checkout's localvertex and returns the JSON it prints last."""
        python = str(self.folder / ".venv" / "bin" / "python")
        env = subprocess.run(
            [python, "-m", "localvertex", "env", "--json"], cwd=self.folder, capture_output=True, env=environment()
        )
        done = subprocess.run(
            [python, "-c", text, *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            env=environment() | json.loads(env.stdout),
        )
        if done.returncode:
            pytest.fail(f"the script exited {done.returncode}\n{done.stdout}\n{done.stderr}")
        loaded: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return loaded

    def pipelines(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `python -m pipelines` to its end, whatever its exit code."""
        command = [str(self.folder / ".venv" / "bin" / "python"), "-m", "pipelines", *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, env=environment())

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts `make` and returns at once."""
        return subprocess.Popen(
            ["make", *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
            start_new_session=True,
        )

    def summary(self, pipeline: str) -> dict[str, Any]:
        """What the last `make run` of a pipeline wrote about itself."""
        loaded: dict[str, Any] = json.loads((self.folder / "build" / f"{pipeline}.summary.json").read_text())
        return loaded

    def run(self, pipeline: str, *arguments: str) -> dict[str, Any]:
        """`make run`, to success, and its summary."""
        self.make("run", f"PIPELINE={pipeline}", *arguments)
        return self.summary(pipeline)


def environment() -> dict[str, str]:
    """This process's environment without what would point at another localvertex, or make it colourful."""
    unwanted = ("LOCALVERTEX_", "GOOGLE_", "MAKE", "MFLAGS")
    return {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A fresh copy of the repository, sharing only the Python environment; its localvertex is stopped at the end."""
    folder = tmp_path_factory.mktemp("e2e") / "checkout"
    shutil.copytree(REPOSITORY, folder, ignore=NOT_COPIED)
    (folder / ".venv").symlink_to(REPOSITORY / ".venv")
    copy = Checkout(folder)
    # It would be synchronised from the copy, and the repository's own environment would import the copy from then on.
    if "pip sync" in copy.make("--dry-run", "status").stdout:
        pytest.fail("the environment is not that of requirements.lock and setup.cfg: run make setup first")
    yield copy
    copy.make("stop", expect=None)


def executed(summary: dict[str, Any]) -> set[str]:
    """Names of the tasks that ran."""
    return {name for name, task in summary["tasks"].items() if task["state"] == "SUCCEEDED" and not task["cached"]}


def cached(summary: dict[str, Any]) -> set[str]:
    """Names of the tasks whose earlier outputs were taken."""
    return {name for name, task in summary["tasks"].items() if task["cached"]}
