"""Facets: what a resource is also found by beside its columns — labels, typed metadata, a job's pipeline and schedule.

A facet has a path, such as `labels.env` or `metadata.loss.number_value`, and a text or a number. The store keeps
those of each resource in an index; filters ask it where a path has one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import proto

MAX_PATH = 200
MAX_TEXT = 200
"""Longer texts are found by their beginning alone: an index row of PostgreSQL holds no more than 2.7 KB."""

NUMBERS = ("number_value", "bool_value")
TYPES = ("string_value", *NUMBERS, "null_value", "struct_value", "list_value")
MAX_TYPE = max(map(len, TYPES)) + 1

Facets = dict[str, tuple[str | None, float | None]]


def facets_of(resource: proto.Message) -> Facets:
    """The facets of a resource by path: the text or the number of each."""
    return dict(_facets(type(resource).pb(resource)))


def path_of(kind: type[proto.Message], segments: Sequence[str]) -> str | None:
    """The path under which a kind's field is indexed; None when it is not.

    Args:
        segments: `["labels", "env"]`, `["metadata", "loss", "number_value"]`, `["schedule_name"]`.
    """
    fields = kind.meta.pb.DESCRIPTOR.fields_by_name
    path = ".".join(segments)
    match segments:
        case ["labels", _] if "labels" in fields:
            known = True
        case ["metadata", _, last] if _is_struct(fields.get("metadata")):
            known = last in TYPES
        case ["schedule_name" | "pipeline_name"]:
            known = "schedule_name" in fields and "pipeline_spec" in fields
        case _:
            known = False
    return path if known and len(path) <= MAX_PATH else None


def has(kind: type[proto.Message], field: str, depth: int) -> bool:
    """Whether what is so deep in a kind's field is a map of facets (`labels`, `metadata`), or one of its entries."""
    fields = kind.meta.pb.DESCRIPTOR.fields_by_name
    if field == "labels":
        return depth == 0 and "labels" in fields
    return field == "metadata" and depth in (0, 1) and _is_struct(fields.get("metadata"))


def _facets(wire: Any) -> Iterator[tuple[str, tuple[str | None, float | None]]]:
    fields = wire.DESCRIPTOR.fields_by_name
    for path, text, number in (*_labels(wire, fields), *_metadata(wire, fields), *_pipeline(wire, fields)):
        if len(path) <= MAX_PATH and "\0" not in path:
            yield path, (None if text is None else text[:MAX_TEXT].replace("\0", " "), number)


def _labels(wire: Any, fields: Any) -> Iterator[tuple[str, str | None, float | None]]:
    if "labels" in fields:
        for key, text in wire.labels.items():
            yield f"labels.{key}", text, None


def _metadata(wire: Any, fields: Any) -> Iterator[tuple[str, str | None, float | None]]:
    if not _is_struct(fields.get("metadata")):
        return
    for key, value in wire.metadata.fields.items():
        kind = value.WhichOneof("kind") or "null_value"
        number = float(getattr(value, kind)) if kind in NUMBERS else None
        if number is not None and math.isnan(number):
            number = None
        yield f"metadata.{key}.{kind}", value.string_value if kind == "string_value" else None, number


def _pipeline(wire: Any, fields: Any) -> Iterator[tuple[str, str | None, float | None]]:
    if "schedule_name" not in fields or "pipeline_spec" not in fields:
        return
    yield "schedule_name", wire.schedule_name, None
    spec = wire.pipeline_spec.fields
    if "pipelineInfo" in spec:
        info = spec["pipelineInfo"].struct_value.fields
        if "name" in info:
            yield "pipeline_name", info["name"].string_value, None


def _is_struct(field: Any) -> bool:
    return bool(field and field.message_type and field.message_type.full_name == "google.protobuf.Struct")
