"""A client that may be killed at any moment: `python -m tests.soak.submitter FOLDER TRANSPORT`.

It submits the pipelines of a folder, cancels those that are to be cancelled, and uploads an object for each. Whatever
the server has answered is noted, in a file that survives the client; what is noted already is not done again.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.api_core import exceptions
from google.cloud import aiplatform_v1, storage

PARENT = "projects/localvertex/locations/us-central1"
ENDPOINT = "us-central1-aiplatform.googleapis.com"
BUCKET = "soak"


def content(run: str) -> bytes:
    """What is uploaded for a run: large enough to be cut in two by a kill."""
    return f"{run}\n".encode() * 200_000


class Notes:
    """What was acknowledged, one line each: a verb and the id of a run."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "acknowledged"

    def read(self) -> set[tuple[str, str]]:
        """Everything so far; a line that a kill cut short does not count."""
        text = self._path.read_text() if self._path.exists() else ""
        return {(line.split()[0], line.split()[1]) for line in text.splitlines(keepends=True) if line.endswith(".\n")}

    def add(self, verb: str, run: str) -> None:
        """Note one thing."""
        with self._path.open("a") as file:
            file.write(f"{verb} {run} .\n")


def insist(call: Callable[[], Any]) -> None:
    """Call until there is an answer: the server may be gone for a while."""
    while True:
        try:
            call()
            return
        except exceptions.Conflict:
            return  # the answer to an earlier try was lost
        except (exceptions.GoogleAPICallError, exceptions.RetryError, OSError) as error:
            if isinstance(error, exceptions.ClientError) and error.code != 499:
                raise
            time.sleep(0.1)


def main(folder: Path, transport: str) -> None:
    notes = Notes(folder)
    done = notes.read()
    pipelines = aiplatform_v1.PipelineServiceClient(transport=transport, client_options={"api_endpoint": ENDPOINT})
    buckets = storage.Client(project="localvertex")
    bucket = buckets.bucket(BUCKET)
    for file in sorted(folder.glob("*.json")):
        run = file.stem
        name = f"{PARENT}/pipelineJobs/{run}"
        job = json.loads(file.read_text())

        def submit(run: str = run, job: dict[str, Any] = job) -> None:
            request = {"parent": PARENT, "pipeline_job": job, "pipeline_job_id": run}
            pipelines.create_pipeline_job(request, timeout=10, retry=None)

        def cancel(name: str = name) -> None:
            pipelines.cancel_pipeline_job(name=name, timeout=10, retry=None)

        def upload(run: str = run) -> None:
            bucket.blob(run).upload_from_string(content(run), timeout=10, retry=None)

        steps: list[tuple[str, Callable[[], Any]]] = [("submitted", submit), ("uploaded", upload)]
        if run.endswith("-cancelled"):
            steps.append(("cancelled", cancel))
        for verb, step in steps:
            if (verb, run) not in done:
                insist(step)
                notes.add(verb, run)
                time.sleep(random.random() * float(os.environ["SOAK_PACE"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
