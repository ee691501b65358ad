"""The HTTP side: Vertex's contract for custom prediction containers.

Source: cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements
"""

from __future__ import annotations

import json
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from images.server.servable import BadRequest, Servable

MAX_BODY = 32 << 20  # bytes; Vertex itself stops at 1.5 MB on shared and 10 MB on dedicated endpoints


def app(servable: Servable, health_route: str, predict_route: str) -> Starlette:
    """Builds the application.

    Args:
        servable: answers the predictions.
        health_route: GET answers 200 when the model is loaded.
        predict_route: POST `{"instances": […], "parameters": {…}}` answers `{"predictions": […]}`; bad input
            answers 400, a body over `MAX_BODY` 413, each with `{"error": "…"}`.
    """

    async def health(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ready"})

    async def predict(request: Request) -> JSONResponse:
        body = await _body(request)
        if body is None:
            return _error(413, f"the request has more than {MAX_BODY:,} bytes; send fewer instances at once")
        try:
            asked = _asked(body)
            answers = await run_in_threadpool(servable.predict, asked.get("instances"), asked.get("parameters"))
        except BadRequest as error:
            return _error(400, str(error))
        return JSONResponse({"predictions": answers})

    return Starlette(
        routes=[
            Route(health_route, health, methods=["GET"]),
            Route(predict_route, predict, methods=["POST"]),
        ]
    )


async def _body(request: Request) -> bytes | None:
    """The request's body, or None when it is too long; never holds more than the bound."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            return None
    return bytes(body)


def _asked(body: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON") from None
    if not isinstance(asked, dict):
        raise BadRequest('the body must be an object with "instances"')
    return asked


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status_code=status)
