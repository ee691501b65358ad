"""Resource names: `projects/<number>/locations/<location>/<collection>/<id>`."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import Any

import proto
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

PROJECT_ID = r"[a-z][a-z0-9-]*[a-z0-9]"
_LEADING_PROJECT = re.compile(rf"^projects/({PROJECT_ID})(?=/|$)")
_QUOTED_PROJECT = re.compile(rf"(?<=[\"'=\s(])projects/({PROJECT_ID})(?=/)")

# What users wrote for their own programs to read is theirs: it is handed on as it came.
_FREE_TEXT = frozenset({"args", "command", "env", "labels", "display_name", "description"})
_FREE_FORM = frozenset({"google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.Any"})


def parent(project_number: str, location: str) -> str:
    """`projects/<number>/locations/<location>`, under which a region's resources hang."""
    return f"projects/{project_number}/locations/{location}"


def location_parent(name: str) -> str:
    """The `projects/…/locations/…` that a resource name begins with."""
    return "/".join(name.split("/")[:4])


def project_of(name: str) -> str:
    """The project (number or id) in a resource name."""
    return name.split("/")[1]


def location_of(name: str) -> str:
    """The location in a resource name."""
    return name.split("/")[3]


def id_of(name: str) -> str:
    """The last segment of a resource name, without a `@version`."""
    return name.rsplit("/", 1)[-1].partition("@")[0]


def new_id() -> str:
    """A fresh id of nineteen digits, as Vertex gives to resources whose client names none."""
    return str(10**18 + secrets.randbelow(8 * 10**18))


def normalise(message: proto.Message | Message, number_of: Callable[[str], str]) -> None:
    """Replace project ids by project numbers in every resource name of a request, in place.

    Args:
        message: a request; resource names in any of its fields, nested or repeated, and in filters.
        number_of: a project's number, by its id.
    """
    wire = type(message).pb(message) if isinstance(message, proto.Message) else message
    _normalise(wire, number_of)


def _normalise(message: Message, number_of: Callable[[str], str]) -> None:
    for field, value in message.ListFields():
        if field.name in _FREE_TEXT:
            continue
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            _normalise_children(field, value, number_of)
        elif field.type == FieldDescriptor.TYPE_STRING:
            _normalise_strings(message, field, value, number_of)


def _normalise_children(field: FieldDescriptor, value: Any, number_of: Callable[[str], str]) -> None:
    kind = field.message_type
    assert kind is not None
    if kind.full_name in _FREE_FORM:
        return
    if kind.GetOptions().map_entry:
        if kind.fields_by_name["value"].message_type is not None:
            for key in value:
                _normalise(value[key], number_of)
    elif isinstance(value, Message):
        _normalise(value, number_of)
    else:
        for item in value:
            _normalise(item, number_of)


def _normalise_strings(message: Message, field: FieldDescriptor, value: Any, number_of: Callable[[str], str]) -> None:
    pattern = _QUOTED_PROJECT if field.name == "filter" else _LEADING_PROJECT

    def numbered(text: str) -> str:
        return pattern.sub(lambda match: f"projects/{number_of(match[1])}", text)

    if isinstance(value, str):
        if "projects/" in value:
            setattr(message, field.name, numbered(value))
    else:
        value[:] = [numbered(text) for text in value]
