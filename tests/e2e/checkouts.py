"""A copy of the repository, in which a test may edit stage code, change data and kill servers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
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
        done = subprocess.run(
            [self.python, "-c", text, *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            env=self.redirected(),
        )
        if done.returncode:
            pytest.fail(f"the script exited {done.returncode}\n{done.stdout}\n{done.stderr}")
        loaded: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return loaded

    @property
    def python(self) -> str:
        """The interpreter."""
        return str(self.folder / ".venv" / "bin" / "python")

    def redirected(self) -> dict[str, str]:
        """The environment of a process whose Google libraries are to talk to this checkout's localvertex."""
        command = [self.python, "-m", "localvertex", "env", "--json"]
        told = subprocess.run(command, cwd=self.folder, capture_output=True, env=environment(), check=True)
        variables: dict[str, str] = json.loads(told.stdout)
        return environment() | variables

    def pipelines(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `python -m pipelines` to its end, whatever its exit code."""
        command = [self.python, "-m", "pipelines", *arguments]
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


def executed(summary: dict[str, Any]) -> set[str]:
    """Names of the tasks that ran."""
    return {name for name, task in summary["tasks"].items() if task["state"] == "SUCCEEDED" and not task["cached"]}


def cached(summary: dict[str, Any]) -> set[str]:
    """Names of the tasks whose earlier outputs were taken."""
    return {name for name, task in summary["tasks"].items() if task["cached"]}
