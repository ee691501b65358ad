"""PredictionService: hands requests on to the server of a deployed model, and its answers back."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import httpx
from google.api import httpbody_pb2
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import (
    DeployedModel,
    Endpoint,
    PredictRequest,
    PredictResponse,
    RawPredictRequest,
)
from google.protobuf import json_format, struct_pb2

from localvertex.services.endpoints import EndpointService
from localvertex.services.moments import seconds
from localvertex.services.request_log import RequestLog
from localvertex.services.serving import UndeployedError
from localvertex.services.traffic import Traffic

_TIMEOUT = 60.0
_LONGEST_MESSAGE = 10_000
_JSON = "application/json"


class PredictionService:
    """google.cloud.aiplatform.v1.PredictionService.

    Args:
        endpoints: knows which server answers for an endpoint.
        log: where endpoints that log requests log them; None: nowhere.

    Attributes:
        traffic: what was asked, and how it went.
    """

    SERVICE = "google.cloud.aiplatform.v1.PredictionService"

    def __init__(self, endpoints: EndpointService, log: RequestLog | None = None) -> None:
        self._endpoints = endpoints
        self._log = log
        self.traffic = Traffic()

    def predict(self, request: PredictRequest) -> PredictResponse:
        """Ask for the predictions of instances."""
        wire = PredictRequest.pb(request)
        body: dict[str, Any] = {"instances": [plain(instance) for instance in wire.instances]}
        if wire.HasField("parameters"):
            body["parameters"] = plain(wire.parameters)
        endpoint, deployed, answer = self._ask(request.endpoint, json.dumps(body).encode(), _JSON)
        response = self._response(deployed, answer)
        if self._log is not None:
            self._log.note(endpoint, deployed, body["instances"], answer.json()["predictions"])
        return response

    def raw_predict(self, request: RawPredictRequest) -> httpbody_pb2.HttpBody:
        """Hand a body on as it is."""
        body = RawPredictRequest.pb(request).http_body
        _, _, answer = self._ask(request.endpoint, body.data, body.content_type or _JSON)
        return httpbody_pb2.HttpBody(content_type=answer.headers.get("content-type", ""), data=answer.content)

    def _ask(self, name: str, content: bytes, content_type: str) -> tuple[Endpoint, DeployedModel, httpx.Response]:
        while True:
            endpoint, deployed, deployment = self._endpoints.route(name)
            with self.traffic.measured(endpoint.name, deployed.id), contextlib.suppress(UndeployedError):
                answer = deployment.ask(content, content_type, _patience(endpoint))
                if not answer.is_success:
                    raise error_of(answer)
                return endpoint, deployed, answer

    def _response(self, deployed: DeployedModel, answer: httpx.Response) -> PredictResponse:
        try:
            body = answer.json()
            predictions = [_value(prediction) for prediction in body["predictions"]]
        except (ValueError, KeyError, TypeError, json_format.ParseError):
            raise exceptions.InternalServerError(
                "The prediction container's answer is not a JSON object with a list of predictions: "
                f"{answer.text[:200]!r}."
            ) from None
        response = PredictResponse(
            deployed_model_id=deployed.id,
            model=deployed.model,
            model_version_id=deployed.model_version_id,
            model_display_name=deployed.display_name,
        )
        wire = PredictResponse.pb(response)
        wire.predictions.extend(predictions)
        if body.get("metadata") is not None:
            wire.metadata.CopyFrom(_value(body["metadata"]))
        return response


def _patience(endpoint: Endpoint) -> float:
    return seconds(endpoint.client_connection_config, "inference_timeout") or _TIMEOUT


def plain(value: struct_pb2.Value) -> Any:
    """A Value as JSON; whole numbers, which a Value holds as floats, as 100 and not as 100.0."""
    match value.WhichOneof("kind"):
        case "struct_value":
            return {name: plain(field) for name, field in value.struct_value.fields.items()}
        case "list_value":
            return [plain(item) for item in value.list_value.values]
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) < 2**53 else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
    return None


def _value(plain: Any) -> struct_pb2.Value:
    value = struct_pb2.Value()
    json_format.ParseDict(plain, value)
    return value


def error_of(answer: httpx.Response) -> exceptions.GoogleAPICallError:
    """What a prediction container's answer that is no success means to the client."""
    message = _message(answer)
    match answer.status_code:
        case 429:
            return exceptions.ResourceExhausted(message)
        case 503:
            return exceptions.ServiceUnavailable(message)
        case status if 400 <= status < 500:
            return exceptions.InvalidArgument(message)
    return exceptions.InternalServerError(f"The prediction container answered {answer.status_code}: {message}")


def _message(answer: httpx.Response) -> str:
    try:
        body = answer.json()
        found = body.get("error") or body.get("detail") or body.get("message")
        text = found.get("message") if isinstance(found, dict) else found
    except (ValueError, AttributeError):
        text = None
    return str(text or answer.text or answer.reason_phrase)[:_LONGEST_MESSAGE]
