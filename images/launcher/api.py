"""Clients of Vertex AI, and how a launcher waits, notes its job and passes a cancellation on."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from images import executor

Client = TypeVar("Client")

FIRST_WAIT, LONGEST_WAIT = 0.5, 20.0
"""Seconds between two looks at a job: short at first, so that a short job is not waited for in vain."""


def host(location: str) -> str:
    """Vertex AI's host name for a region."""
    return f"{location}-aiplatform.googleapis.com"


def client(kind: type[Client], location: str) -> Client:
    """Makes a client of one of Vertex AI's services.

    Args:
        kind: a client class of `google.cloud.aiplatform_v1`.
        location: the region.
    """
    return kind(client_options={"api_endpoint": host(location)})  # type: ignore[call-arg]


def waits() -> Iterator[float]:
    """Seconds to wait before each next look, ever longer."""
    wait = FIRST_WAIT
    while True:
        yield wait
        wait = min(wait * 1.2, LONGEST_WAIT)


def note_job(path: Path, kind: str, name: str, location: str) -> None:
    """Writes `gcp_resources`, by which Vertex AI's console and a restarted launcher find a job.

    Args:
        path: the file.
        kind: such as `HyperparameterTuningJob`.
        name: the job's resource name.
        location: the region.

    Source: github.com/kubeflow/pipelines components/google-cloud/google_cloud_pipeline_components/proto
    """
    resource = {"resourceType": kind, "resourceUri": f"https://{host(location)}/v1/{name}"}
    with executor.whole(path) as aside:
        aside.write_text(json.dumps({"resources": [resource]}))


def noted_job(path: Path) -> str | None:
    """The resource name of the job in a `gcp_resources` file; None if there is no file, or nothing in it."""
    if not path.exists() or not path.stat().st_size:
        return None
    (resource,) = json.loads(path.read_text())["resources"]
    found = re.search(r"projects/.*", resource["resourceUri"])
    return found.group() if found else None


@contextlib.contextmanager
def on_cancel(cancel: Callable[[], Any]) -> Iterator[None]:
    """While inside, SIGTERM, by which a pipeline cancels a task, calls `cancel` and ends the process."""

    def handle(_signal: int, _frame: FrameType | None) -> None:
        print("cancelled", flush=True)
        cancel()
        sys.exit(143)

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
