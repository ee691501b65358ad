"""The gRPC front end: every path of the method table, on a loopback port behind the proxy's TLS."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
from google.api_core import exceptions

from localvertex.api.methods import Method, MethodTable, calls, decode, encode, unserved
from localvertex.errors import grpc_code

MESSAGE_LIMIT = 64 << 20
_THREADS = 64

log = logging.getLogger(__name__)


def serve_grpc(table: MethodTable, verify: Callable[[str | None], None]) -> tuple[grpc.Server, int]:
    """Start serving on a free port of 127.0.0.1.

    Args:
        table: what is served.
        verify: raises unless an `Authorization` value is good.

    Returns:
        The running server and its port.
    """
    server = grpc.server(
        ThreadPoolExecutor(_THREADS, thread_name_prefix="grpc"),
        handlers=[_Handlers(table, verify)],
        options=[
            ("grpc.max_receive_message_length", MESSAGE_LIMIT),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ],
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    def __init__(self, table: MethodTable, verify: Callable[[str | None], None]) -> None:
        self._table = table
        self._verify = verify

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        method = self._table.find(call.method)
        if method is None:
            return grpc.unary_unary_rpc_method_handler(partial(self._unserved, call.method))
        # Requests arrive as bytes: who calls is looked at before what is said.
        if method.signature.streams:
            return grpc.unary_stream_rpc_method_handler(partial(self._stream, method), None, encode)
        return grpc.unary_unary_rpc_method_handler(partial(self._unary, method), None, encode)

    def _unserved(self, path: str, _request: bytes, context: grpc.ServicerContext) -> Any:
        calls.debug("grpc %s unserved", path)
        try:
            self._verify(_authorization(context))
        except exceptions.Unauthenticated as error:
            _abort(context, error)
        _abort(context, unserved(path))

    def _unary(self, method: Method, request: bytes, context: grpc.ServicerContext) -> Any:
        try:
            self._verify(_authorization(context))
            return method.call(decode(method.signature.request, request), "grpc")
        except exceptions.GoogleAPICallError as error:
            _abort(context, error)

    def _stream(self, method: Method, request: bytes, context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            self._verify(_authorization(context))
            yield from method.call(decode(method.signature.request, request), "grpc")
        except exceptions.GoogleAPICallError as error:
            _abort(context, error)


def _authorization(context: grpc.ServicerContext) -> str | None:
    for key, value in context.invocation_metadata():
        if key == "authorization":
            return str(value)
    return None


def _abort(context: grpc.ServicerContext, error: exceptions.GoogleAPICallError) -> None:
    context.abort(grpc_code(error), error.message)
