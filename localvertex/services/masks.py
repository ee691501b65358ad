"""Field masks: which fields an update writes, and which fields of a resource a list shows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from google.api_core import exceptions
from google.protobuf.message import Message

from localvertex.store import Resource


def copy_fields(source: Message, target: Message, paths: Sequence[str], read_only: Collection[str]) -> None:
    """Copy fields by mask: without paths those that are set, with `*` all.

    Args:
        paths: names of fields, or an entry of `metadata` or `labels`: `metadata.loss`.
        read_only: fields that no update changes.

    Raises:
        google.api_core.exceptions.InvalidArgument: a path names no field that can be updated.
    """
    known = {field.name: field for field in source.DESCRIPTOR.fields if field.name not in read_only}
    if not paths:
        paths = [field.name for field, _ in source.ListFields() if field.name in known]
    elif "*" in paths:
        paths = list(known)
    for path in paths:
        name, _, key = path.partition(".")
        if name in read_only and not key:
            continue
        if name not in known or (key and name not in ("metadata", "labels")):
            raise exceptions.InvalidArgument(
                f'update_mask: {source.DESCRIPTOR.name} has no field "{path}" that can be updated.'
            )
        if key:
            _copy_entry(getattr(source, name), getattr(target, name), key)
        else:
            _copy_field(source, target, known[name])


def shown(resource: Resource, paths: Sequence[str]) -> Resource:
    """The resource with nothing but the fields of a read mask; without one, or with `*`, all of it."""
    wanted = {path.partition(".")[0] for path in paths}
    if not wanted or "*" in wanted:
        return resource
    shown: Resource = type(resource)()
    source, target = type(resource).pb(resource), type(resource).pb(shown)
    for field, _ in source.ListFields():
        if field.name in wanted:
            _copy_field(source, target, field)
    return shown


def _copy_entry(source: Any, target: Any, key: str) -> None:
    if key in source:
        target[key] = source[key]
    elif key in target:
        del target[key]


def _copy_field(source: Message, target: Message, field: Any) -> None:
    target.ClearField(field.name)
    if field.is_repeated or field.message_type is not None:
        getattr(target, field.name).MergeFrom(getattr(source, field.name))
    else:
        setattr(target, field.name, getattr(source, field.name))
