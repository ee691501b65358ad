"""Asks the deployed endpoint about what is in a file."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines import UserError, settings
from pipelines.cli import boxes, compile, targets
from pipelines.cli.targets import Target
from pipelines.cli.vertex import Vertex
from pipelines.settings.schema import nearest


def predict(pipeline: str, target: Target, path: str) -> None:
    """Prints what the endpoint answers.

    Args:
        pipeline: whose endpoint to ask.
        target: where it is deployed.
        path: the file to send (see `instances`).

    Raises:
        UserError: no such file, pipeline or endpoint, or the file is not what its name says.
        ServiceError: the endpoint refused the file, or failed.
    """
    asked = instances(path)
    vertex, endpoint = find(pipeline, target)
    answers = vertex.predict(endpoint["name"], asked)
    names = list(answers[0])
    if len(answers) == 1 and boxes.are_in(answers[0]):
        drawn = compile.BUILD / f"{Path(path).stem}.boxes.png"
        Console().print(boxes.table(answers[0]))
        if boxes.draw(asked[0], answers[0], drawn):
            print(f"\nthe picture with its boxes: {drawn}")
        return
    if len(answers) == 1:
        table = Table(box=None, pad_edge=False, show_header=False)
        for name in names:
            table.add_row(name, _text(answers[0][name]))
    else:
        table = Table(*names, box=None, pad_edge=False)
        for answer in answers:
            table.add_row(*(_text(answer[name]) for name in names))
    Console().print(table)


def instances(path: str) -> list[Any]:
    """What a file holds, as instances of a request.

    Args:
        path: JSON is sent as it is: one instance, a list of them, `{"instances": […]}`, or one a line. Of a table,
            `.csv`, each line but a header is sent as `csv_row`. All else is sent as bytes, as one instance.

    Raises:
        UserError: it cannot be read, holds nothing, or is not what its name says.
    """
    file = Path(path).expanduser()
    try:
        content = file.read_bytes()
        if file.suffix.lower() in (".json", ".jsonl"):
            found = _of_json(content.decode("utf-8-sig"), path)
        elif file.suffix.lower() == ".csv":
            found = _of_table(content.decode("utf-8-sig"))
        else:
            found = [{"bytes_inputs": {"b64": base64.b64encode(content).decode()}, "key": file.name}]
    except OSError as error:
        raise UserError(f"INPUT={path}: {error.strerror}; give a file, such as INPUT=word.png") from None
    except UnicodeDecodeError:
        raise UserError(f"INPUT={path}: not text in UTF-8") from None
    if not found:
        raise UserError(f"INPUT={path}: nothing in it to ask about")
    return found


def _of_json(text: str, path: str) -> list[Any]:
    try:
        content = json.loads(text)
    except ValueError:
        return [_instance(line, number, path) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if isinstance(content, dict) and isinstance(content.get("instances"), list):
        return list(content["instances"])
    several = isinstance(content, list) and all(isinstance(part, dict | list) for part in content)
    return content if several else [content]


def _instance(line: str, number: int, path: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise UserError(f"INPUT={path}: line {number}: not JSON ({error})") from None


def _of_table(text: str) -> list[Any]:
    lines = [line for line in text.splitlines() if line.strip()]
    headed = bool(lines) and not any(character.isdigit() for character in lines[0])
    return [{"csv_row": line} for line in lines[headed:]]


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
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
