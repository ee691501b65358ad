"""Writes requests to try the deployed endpoint with, from the test examples of the run that put it out."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from pipelines import UserError
from pipelines.cli import compile, lineage, source
from pipelines.cli.predict import find
from pipelines.cli.targets import Target

EXAMPLES, SAMPLES = "examples", "samples.jsonl"


def request(pipeline: str, target: Target, path: str) -> None:
    """Writes a file with an instance a line, and beside it the same as the body of one request.

    Args:
        pipeline: whose endpoint is to be asked.
        target: where it is deployed.
        path: the file to write.

    Raises:
        UserError: no such pipeline, it is not deployed, or no run put the endpoint out.
        ServiceError: the service refused or failed a call.
    """
    vertex, endpoint = find(pipeline, target)
    examples = lineage.ancestor(vertex, endpoint["name"], EXAMPLES)
    if examples is None:
        raise UserError(f"no run has put out {endpoint['name']}; deploy it with: make run PIPELINE={pipeline}")

    from google.cloud.storage import Client

    client = Client(project=vertex.parent.split("/")[1], credentials=vertex.credentials)
    with tempfile.TemporaryDirectory() as aside:
        Path(aside, SAMPLES).write_bytes(source.read(client, f"{examples['uri']}/{SAMPLES}"))
        command = [sys.executable, "-m", "images.trainer.request", f"--system={pipeline}", f"--examples={aside}"]
        done = subprocess.run([*command, f"--out={Path(path).resolve()}"], cwd=compile.ROOT)
    if done.returncode:
        raise UserError(f"{path} could not be written")
