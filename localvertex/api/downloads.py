"""Downloading an object, whole or in ranges (RFC 9110, section 14)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import BinaryIO

from google.api_core import exceptions
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse

from localvertex.buckets import Buckets, Object
from localvertex.checksums import BLOCK

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def download(buckets: Buckets, found: Object, headers: Headers) -> Response:
    """The content of an object as the response to a GET.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: the range asked for lies outside of it (416).
    """
    checksums = buckets.checksums(found)
    described = {
        "X-Goog-Hash": f"crc32c={checksums.crc32c},md5={checksums.md5}",
        "X-Goog-Generation": str(found.generation),
        "X-Goog-Metageneration": str(found.metageneration),
        "X-Goog-Stored-Content-Length": str(found.size),
        "X-Goog-Stored-Content-Encoding": found.properties.get("contentEncoding", "identity"),
        "X-Goog-Storage-Class": found.properties.get("storageClass", "STANDARD"),
        "Accept-Ranges": "bytes",
    }
    for name, key in (
        ("Content-Encoding", "contentEncoding"),
        ("Content-Language", "contentLanguage"),
        ("Content-Disposition", "contentDisposition"),
        ("Cache-Control", "cacheControl"),
    ):
        if value := found.properties.get(key):
            described[name] = value
    start, end = _range(headers.get("range", ""), found.size)
    described["Content-Length"] = str(end - start)
    partial = "range" in headers and _RANGE.fullmatch(headers["range"]) is not None
    if partial:
        described["Content-Range"] = f"bytes {start}-{end - 1}/{found.size}"
    status, kind = (206 if partial else 200), found.properties["contentType"]
    if found.size == 0:
        return Response(b"", status, described, kind)
    # Opened now: a new version that replaces the file while it is sent does not mix with this one.
    file = found.path.open("rb")
    if os.fstat(file.fileno()).st_size != found.size:
        file.close()
        raise exceptions.ServiceUnavailable(f"{found.bucket}/{found.name} is changing. Please try again.")
    return StreamingResponse(_pieces(file, start, end), status, described, kind)


def _range(header: str, size: int) -> tuple[int, int]:
    """The half-open range of bytes a Range header means; all of them if it is absent or of another kind."""
    match = _RANGE.fullmatch(header)
    if match is None or match.groups() == ("", ""):
        return 0, size
    first, last = match.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= end:
        raise exceptions.from_http_status(416, f"Request range not satisfiable: {header} of an object of {size} bytes")
    return start, end


def _pieces(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        while start < end and (piece := file.read(min(BLOCK, end - start))):
            start += len(piece)
            yield piece
