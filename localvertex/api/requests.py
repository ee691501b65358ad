"""Reading HTTP requests."""

from __future__ import annotations

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


def raw_path(request: Request) -> str:
    """The path as the client sent it, percent-encoded, without the query."""
    raw: bytes = request.scope["raw_path"]
    return raw.partition(b"?")[0].decode("latin-1")
