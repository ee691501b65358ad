"""Reading HTTP requests."""

from __future__ import annotations

import errno

from google.api_core import exceptions
from starlette.requests import Request


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body of a request.

    Args:
        limit: bytes.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: it is larger than the limit (413).
    """
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise exceptions.from_http_status(413, f"Request payload size exceeds the limit: {limit} bytes.")
        pieces.append(piece)
    return b"".join(pieces)


_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_disk_full(error: Exception) -> bool:
    """Whether an error is the operating system's word, or ours, for content that does not fit on the disk."""
    said = error.errno in _DISK_FULL if isinstance(error, OSError) else False
    return said or (isinstance(error, exceptions.GoogleAPICallError) and error.code == 507)


def disk_full(reason: str) -> exceptions.GoogleAPICallError:
    """The error for content that does not fit on the disk; of a code that clients do not retry."""
    message = f"The disk of the state folder has no room for this ({reason}): free some, or delete objects."
    error: exceptions.GoogleAPICallError = exceptions.from_http_status(507, message)
    return error


def raw_path(request: Request) -> str:
    """The path as the client sent it, percent-encoded, without the query."""
    raw: bytes = request.scope["raw_path"]
    return raw.partition(b"?")[0].decode("latin-1")
