"""The REST front end: the method table's HTTP rules applied backwards, from URL and JSON to requests."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from google.api import httpbody_pb2
from google.api_core import exceptions
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from localvertex.api.methods import HttpRule, MethodTable, decode, plain

_SYSTEM_PARAMETERS = frozenset(
    {"alt", "$alt", "key", "prettyPrint", "$prettyPrint", "quotaUser", "fields", "$fields", "access_token"}
)


class RestFrontend:
    """Answers JSON requests for the methods of a table.

    Args:
        table: what is served.
    """

    def __init__(self, table: MethodTable) -> None:
        self._table = table

    def answer(
        self, verb: str, path: str, query: Iterable[tuple[str, str]], body: bytes, content_type: str
    ) -> tuple[bytes, str]:
        """The body and content type that answer a request.

        Args:
            path: percent-encoded, as it was sent.
            query: decoded names and values.
            body: JSON, or anything where the method takes a raw body (`google.api.HttpBody`).

        Raises:
            google.api_core.exceptions.GoogleAPICallError: the request's error.
        """
        query = list(query)
        method, rule, variables = self._table.route(verb, path)
        request = method.signature.request()
        wire = plain(request)
        _fill_body(wire, rule, body, content_type)
        _fill_query(wire, query)
        for field, value in variables.items():
            _set_path(wire, field, value)
        response = method.call(request, "rest")
        if method.signature.streams:
            return _stream(response, query), "application/json"
        if method.signature.response is httpbody_pb2.HttpBody:
            return bytes(response.data), response.content_type
        return _json(response, query).encode(), "application/json; charset=UTF-8"


def _fill_body(wire: Message, rule: HttpRule, body: bytes, content_type: str) -> None:
    if not rule.body or not body:
        return
    fields = wire.DESCRIPTOR.fields_by_name
    if rule.body == "*" and "http_body" in fields:
        wire.http_body.content_type = content_type  # type: ignore[attr-defined]
        wire.http_body.data = body  # type: ignore[attr-defined]
        return
    target = wire if rule.body == "*" else getattr(wire, rule.body)
    try:
        json_format.Parse(body, target)
    except (json_format.ParseError, ValueError, RecursionError) as error:
        raise exceptions.InvalidArgument(f"Invalid JSON payload received. {error}") from error
    # JSON may nest deeper than messages: what is stored must be readable again.
    decode(type(wire), wire.SerializeToString())


def _fill_query(wire: Message, query: Iterable[tuple[str, str]]) -> None:
    tree: dict[str, Any] = {}
    for name, value in query:
        if name in _SYSTEM_PARAMETERS:
            continue
        _plant(tree, wire, name, value)
    try:
        json_format.ParseDict(tree, wire)
    except (json_format.ParseError, ValueError) as error:
        raise exceptions.InvalidArgument(f"Invalid value in the query. {error}") from error


def _plant(tree: dict[str, Any], wire: Message, name: str, value: str) -> None:
    """Add a query parameter such as `pipelineJob.displayName` to the JSON it stands for."""
    descriptor = wire.DESCRIPTOR
    *parents, leaf = name.split(".")
    for parent in parents:
        field = _field(descriptor, parent, name)
        if field.message_type is None:
            raise _unknown_parameter(name)
        descriptor = field.message_type
        tree = tree.setdefault(field.json_name, {})
    field = _field(descriptor, leaf, name)
    typed = _typed(field, value)
    if field.is_repeated:
        tree.setdefault(field.json_name, []).append(typed)
    else:
        tree[field.json_name] = typed


def _field(descriptor: Any, name: str, parameter: str) -> FieldDescriptor:
    for field in descriptor.fields:
        if name in (field.json_name, field.name):
            found: FieldDescriptor = field
            return found
    raise _unknown_parameter(parameter)


def _typed(field: FieldDescriptor, value: str) -> Any:
    if field.type == FieldDescriptor.TYPE_BOOL:
        return value.lower() in ("true", "1")
    if field.message_type is not None and field.message_type.full_name == "google.protobuf.FieldMask":
        # Both spellings are in use; JSON knows the camel-cased one alone.
        return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), value)
    return value


def _set_path(wire: Message, path: str, value: str) -> None:
    *parents, leaf = path.split(".")
    for parent in parents:
        wire = getattr(wire, parent)
    setattr(wire, leaf, value)


def _json(message: Any, query: Iterable[tuple[str, str]]) -> str:
    as_integers = any(name in ("$alt", "alt") and "enum-encoding=int" in value for name, value in query)
    return json_format.MessageToJson(
        plain(message), use_integers_for_enums=as_integers, indent=None, ensure_ascii=False
    )


def _stream(messages: Iterable[Any], query: Iterable[tuple[str, str]]) -> bytes:
    parts = list(messages)
    if all(isinstance(part, httpbody_pb2.HttpBody) for part in parts):
        return b"".join(part.data for part in parts)
    return f"[{','.join(_json(part, query) for part in parts)}]".encode()


def _unknown_parameter(name: str) -> exceptions.InvalidArgument:
    return exceptions.InvalidArgument(
        f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter.'
    )
