"""The words of the Cloud Storage JSON API: resources, preconditions, and what of them a client may set."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from google.api_core import exceptions

from localvertex.buckets import Bucket, Conditions, Object
from localvertex.checksums import Checksums

Json = dict[str, Any]

URL = "https://storage.googleapis.com"
_FLAGS = ("eventBasedHold", "temporaryHold")
_NOT_SETTABLE = frozenset({"kind", "id", "selfLink", "name", "projectNumber", "metageneration", "etag", "iamPolicy"})
_SETTABLE = (
    "cacheControl",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "contentType",
    "customTime",
    "eventBasedHold",
    "metadata",
    "storageClass",
    "temporaryHold",
)


def settable(resource: Any) -> Json:
    """What a client may set of an object resource.

    Raises:
        google.api_core.exceptions.InvalidArgument: a value is of the wrong type, or cannot stand in a header.
    """
    found = {key: value for key, value in mapping(resource, "resource").items() if key in _SETTABLE}
    for key, value in found.items():
        if key == "metadata":
            fits = all(isinstance(text, str | None) for text in mapping(value, key).values())
        elif key in _FLAGS:
            fits = isinstance(value, bool | None)
        else:
            fits = value is None or (isinstance(value, str) and value.isascii() and value.isprintable())
        if not fits:
            raise exceptions.InvalidArgument(f"Invalid value for: {key}")
    return found


def mapping(value: Any, name: str) -> Json:
    """A JSON object; null is an empty one.

    Raises:
        google.api_core.exceptions.InvalidArgument: something else.
    """
    if not isinstance(value, Mapping | None):
        raise exceptions.InvalidArgument(f"Invalid value for: {name}: expected an object")
    return dict(value or {})


def conditions(query: Mapping[str, str], prefix: str = "if") -> Conditions:
    """Preconditions from query parameters such as `ifGenerationMatch` or `ifSourceGenerationMatch`."""
    return Conditions(
        generation_match=integer(query.get(f"{prefix}GenerationMatch")),
        generation_not_match=integer(query.get(f"{prefix}GenerationNotMatch")),
        metageneration_match=integer(query.get(f"{prefix}MetagenerationMatch")),
        metageneration_not_match=integer(query.get(f"{prefix}MetagenerationNotMatch")),
    )


def parse_json(body: bytes) -> Json:
    """A JSON object; an empty body is an empty one.

    Raises:
        google.api_core.exceptions.InvalidArgument: neither.
    """
    try:
        parsed = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError) as error:
        raise exceptions.InvalidArgument(f"Parse Error: {error}") from error
    if not isinstance(parsed, dict):
        raise exceptions.InvalidArgument("Parse Error: the body must be a JSON object")
    return parsed


def object_resource(found: Object, checksums: Checksums) -> Json:
    """An object as the JSON API shows it."""
    path = f"b/{found.bucket}/o/{quote(found.name, safe='')}"
    written = _timestamp(found.updated)
    return {
        "kind": "storage#object",
        "id": f"{found.bucket}/{found.name}/{found.generation}",
        "selfLink": f"{URL}/storage/v1/{path}",
        "mediaLink": f"{URL}/download/storage/v1/{path}?generation={found.generation}&alt=media",
        "name": found.name,
        "bucket": found.bucket,
        "generation": str(found.generation),
        "metageneration": str(found.metageneration),
        "storageClass": "STANDARD",
        "size": str(found.size),
        "md5Hash": checksums.md5,
        "crc32c": checksums.crc32c,
        "etag": _etag(found),
        "timeCreated": written,
        "updated": written,
        "timeStorageClassUpdated": written,
        **found.properties,
    }


def _etag(found: Object) -> str:
    return base64.b64encode(f"{found.generation}/{found.metageneration}".encode()).decode()


def bucket_resource(bucket: Bucket) -> Json:
    """A bucket as the JSON API shows it."""
    created = _timestamp(bucket.created)
    properties = {key: value for key, value in bucket.properties.items() if key not in _NOT_SETTABLE}
    return {
        "kind": "storage#bucket",
        "id": bucket.name,
        "selfLink": f"{URL}/storage/v1/b/{bucket.name}",
        "name": bucket.name,
        "projectNumber": bucket.project_number,
        "metageneration": "1",
        "etag": "CAE=",
        "timeCreated": created,
        "updated": created,
        "storageClass": "STANDARD",
        "locationType": "region",
        "location": "US-CENTRAL1",
        **properties,
    }


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def text(value: Any, name: str) -> str:
    """A text.

    Raises:
        google.api_core.exceptions.InvalidArgument: something else.
    """
    if not isinstance(value, str):
        raise exceptions.InvalidArgument(f"Invalid value for: {name}: expected a string")
    return value


def integer(value: Any) -> int | None:
    """A whole number, or None.

    Raises:
        google.api_core.exceptions.InvalidArgument: something else.
    """
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError) as error:
        raise exceptions.InvalidArgument(f"Invalid argument: '{value}' is not a whole number") from error
