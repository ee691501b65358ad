"""The console's addresses, all under `/console/`, and what guards them.

A page of another origin could send a browser here with the person's cookie, or reach this port under a host name of
its own (DNS rebinding). Hence the cookie is SameSite=Strict, the Host must be this machine's own, whatever changes or
costs something must come from a page of the console (Origin), and nothing is shared with other origins (no CORS).
"""

from __future__ import annotations

import html
from importlib import resources
from pathlib import PurePosixPath
from urllib.parse import quote, urlencode, urlsplit

from google.api_core import exceptions
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from localvertex.api.requests import raw_path, read_body
from localvertex.console.predictions import Predictions
from localvertex.console.sessions import SESSION_SECONDS, Sessions

PREFIX = "/console/"
BODY_LIMIT = 16 << 20
_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
_PAGES = {"draw": "draw.html"}
_FIRST_PAGE = "draw"
_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
_GUARDS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_OPENING = (
    '<!doctype html><html lang="en"><link rel="icon" href="data:,"><title>localvertex</title>'
    '<a href="{}">Go on to the console</a></html>'
)
_REFUSAL = (
    '<!doctype html><html lang="en"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
    "<h1>{title}</h1><p>{message}</p></html>"
)


class ConsoleFrontend:
    """Answers browsers.

    Args:
        sessions: knows who may look.
        predictions: the services behind the drawing page.
    """

    def __init__(self, sessions: Sessions, predictions: Predictions) -> None:
        self._sessions = sessions
        self._predictions = predictions
        static = resources.files(__package__).joinpath("static")
        self._files = {file.name: file.read_bytes() for file in static.iterdir() if file.is_file()}

    def has(self, path: str) -> bool:
        """Whether an address, percent-encoded, is one of the console."""
        return path.startswith(PREFIX) or path == PREFIX.rstrip("/")

    async def answer(self, request: Request) -> Response:
        """Answer one request to an address that the console has; pages are refused as pages, calls as the API does."""
        path = raw_path(request).removeprefix(PREFIX.rstrip("/")).removeprefix("/")
        try:
            response = await self._answer(request, path)
        except exceptions.GoogleAPICallError as error:
            if path.startswith("api/"):
                raise
            response = _refused(error)
        response.headers.update(_GUARDS)
        return response

    async def _answer(self, request: Request, path: str) -> Response:
        _check_host(request)
        if request.method not in ("GET", "HEAD"):
            _check_origin(request)
        elif code := request.query_params.get("code"):
            return self._opened(request, code)
        self._sessions.check(request.cookies.get(self._sessions.cookie))
        match request.method, path:
            case "GET" | "HEAD", "":
                return RedirectResponse(PREFIX + _FIRST_PAGE, status_code=303)
            case "GET" | "HEAD", page if page in _PAGES:
                return self._file(_PAGES[page])
            case "GET" | "HEAD", file if file.startswith("static/"):
                return self._file(file.removeprefix("static/"))
            case "GET", "api/endpoints":
                return JSONResponse(await run_in_threadpool(self._predictions.endpoints))
            case "POST", "api/predict":
                return JSONResponse(
                    await run_in_threadpool(self._predictions.ask, await read_body(request, BODY_LIMIT))
                )
        raise exceptions.NotFound(f"The console has no {request.method} {PREFIX}{path}.")

    def _opened(self, request: Request, code: str) -> Response:
        """Leave a cookie, and go to the same address without the code."""
        rest = [(name, value) for name, value in request.query_params.multi_items() if name != "code"]
        target = quote(request.url.path) + (f"?{urlencode(rest)}" if rest else "")
        # Not a redirect: after a click on another origin's page, the browser would follow it without the cookie.
        response = HTMLResponse(_OPENING.format(html.escape(target)), headers={"Refresh": f"0; url={target}"})
        try:
            session = self._sessions.open(code)
        except exceptions.Unauthenticated:
            self._sessions.check(request.cookies.get(self._sessions.cookie))  # opened again where it was before
            return response
        response.set_cookie(
            self._sessions.cookie, session, max_age=SESSION_SECONDS, path=PREFIX, httponly=True, samesite="strict"
        )
        return response

    def _file(self, name: str) -> Response:
        kind = _TYPES.get(PurePosixPath(name).suffix)
        if kind is None or name not in self._files:
            raise exceptions.NotFound(f"The console has no file {name}.")
        return Response(self._files[name], media_type=kind)


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


def _refused(error: exceptions.GoogleAPICallError) -> Response:
    code = int(error.code or 500)
    titles = {401: "The console is locked", 403: "Not from here", 404: "There is nothing here"}
    page = _REFUSAL.format(title=titles.get(code, "That did not work"), message=html.escape(error.message))
    return HTMLResponse(page, status_code=code)
