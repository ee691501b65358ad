"""One real server for the contract tests, started by the command a user types; the SDK is its client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

PROJECT = "localvertex"
LOCATION = "us-central1"
BUCKET = "contract-tests"


@dataclass(frozen=True)
class LocalVertex:
    """A running server.

    Args:
        home: its state folder.
        environment: what a redirected process needs, on top of this one's own.
    """

    home: Path
    environment: dict[str, str]

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `localvertex …` for this server."""
        return run_command(self.home, *arguments)

    def python(self, script: str, *arguments: str) -> str:
        """Run a script in a redirected process of its own; returns what it printed."""
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def run_command(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `localvertex …` for a state folder, with variables added to the environment."""
    return subprocess.run(
        [sys.executable, "-m", "localvertex", *arguments],
        env={**os.environ, "LOCALVERTEX_HOME": str(home), **variables},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="session")
def localvertex(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[LocalVertex]:
    """A server in a fresh state folder; this process and its children are redirected to it.

    gRPC reads its root certificates once per process, so there is one server for all tests of a session.
    """
    home = tmp_path_factory.mktemp("localvertex") / "state"
    started = run_command(home, "start", LOCALVERTEX_DEBUG="1")
    assert started.returncode == 0, started.stderr
    environment = json.loads(run_command(home, "env", "--json").stdout)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield LocalVertex(home, environment)
    stopped = run_command(home, "stop")
    assert stopped.returncode == 0, stopped.stderr
    report_calls(home, pytestconfig)


def report_calls(home: Path, config: pytest.Config) -> None:
    """Hand what a server served and was asked on to the check in tests/conftest.py."""
    log = (home / "logs" / "server.log").read_text()
    calls = {line.partition(" localvertex.calls: ")[2] for line in log.splitlines()} - {""}
    if hasattr(config, "workeroutput"):
        config.workeroutput["contract"] = sorted(calls)
    else:
        config.pluginmanager.get_plugin("contract").log.update(calls)


@pytest.fixture(params=["grpc", "rest"])
def aiplatform(localvertex: LocalVertex, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The unmodified SDK, set up as a user would, once over gRPC and once over REST.

    It only looks more often whether what it waits for has ended, where it would sleep for one to five seconds.
    """
    from google.api_core.future import polling
    from google.cloud import aiplatform
    from google.cloud.aiplatform import jobs, pipeline_jobs, training_jobs

    for module in (jobs, pipeline_jobs, training_jobs):
        monkeypatch.setattr(module, "_JOB_WAIT_TIME", 0.05)
    monkeypatch.setattr(polling.DEFAULT_POLLING, "_initial", 0.05)
    aiplatform.init(
        project=PROJECT,
        location=LOCATION,
        staging_bucket=f"gs://{BUCKET}",
        api_transport=request.param,
    )
    return aiplatform
