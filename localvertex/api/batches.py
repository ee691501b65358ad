"""Batches: several storage requests in one multipart body (https://cloud.google.com/storage/docs/batch)."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from http import HTTPStatus
from urllib.parse import urlsplit

from google.api_core import exceptions
from starlette.datastructures import QueryParams
from starlette.responses import Response

from localvertex.errors import rest_error

LIMIT = 100
Answer = Callable[[str, str, QueryParams, bytes], Response]


def answer_batch(body: bytes, content_type: str, answer: Answer) -> Response:
    """Answer each request of a batch, in order; one that fails does not stop the others.

    Args:
        body: a multipart/mixed of application/http parts.
        content_type: with its boundary.
        answer: verb, path, query and body of a request -> its response.

    Raises:
        google.api_core.exceptions.InvalidArgument: not a batch, or more requests than a batch may hold.
    """
    whole = message_from_bytes(
        b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body,
        _class=EmailMessage,
        policy=policy.HTTP,
    )
    parts = [part for part in whole.iter_parts() if isinstance(part, EmailMessage)]
    if not 1 <= len(parts) <= LIMIT:
        raise exceptions.InvalidArgument(f"A batch holds 1 to {LIMIT} requests; this one holds {len(parts)}.")
    boundary = f"batch_{secrets.token_hex(8)}"
    answers = [_answer_part(part, answer) for part in parts]
    joined = b"".join(
        b"--%s\r\nContent-Type: application/http\r\nContent-ID: <response-%s>\r\n\r\n%s\r\n"
        % (boundary.encode(), _content_id(part), each)
        for part, each in zip(parts, answers, strict=True)
    )
    return Response(joined + f"--{boundary}--\r\n".encode(), media_type=f"multipart/mixed; boundary={boundary}")


def _answer_part(part: EmailMessage, answer: Answer) -> bytes:
    content = part.get_payload(decode=True)
    if not isinstance(content, bytes):
        raise exceptions.InvalidArgument("A part of a batch is one request, not several.")
    line, _, rest = content.lstrip().replace(b"\r\n", b"\n").partition(b"\n")
    _, _, body = rest.partition(b"\n\n")
    verb, _, target = line.decode("latin-1").partition(" ")
    try:
        url = urlsplit(target.partition(" ")[0])
        response = answer(verb, url.path, QueryParams(url.query), body)
    except ValueError as error:
        raise exceptions.InvalidArgument(f"Malformed URL in a batch: {error}") from error
    except exceptions.GoogleAPICallError as error:
        response = Response(json.dumps(rest_error(error)), int(error.code or 500), media_type="application/json")
    status = HTTPStatus(response.status_code)
    headers = b"".join(b"%s: %s\r\n" % header for header in response.raw_headers)
    return b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (status, status.phrase.encode(), headers, bytes(response.body))


def _content_id(part: EmailMessage) -> bytes:
    return str(part.get("Content-ID", "")).strip("<>").encode()
