"""API errors on the wire: which gRPC status an exception is, and how REST writes it."""

from __future__ import annotations

from typing import Any

import grpc
from google.api_core import exceptions
from google.rpc import status_pb2

_BY_HTTP_CODE = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ABORTED,
    412: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
    507: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


def grpc_code(error: exceptions.GoogleAPICallError) -> grpc.StatusCode:
    """The gRPC status code of an API exception."""
    return error.grpc_status_code or _BY_HTTP_CODE.get(error.code or 0, grpc.StatusCode.UNKNOWN)


def status_of(error: exceptions.GoogleAPICallError) -> status_pb2.Status:
    """An API exception as a google.rpc.Status."""
    return status_pb2.Status(code=grpc_code(error).value[0], message=error.message)


def rest_error(error: exceptions.GoogleAPICallError) -> dict[str, Any]:
    """An API exception as the body of a REST answer (https://cloud.google.com/apis/design/errors)."""
    return {"error": {"code": int(error.code or 500), "message": error.message, "status": grpc_code(error).name}}
