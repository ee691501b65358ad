"""The words of the Cloud Storage JSON API: resources, preconditions, and what of them a client may set."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from google.api_core import exceptions

from localvertex.buckets import Bucket, Conditions, Object
from localvertex.checksums import Checksums

Json = dict[str, Any]

URL = "https://storage.googleapis.com"
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


def settable(resource: Mapping[str, Any]) -> Json:
    """What a client may set of an object resource."""
    return {key: resource[key] for key in _SETTABLE if key in resource}


def conditions(query: Mapping[str, str], prefix: str = "if") -> Conditions:
    """Preconditions from query parameters such as `ifGenerationMatch` or `ifSourceGenerationMatch`."""
    return Conditions(
        generation_match=integer(query.get(f"{prefix}GenerationMatch")),
        generation_not_match=integer(query.get(f"{prefix}GenerationNotMatch")),
        metageneration_match=integer(query.get(f"{prefix}MetagenerationMatch")),
        metageneration_not_match=integer(query.get(f"{prefix}MetagenerationNotMatch")),
    )


def glob_pattern(glob: str) -> re.Pattern[str]:
    """What a `matchGlob` matches: `*` and `?` within a folder, `**` across, `[...]` and `{a,b}`.

    See https://cloud.google.com/storage/docs/json_api/v1/objects/list#list-objects-and-prefixes-using-glob.
    """
    tokens = {"**": ".*", "*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")", ",": "|"}
    pieces, depth = [], 0
    for token in re.findall(r"\*\*|\[[^\]]+\]|\\.|.", glob, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(token, 0)
        if token.startswith("[") and len(token) > 2:
            pieces.append(token.replace("[!", "[^", 1))
        elif token == "," and depth <= 0:
            pieces.append(",")
        else:
            pieces.append(tokens.get(token) or re.escape(token.removeprefix("\\") or token))
    try:
        return re.compile("".join(pieces), re.DOTALL)
    except re.error as error:
        raise exceptions.InvalidArgument(f"Invalid matchGlob '{glob}': {error}") from error


def parse_json(body: bytes) -> Json:
    """A JSON object; an empty body is an empty one.

    Raises:
        google.api_core.exceptions.InvalidArgument: neither.
    """
    try:
        parsed = json.loads(body) if body.strip() else {}
    except ValueError as error:
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
    properties = {key: value for key, value in bucket.properties.items() if key != "iamPolicy"}
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


def integer(value: str | None) -> int | None:
    """A whole number, or None.

    Raises:
        google.api_core.exceptions.InvalidArgument: something else.
    """
    try:
        return None if value is None else int(value)
    except ValueError as error:
        raise exceptions.InvalidArgument(f"Invalid argument: '{value}' is not a whole number") from error
