"""Asks the deployed endpoint about one file."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines import UserError, settings
from pipelines.cli import compile, targets
from pipelines.cli.targets import Target
from pipelines.cli.vertex import Vertex
from pipelines.settings.schema import nearest


def predict(pipeline: str, target: Target, path: str) -> None:
    """Prints what the endpoint answers.

    Args:
        pipeline: whose endpoint to ask.
        target: where it is deployed.
        path: the file to send.

    Raises:
        UserError: no such file, pipeline or endpoint.
        ServiceError: the endpoint refused the file, or failed.
    """
    try:
        content = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise UserError(f"INPUT={path}: {error.strerror}; give a file, such as INPUT=word.png") from None
    vertex, endpoint = find(pipeline, target)
    instance = {"bytes_inputs": {"b64": base64.b64encode(content).decode()}, "key": Path(path).name}
    (answer,) = vertex.predict(endpoint["name"], [instance])
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in answer.items():
        table.add_row(name, _text(value))
    Console().print(table)


def find(pipeline: str, target: Target) -> tuple[Vertex, dict[str, Any]]:
    """The endpoint that the pipeline's settings name, and the session to ask it with.

    Raises:
        UserError: no such pipeline, or it is not deployed.
    """
    if pipeline not in compile.names():
        raise UserError(f"PIPELINE={pipeline}: no such pipeline{nearest(pipeline, compile.names())}")
    environment = settings.environment(target.settings)
    name = environment.pipelines.get(pipeline, {}).get("endpoint_name", pipeline)
    targets.prepare(target, quiet=True)
    vertex = Vertex(environment)
    endpoint = vertex.endpoint(name)
    if endpoint is None:
        raise UserError(f"no endpoint named {name} yet; deploy one with: make run PIPELINE={pipeline}")
    return vertex, endpoint


def _text(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
