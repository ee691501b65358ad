"""The HTTP/1.1 front end: decides by host name which API a request is for, and writes what it answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote

from google.api_core import exceptions
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from localvertex.access import JWT_GRANT, Access
from localvertex.api.own_frontend import PREFIX, OwnFrontend
from localvertex.api.requests import disk_full, is_disk_full, raw_path, read_body
from localvertex.api.rest_frontend import RestFrontend
from localvertex.api.storage_frontend import StorageFrontend
from localvertex.api.storage_json import parse_json
from localvertex.console.frontend import ConsoleFrontend
from localvertex.errors import rest_error
from localvertex.redirect import PROXIED_DOMAIN

BODY_LIMIT = 64 << 20
_TOKEN_LIMIT = 64 << 10
_STORAGE_HOSTS = frozenset({"storage.googleapis.com", "www.googleapis.com"})
_TOKEN_HOSTS = frozenset({"oauth2.googleapis.com"})
# Where TensorFlow's own client of Cloud Storage asks for tokens, on the host that storage has too.
_TOKEN_PATHS = frozenset({"/oauth2/v3/token", "/oauth2/v4/token"})

Answers = Callable[[str, str, Mapping[str, str], Mapping[str, Any]], dict[str, Any]]

log = logging.getLogger(__name__)


class HttpFrontend:
    """An ASGI application for all proxied hosts.

    Args:
        access: verifies each call and answers the token endpoint.
        rest: the JSON side of the method table.
        storage: the Cloud Storage API.
        own: what Vertex AI has no calls for.
        console: pages for browsers, which have a cookie where programs have a token.
        others: what answers for further APIs, by host: it takes method, path, query and the JSON that was sent.
    """

    def __init__(
        self,
        access: Access,
        rest: RestFrontend,
        storage: StorageFrontend,
        own: OwnFrontend,
        console: ConsoleFrontend,
        others: Mapping[str, Answers] | None = None,
    ) -> None:
        self._access = access
        self._rest = rest
        self._storage = storage
        self._own = own
        self._console = console
        self._others = others or {}

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
            response = _error_response(disk_full(str(error)) if is_disk_full(error) else _internal(request, error))
        # `Location`, not `location`: TensorFlow's client of Cloud Storage tells them apart.
        response.raw_headers = [(name.title(), value) for name, value in response.raw_headers]
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        host = request.headers.get("host", "").partition(":")[0].lower()
        if self._console.has(raw_path(request)) and not host.endswith(PROXIED_DOMAIN):
            return await self._console.answer(request)
        if host in _TOKEN_HOSTS or (request.method == "POST" and raw_path(request) in _TOKEN_PATHS):
            return await self._token(request)
        self._access.verify(request.headers.get("authorization"))
        if host in _STORAGE_HOSTS:
            return await self._storage.answer(request)
        path = raw_path(request)
        if path.startswith(PREFIX):
            return JSONResponse(await run_in_threadpool(self._own.answer, request.method, path, request.query_params))
        body = await read_body(request, BODY_LIMIT)
        if host in self._others:
            sent = parse_json(body)
            found = await run_in_threadpool(
                self._others[host], request.method, unquote(path), request.query_params, sent
            )
            return JSONResponse(found)
        answer, content_type = await run_in_threadpool(
            self._rest.answer,
            request.method,
            path,
            request.query_params.multi_items(),
            body,
            request.headers.get("content-type", ""),
        )
        return Response(answer, media_type=content_type)

    async def _token(self, request: Request) -> Response:
        try:
            form = parse_qs((await read_body(request, _TOKEN_LIMIT)).decode(errors="replace"), max_num_fields=10)
        except ValueError:
            form = {}
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


def _internal(request: Request, error: Exception) -> exceptions.GoogleAPICallError:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return exceptions.InternalServerError(f"Internal error in localvertex: {type(error).__name__}: {error}")


def _error_response(error: exceptions.GoogleAPICallError) -> Response:
    code = int(error.code or 500)
    headers = {"WWW-Authenticate": "Bearer"} if code == 401 else None
    if code == 304:
        return Response(status_code=304)
    return JSONResponse(rest_error(error), status_code=code, headers=headers)
