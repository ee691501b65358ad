"""The HTTP/1.1 front end: decides by host name which API a request is for, and writes what it answers."""

from __future__ import annotations

import logging
from urllib.parse import parse_qs

from google.api_core import exceptions
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from localvertex.access import JWT_GRANT, Access
from localvertex.api.requests import raw_path, read_body
from localvertex.api.rest_frontend import RestFrontend
from localvertex.api.storage_frontend import StorageFrontend
from localvertex.errors import rest_error

BODY_LIMIT = 64 << 20
_STORAGE_HOSTS = frozenset({"storage.googleapis.com", "www.googleapis.com"})
_TOKEN_HOSTS = frozenset({"oauth2.googleapis.com"})

log = logging.getLogger(__name__)


class HttpFrontend:
    """An ASGI application for all proxied hosts.

    Args:
        access: verifies each call and answers the token endpoint.
        rest: the JSON side of the method table.
        storage: the Cloud Storage API.
    """

    def __init__(self, access: Access, rest: RestFrontend, storage: StorageFrontend) -> None:
        self._access = access
        self._rest = rest
        self._storage = storage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except exceptions.GoogleAPICallError as error:
            response = _error_response(error)
        except ClientDisconnect:
            return
        except Exception as error:
            log.exception("%s %s failed", request.method, request.url.path)
            response = _error_response(
                exceptions.InternalServerError(f"Internal error in localvertex: {type(error).__name__}: {error}")
            )
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        host = request.headers.get("host", "").partition(":")[0].lower()
        if host in _TOKEN_HOSTS:
            return await self._token(request)
        self._access.verify(request.headers.get("authorization"))
        if host in _STORAGE_HOSTS:
            return await self._storage.answer(request)
        body = await read_body(request, BODY_LIMIT)
        answer, content_type = await run_in_threadpool(
            self._rest.answer,
            request.method,
            raw_path(request),
            request.query_params.multi_items(),
            body,
            request.headers.get("content-type", ""),
        )
        return Response(answer, media_type=content_type)

    async def _token(self, request: Request) -> Response:
        form = parse_qs((await read_body(request, BODY_LIMIT)).decode(errors="replace"))
        if form.get("grant_type") != [JWT_GRANT] or not form.get("assertion"):
            return JSONResponse(
                {
                    "error": "unsupported_grant_type",
                    "error_description": "localvertex issues tokens to its own service account alone.",
                },
                status_code=400,
            )
        try:
            return JSONResponse(self._access.exchange(form["assertion"][0]))
        except exceptions.Unauthenticated as error:
            return JSONResponse({"error": "invalid_grant", "error_description": error.message}, status_code=400)


def _error_response(error: exceptions.GoogleAPICallError) -> Response:
    code = int(error.code or 500)
    headers = {"WWW-Authenticate": "Bearer"} if code == 401 else None
    if code == 304:
        return Response(status_code=304)
    return JSONResponse(rest_error(error), status_code=code, headers=headers)
