"""The console's addresses, all under `/console/`, and what guards them.

A page of another origin could send a browser here with the person's cookie, or reach this port under a host name of
its own (DNS rebinding). Hence the cookie is SameSite=Strict, the Host must be this machine's own, whatever changes or
costs something must come from a page of the console (Origin) and, as a form, carry its session's token, and nothing
is shared with other origins (no CORS).
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlencode, urlsplit

from google.api_core import exceptions
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import compile_path

from localvertex.api.requests import disk_full, is_disk_full, raw_path, read_body
from localvertex.console.rendering import Renderer, digest, files
from localvertex.console.sessions import SESSION_SECONDS, Sessions
from localvertex.console.web import PREFIX, Answer, Form, Page, Redirect, Route, Section, Visit, form_of

log = logging.getLogger(__name__)

BODY_LIMIT = 16 << 20
LOOK_SECONDS = 0.5
"""How often a page that is open is looked at for what has changed."""

_REST = 8
_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
_FORM = "application/x-www-form-urlencoded"
_EVENTS = "text/event-stream"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_GUARDS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_OPENING = Markup(
    '<!doctype html><html lang="en"><link rel="icon" href="data:,"><title>localvertex</title>'
    '<a href="{}">Go on to the console</a></html>'
)
_REFUSALS = {
    400: ("That cannot be done", ""),
    401: ("The console is locked", ""),
    403: ("Not from here", ""),
    404: ("There is nothing here", "Look for it from Home: it may have been deleted, or the address may be mistyped."),
    409: ("That cannot be done now", "Go back, load the page again, and see what has changed."),
}
"""Of codes of HTTP: a page's title, and what to do where the error itself does not say it."""
_BROKEN = "The console could not make this page: something in localvertex, or in its state, is broken."


class ConsoleFrontend:
    """Answers browsers.

    Args:
        sessions: knows who may look.
        sections: the pages.
        server_log: where the server says what has gone wrong.
    """

    def __init__(self, sessions: Sessions, sections: Sequence[Section], server_log: Path) -> None:
        self._sessions = sessions
        self._server_log = server_log
        self._files = files("static")
        self._digest = digest(self._files)
        self._renderer = Renderer(self._digest)
        routes = [route for section in sections for route in section.routes()]
        self._routes = [(compile_path(f"/{route.path}")[0], route) for route in routes]

    def has(self, path: str) -> bool:
        """Whether an address, percent-encoded, is one of the console."""
        return path.startswith(PREFIX) or path == PREFIX.rstrip("/")

    async def answer(self, request: Request) -> Response:
        """Answer one request to an address that the console has; pages fail as pages, calls as the API does."""
        path = raw_path(request).removeprefix(PREFIX.rstrip("/")).removeprefix("/")
        try:
            response = await self._answer(request, path)
        except ClientDisconnect:
            raise
        except Exception as error:
            if path.startswith("api/"):
                raise
            response = self._failed(error, request)
        for name, value in _GUARDS.items():
            response.headers.setdefault(name, value)
        return response

    async def _answer(self, request: Request, path: str) -> Response:
        _check_host(request)
        reads = request.method in ("GET", "HEAD")
        if not reads:
            _check_origin(request)
        elif code := request.query_params.get("code"):
            return self._opened(request, code)
        cookie = request.cookies.get(self._sessions.cookie, "")
        self._sessions.check(cookie)
        if reads and path.startswith("static/"):
            return self._file(path.removeprefix("static/"))
        route, arguments = self._route("GET" if reads else request.method, path)
        form, body = (Form(), b"") if reads else await self._sent(request, cookie)
        decoded = {name: unquote(value) for name, value in arguments.items()}
        visit = Visit(unquote(path), decoded, request.query_params, form, body)
        if request.headers.get("accept") == _EVENTS:
            return StreamingResponse(self._events(route, visit, cookie), media_type=_EVENTS)
        answer = await run_in_threadpool(route.answer, visit)
        return await run_in_threadpool(self._response, answer, visit, cookie)

    def _route(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        for pattern, route in self._routes:
            if route.method == method and (match := pattern.match(f"/{path}")):
                return route, match.groupdict()
        what = "page" if method == "GET" else method
        raise exceptions.NotFound(f"The console has no {what} {PREFIX}{path}.")

    async def _sent(self, request: Request, cookie: str) -> tuple[Form, bytes]:
        body = await read_body(request, BODY_LIMIT)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            return Form(), body  # which no form of another origin can send
        if kind != _FORM:
            raise exceptions.InvalidArgument(f"The console takes forms and JSON, not {kind!r}.")
        form = form_of(body)
        self._sessions.check_token(cookie, str(form.get("token", "")))
        return form, b""

    def _response(self, answer: Answer, visit: Visit, cookie: str) -> Response:
        if isinstance(answer, Redirect):
            return RedirectResponse(answer.target, status_code=303)
        if isinstance(answer, Page):
            text = self._renderer.page(answer, visit, self._sessions.token(cookie))
            return HTMLResponse(text, status_code=answer.status)
        return answer

    async def _events(self, route: Route, visit: Visit, cookie: str) -> AsyncIterator[str]:
        """Server-sent events: blocks of a page, first all of them and then what has changed, until nothing will."""
        shown: dict[str, str] = {}
        ended = False
        await asyncio.sleep(LOOK_SECONDS)  # the page has only just been made, and is still being drawn
        while not ended:
            began = time.monotonic()
            try:
                ended, blocks = await run_in_threadpool(self._look, route, visit, cookie)
            except exceptions.GoogleAPICallError:  # what the page is about is gone
                break
            except Exception:
                log.exception("%s cannot be kept up to date", visit.path)
                break
            if changed := {name: block for name, block in blocks.items() if shown.get(name) != block}:
                yield f"data: {json.dumps(changed)}\n\n"
            else:
                yield ":\n\n"  # by which a browser that has gone is noticed
            shown = blocks
            if not ended:
                # Pages that take long are looked at less often, so that an open one costs little.
                await asyncio.sleep(max(LOOK_SECONDS, _REST * (time.monotonic() - began)))
        yield "event: end\ndata:\n\n"

    def _look(self, route: Route, visit: Visit, cookie: str) -> tuple[bool, dict[str, str]]:
        page = route.answer(visit)
        if not isinstance(page, Page):
            return True, {}
        return page.ended, self._renderer.live(page, visit, self._sessions.token(cookie))

    def _opened(self, request: Request, code: str) -> Response:
        """Leave a cookie, and go to the same address without the code."""
        rest = [(name, value) for name, value in request.query_params.multi_items() if name != "code"]
        target = quote(request.url.path, safe="/:@~") + (f"?{urlencode(rest)}" if rest else "")
        # Not a redirect: after a click on another origin's page, the browser would follow it without the cookie.
        response = HTMLResponse(_OPENING.format(target), headers={"Refresh": f"0; url={target}"})
        try:
            session = self._sessions.open(code)
        except exceptions.Unauthenticated:
            self._sessions.check(request.cookies.get(self._sessions.cookie))  # opened again where it was before
            return response
        response.set_cookie(
            self._sessions.cookie, session, max_age=SESSION_SECONDS, path=PREFIX, httponly=True, samesite="strict"
        )
        return response

    def _file(self, path: str) -> Response:
        """A static file; under the digest of them all, a browser may keep it."""
        folder, _, name = path.rpartition("/")
        kind = _TYPES.get(PurePosixPath(name).suffix)
        if kind is None or name not in self._files or folder not in ("", self._digest):
            raise exceptions.NotFound(f"The console has no file {path}.")
        kept = {"Cache-Control": "private, max-age=31536000, immutable"} if folder else {}
        return Response(self._files[name], media_type=kind, headers=kept)

    def _failed(self, error: Exception, request: Request) -> Response:
        """The page in place of one that could not be made: what is wrong in a sentence, and what to do."""
        if isinstance(error, exceptions.GoogleAPICallError):
            code = int(error.code or 500)
            (title, advice), message = _REFUSALS.get(code, ("That did not work", "")), error.message
        elif is_disk_full(error):
            code, title, message, advice = 507, "The disk is full", disk_full(str(error)).message, ""
        else:
            log.error("%s %s failed", request.method, request.url.path, exc_info=error)
            code, title, message = 500, "This page is broken", _BROKEN
            advice = f"Load it again; if that does not help, {self._server_log} tells what went wrong."
        locked = code == 401 or _host_name(request.headers.get("host", "")) not in _HOSTS
        values = {"message": message, "advice": advice, "locked": locked, "section": None}
        page = Page("refused.html", title, values, status=code)
        return HTMLResponse(self._renderer.page(page, Visit(""), ""), status_code=code)


def _check_host(request: Request) -> None:
    host = request.headers.get("host", "")
    if _host_name(host) not in _HOSTS:
        raise exceptions.PermissionDenied(f"The console answers at this machine's own address, not at {host!r}.")


def _host_name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _check_origin(request: Request) -> None:
    origin = request.headers.get("origin", "")
    if origin != f"http://{request.headers['host']}":
        raise exceptions.PermissionDenied(f"The console takes requests from its own pages alone, not from {origin!r}.")
