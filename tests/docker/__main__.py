"""`make test-docker`: starts an engine, and runs the tests that need containers and those that any runner must pass."""

from __future__ import annotations

import os
import subprocess
import sys

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
            engine.provide_base()
            engine.provide_kfp()
            code = _pytest(*(arguments or [OWN]))
            if not arguments:
                code = code or _pytest(*OF_ANY_RUNNER, **{runners.VARIABLE: runners.DOCKER})
            engine.prune()
            return code
    except engine.NoEngine as reason:
        print(f"tests of containers skipped: {reason}")
        return 0


def _pytest(*arguments: str, **variables: str) -> int:
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, env={**os.environ, engine.VARIABLE: "1", **variables}).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
