"""`make test-docker`: starts an engine, and runs the tests that need containers and those that any runner must pass."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from localvertex.workloads import runners
from tests.docker import engine

OWN = "tests/docker"
OF_ANY_RUNNER = (
    "tests/conformance/test_environment.py",
    "tests/conformance/test_placeholders.py",
    "tests/conformance/test_artifacts.py",
    "tests/conformance/test_failures.py",
    "tests/conformance/test_retries.py",
    "tests/localvertex/workloads/test_runners.py",
    "tests/localvertex/jobs/test_custom_jobs.py",
)
"""Tests of what pipelines and jobs do that is the runner's doing; they pass with processes too, in `make test`."""


def main(arguments: list[str]) -> int:
    """Runs the tests, or those that the arguments name, and returns pytest's exit code; 0 where no engine can start."""
    try:
        with engine.running() as address:
            os.environ["DOCKER_HOST"] = address
            for provide in (engine.provide_base, engine.provide_kfp):
                started = time.monotonic()
                provide()
                print(f"{provide.__name__}: {time.monotonic() - started:.0f} s", flush=True)
            code = _pytest(*(arguments or (OWN, *OF_ANY_RUNNER)))
            engine.prune()
            return code
    except engine.NoEngine as reason:
        print(f"tests of containers skipped: {reason}")
        return 0


def _pytest(*arguments: str) -> int:
    own = {engine.VARIABLE: "1", runners.VARIABLE: runners.DOCKER}
    # As `make test` does: what shares images and runs is in one file, and the long files come first.
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
    report = ["--durations=12", "--durations-min=5"]
    return subprocess.run([*command, *report, *arguments], env={**os.environ, **own}).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
