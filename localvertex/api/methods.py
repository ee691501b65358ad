"""The table of API methods, read off the SDK's own transports: gRPC paths, message types and HTTP rules.

The SDK ships neither servicers nor descriptors, but its gRPC transport names every method to the channel it
is built on, and its REST transport holds the HTTP rule of each. One table thus serves both protocols.
"""

from __future__ import annotations

import importlib
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import grpc
import proto
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2
from google.protobuf.message import DecodeError, Message

from localvertex import names

log = logging.getLogger(__name__)
calls = logging.getLogger("localvertex.calls")
"""At DEBUG: which methods are served, and each call, by protocol."""

_VARIABLE = re.compile(r"\{([^=}]+)(?:=([^}]+))?\}")
_SLOW_SECONDS = 1.0


@dataclass(frozen=True)
class HttpRule:
    """One HTTP binding of a method (google.api.http).

    `body` is the request field the body fills, `*` for the whole request, empty for none.
    """

    verb: str
    template: str
    body: str

    def pattern(self) -> re.Pattern[str]:
        """Matches the paths of the rule, one group for each variable in the order of `variables`."""
        literal, position = "", 0
        for variable in _VARIABLE.finditer(self.template):
            literal += re.escape(self.template[position : variable.start()])
            literal += f"({_segments(variable[2] or '*')})"
            position = variable.end()
        return re.compile(literal + re.escape(self.template[position:]))

    @property
    def variables(self) -> list[str]:
        """Request fields filled from the path: `name`, `pipeline_job.name`."""
        return [variable[1] for variable in _VARIABLE.finditer(self.template)]


@dataclass(frozen=True)
class Signature:
    """What the SDK knows of a method.

    Args:
        service: `google.cloud.aiplatform.v1.PipelineService`.
        name: `CreatePipelineJob`.
        request, response: message classes, of proto-plus or plain protobuf.
        rules: its HTTP bindings.
        streams: the response is a stream of messages.
    """

    service: str
    name: str
    request: type[Any]
    response: type[Any]
    rules: tuple[HttpRule, ...]
    streams: bool = False

    @property
    def path(self) -> str:
        """The gRPC path."""
        return f"/{self.service}/{self.name}"

    @property
    def attribute(self) -> str:
        """The name a service class implements it under: `create_pipeline_job`."""
        return snake_case(self.name)


@dataclass(frozen=True)
class Method:
    """A method of the API and, where localvertex serves it, what handles its requests."""

    signature: Signature
    handler: Callable[[Any], Any] | None
    number_of: Callable[[str], str]

    def call(self, request: Any, protocol: str) -> Any:
        """Answer a request.

        Args:
            protocol: "grpc" or "rest", for the log.

        Raises:
            google.api_core.exceptions.GoogleAPICallError: of whatever kind; nothing else is raised.
        """
        calls.debug("%s %s%s", protocol, self.signature.path, "" if self.handler else " unserved")
        if self.handler is None:
            raise unserved(self.signature.path)
        started = time.monotonic()
        try:
            names.normalise(request, self.number_of)
            return self.handler(request)
        except exceptions.GoogleAPICallError:
            raise
        except Exception as error:
            log.exception("%s failed", self.signature.path)
            raise exceptions.InternalServerError(
                f"Internal error in localvertex: {type(error).__name__}: {error}"
            ) from error
        finally:
            if (elapsed := time.monotonic() - started) > _SLOW_SECONDS:
                log.info("%s took %.1f s", self.signature.path, elapsed)


class MethodTable:
    """Every method of the registered services, served or not.

    Args:
        services: objects with a `SERVICE` attribute and a method for each call they serve; several may share one.
        number_of: project id -> project number.
    """

    def __init__(self, services: Iterable[Any], number_of: Callable[[str], str]) -> None:
        parts: dict[str, list[Any]] = {}
        for service in services:
            parts.setdefault(service.SERVICE, []).append(service)
        self.methods = [
            Method(signature, _handler(parts[service], signature.attribute), number_of)
            for service in parts
            for signature in signatures(service)
        ]
        for method in self.methods:
            if method.handler:
                calls.debug("serves %s %s", "grpc,rest" if method.signature.rules else "grpc", method.signature.path)
        self._by_path = {method.signature.path: method for method in self.methods}
        self._routes: dict[str, list[tuple[re.Pattern[str], HttpRule, Method]]] = {}
        for method in self.methods:
            for rule in method.signature.rules:
                self._routes.setdefault(rule.verb, []).append((rule.pattern(), rule, method))

    def find(self, path: str) -> Method | None:
        """The method of a gRPC path."""
        return self._by_path.get(path)

    def route(self, verb: str, path: str) -> tuple[Method, HttpRule, dict[str, str]]:
        """The method an HTTP request means, its rule, and request fields by the values in the path.

        Args:
            path: as it was sent, percent-encoded.

        Raises:
            google.api_core.exceptions.NotFound: no rule matches.
        """
        for pattern, rule, method in self._routes.get(verb, ()):
            if match := pattern.fullmatch(path):
                values = map(unquote, match.groups())
                return method, rule, dict(zip(rule.variables, values, strict=True))
        raise exceptions.NotFound(f"localvertex serves no call at {verb} {unquote(path)}.")


def _handler(parts: Iterable[Any], attribute: str) -> Callable[[Any], Any] | None:
    return next((getattr(part, attribute) for part in parts if hasattr(part, attribute)), None)


def signatures(service: str) -> list[Signature]:
    """The methods of a service by its full name, in alphabetical order."""
    if service == _OPERATIONS:
        return list(_operations())
    return sorted(_from_sdk(service), key=lambda signature: signature.name)


def unserved(path: str) -> exceptions.MethodNotImplemented:
    """The error for a method that localvertex does not serve."""
    return exceptions.MethodNotImplemented(f"localvertex does not serve {path.strip('/')}.")


def snake_case(name: str) -> str:
    """`CreatePipelineJob` -> `create_pipeline_job`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _segments(template: str) -> str:
    """A path template's regular expression; a colon begins a custom verb and is no part of a segment."""
    parts = {"*": "[^/:]+", "**": "[^:]+"}
    return "/".join(parts.get(part) or re.escape(part) for part in template.split("/"))


def _from_sdk(service: str) -> Iterator[Signature]:
    package, _, short = service.rpartition(".")
    library = "_".join(package.rsplit(".", 1))
    module = f"{library}.services.{snake_case(short)}.transports"
    recorder = _RecordingChannel()
    transport_class = getattr(importlib.import_module(f"{module}.grpc"), f"{short}GrpcTransport")
    transport = transport_class(channel=recorder, credentials=AnonymousCredentials())
    # Past the logging interceptor, which would put off naming a method until it is called.
    transport._logged_channel = recorder
    transport._stubs.clear()
    for attribute, member in vars(transport_class).items():
        if isinstance(member, property):
            getattr(transport, attribute)
    rest = getattr(importlib.import_module(f"{module}.rest_base"), f"_Base{short}RestTransport")
    for path, (encode, decode, streams) in recorder.recorded.items():
        of_service, _, name = path.strip("/").partition("/")
        request, response = getattr(encode, "__self__", None), getattr(decode, "__self__", None)
        if of_service == service and request is not None and response is not None:
            yield Signature(service, name, request, response, _rules(rest, name), streams)


def _rules(rest: type[Any], name: str) -> tuple[HttpRule, ...]:
    try:
        options = getattr(rest, f"_Base{name}")._get_http_options()
    except AttributeError:
        return ()
    return tuple(HttpRule(each["method"].upper(), each["uri"], each.get("body", "")) for each in options)


class _RecordingChannel(grpc.Channel):
    """Notes the methods that a transport sets up; no call can be made on it."""

    def __init__(self) -> None:
        self.recorded: dict[str, tuple[Callable[..., Any], Callable[..., Any], bool]] = {}

    def _record(self, streams: bool) -> Callable[..., Any]:
        def record(
            method: str,
            request_serializer: Callable[..., Any],
            response_deserializer: Callable[..., Any],
            *_args: Any,
            **_options: Any,
        ) -> Callable[..., Any]:
            self.recorded[method] = (request_serializer, response_deserializer, streams)
            return lambda *_args, **_kwargs: None

        return record

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        return self._record(False)(*args, **kwargs)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        return self._record(True)(*args, **kwargs)

    def stream_unary(self, *_args: Any, **_kwargs: Any) -> Any:
        return lambda *_args, **_kwargs: None  # client streams are not served

    stream_stream = stream_unary

    def subscribe(self, callback: Callable[..., Any], try_to_connect: bool | None = False) -> None:
        pass

    def unsubscribe(self, callback: Callable[..., Any]) -> None:
        pass

    def close(self) -> None:
        pass

    def __enter__(self) -> _RecordingChannel:
        return self

    def __exit__(self, *_exception: object) -> None:
        pass


_OPERATIONS = "google.longrunning.Operations"


def _operations() -> Iterator[Signature]:
    """Operations hang under resources of any kind: their rules are those of all services at once."""
    operation = "/v1/{name=projects/**/operations/*}"
    parent = "/v1/{name=projects/**}/operations"
    pb, empty = operations_pb2, empty_pb2.Empty
    known: Mapping[str, tuple[type[Message], type[Message], HttpRule]] = {
        "GetOperation": (pb.GetOperationRequest, pb.Operation, HttpRule("GET", operation, "")),
        "ListOperations": (
            pb.ListOperationsRequest,
            pb.ListOperationsResponse,
            HttpRule("GET", parent, ""),
        ),
        "WaitOperation": (pb.WaitOperationRequest, pb.Operation, HttpRule("POST", f"{operation}:wait", "")),
        "CancelOperation": (pb.CancelOperationRequest, empty, HttpRule("POST", f"{operation}:cancel", "*")),
        "DeleteOperation": (pb.DeleteOperationRequest, empty, HttpRule("DELETE", operation, "")),
    }
    for name, (request, response, rule) in known.items():
        # The SDK's operations client asks under /ui, the console's alias of the API.
        alias = HttpRule(rule.verb, rule.template.replace("/v1/", "/ui/", 1), rule.body)
        yield Signature(_OPERATIONS, name, request, response, (rule, alias))


def decode(kind: type[Any], wire: bytes) -> Any:
    """A message of a proto-plus or plain protobuf class from its wire format.

    Raises:
        google.api_core.exceptions.InvalidArgument: it is none, or nested too deeply to be read.
    """
    try:
        return kind.deserialize(wire) if issubclass(kind, proto.Message) else kind.FromString(wire)
    except DecodeError as error:
        raise exceptions.InvalidArgument(f"Invalid request: {error}.") from error


def encode(message: Any) -> bytes:
    """A proto-plus or plain protobuf message in its wire format."""
    wire: bytes = plain(message).SerializeToString()
    return wire


def plain(message: Any) -> Message:
    """The protobuf message of a proto-plus one; a plain one is itself."""
    wire: Message = type(message).pb(message) if isinstance(message, proto.Message) else message
    return wire
