"""What flows between tasks: parameters, artifacts, and the states that tasks pass through."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any


class State(IntEnum):
    """State of a task, numbered as in the API's `PipelineTaskDetail.State`."""

    PENDING = 1
    RUNNING = 2
    SUCCEEDED = 3
    CANCELLED = 6
    FAILED = 7
    SKIPPED = 8
    """Not run because its outputs were in the cache."""
    NOT_TRIGGERED = 9

    @property
    def final(self) -> bool:
        """Whether nothing more will happen to the task."""
        return self not in (State.PENDING, State.RUNNING)

    @property
    def success(self) -> bool:
        """Whether the task's outputs are there."""
        return self in (State.SUCCEEDED, State.SKIPPED)


@dataclass(frozen=True)
class Artifact:
    """An artifact at run time.

    Args:
        name: resource name in the metadata store.
        uri: where its content is.
        schema_title: such as `system.Dataset`.
        schema_version: such as `0.0.1`.
        metadata: its properties.
        display_name: the name of the output that made it.
    """

    name: str
    uri: str
    schema_title: str
    schema_version: str
    metadata: dict[str, Any] = field(default_factory=dict)
    display_name: str = ""

    def to_runtime(self) -> dict[str, Any]:
        """The artifact as `RuntimeArtifact` JSON, which executors read."""
        kind = {"schemaTitle": self.schema_title, "schemaVersion": self.schema_version}
        return {"name": self.name, "type": kind, "uri": self.uri, "metadata": self.metadata}


@dataclass(frozen=True)
class Inputs:
    """What a task is given.

    Args:
        parameters: by name; those absent have neither a value nor a default.
        artifacts: by name, lists of one unless the input is a list.
        templates: names of the parameters that come from the pipeline's text and may hold placeholders. Values that
            users pass or tasks make are never searched for placeholders.
    """

    parameters: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, list[Artifact]] = field(default_factory=dict)
    templates: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Outputs:
    """What a task made: parameters and artifacts by name."""

    parameters: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, list[Artifact]] = field(default_factory=dict)

    def to_json(self) -> str:
        """For the journal and the cache."""
        artifacts = {name: [vars(item) for item in items] for name, items in self.artifacts.items()}
        return json.dumps({"parameters": self.parameters, "artifacts": artifacts})

    @classmethod
    def from_json(cls, text: str) -> Outputs:
        """The inverse of `to_json`."""
        content = json.loads(text)
        artifacts = {name: [Artifact(**item) for item in items] for name, items in content["artifacts"].items()}
        return cls(content["parameters"], artifacts)


class ValueProblem(Exception):
    """A value that does not have the type declared for it; the message says which type it has."""


def whole_numbers(value: Any) -> Any:
    """The value with 100.0 as 100: a protobuf Struct has no integers, and what reads the JSON often wants them."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [whole_numbers(item) for item in value]
    if isinstance(value, dict):
        return {key: whole_numbers(item) for key, item in value.items()}
    return value


def typed(value: Any, kind: str) -> Any:
    """A JSON value as the type declared for a parameter.

    Args:
        value: what JSON or a protobuf Value can hold.
        kind: name of a `ParameterType`, such as `NUMBER_INTEGER`; an unknown or empty one accepts everything.

    Raises:
        ValueProblem: the value is of another type.
    """
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "NUMBER_DOUBLE" and number:
        return float(value)
    if kind == "NUMBER_INTEGER" and number and (isinstance(value, int) or value.is_integer()):
        return int(value)
    if kind in _JSON_TYPES and isinstance(value, str):
        value = _json(value, kind)
    accepted = _JSON_TYPES.get(kind, {"STRING": str, "BOOLEAN": bool, "TASK_FINAL_STATUS": dict}.get(kind))
    if kind in ("NUMBER_DOUBLE", "NUMBER_INTEGER") or (accepted is not None and not isinstance(value, accepted)):
        raise ValueProblem(f"expected {kind}, got {_kind_of(value)} {json.dumps(value)[:80]}")
    return whole_numbers(value) if kind in _JSON_TYPES else value


def parsed(text: str, kind: str) -> Any:
    """The value that an executor wrote as text into a parameter's output file.

    Raises:
        ValueProblem: the text is not of the declared type.
    """
    if kind in ("STRING", ""):
        return text
    if kind == "BOOLEAN" and text.strip() in ("True", "False"):
        return text.strip() == "True"
    return typed(_json(text, kind), kind)


def text_of(value: Any) -> str:
    """The value as it stands in a command line: strings as they are, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


_JSON_TYPES: dict[str, type] = {"LIST": list, "STRUCT": dict}


def _json(text: str, kind: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ValueProblem(f"expected {kind}, got the text {text[:80]!r}") from None


def _kind_of(value: Any) -> str:
    names = {bool: "BOOLEAN", int: "NUMBER", float: "NUMBER", str: "STRING", list: "LIST", dict: "STRUCT"}
    return names.get(type(value), type(value).__name__)
