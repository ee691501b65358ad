"""What trying an endpoint needs of the services: endpoints that answer, and their answers."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import Endpoint, PredictRequest
from google.protobuf import json_format

from localvertex import names
from localvertex.services.prediction import PredictionService, plain
from localvertex.store import Store


class Predictions:
    """Lists endpoints and asks them.

    Args:
        store: where endpoints are.
        service: answers as it answers the SDK.
    """

    def __init__(self, store: Store, service: PredictionService) -> None:
        self._store = store
        self._service = service

    def endpoints(self) -> list[dict[str, Any]]:
        """Endpoints of all projects and regions that get traffic, the newest first.

        Returns:
            Of each `name` (the resource name), `display_name`, `location` and `models`: display name, version and
            percentage of the requests.
        """
        return [_shown(endpoint) for endpoint in self._store.select(Endpoint) if endpoint.traffic_split]

    def ask(self, body: bytes) -> dict[str, Any]:
        """The predictions for instances.

        Args:
            body: JSON, `{"endpoint": resource name, "instances": […], "parameters": {…}}`; parameters may be absent.

        Returns:
            `predictions`, `model` (display name and version of which answered) and `seconds` that it took.

        Raises:
            google.api_core.exceptions.GoogleAPICallError: the request or the prediction failed.
        """
        asked = _read(body)
        request = PredictRequest(endpoint=asked["endpoint"])
        wire = PredictRequest.pb(request)
        try:
            for instance in asked["instances"]:
                json_format.ParseDict(instance, wire.instances.add())
            if asked.get("parameters") is not None:
                json_format.ParseDict(asked["parameters"], wire.parameters)
        except json_format.ParseError as error:
            raise exceptions.InvalidArgument(f"instances: {error}.") from None
        before = time.perf_counter()
        answer = self._service.predict(request)
        return {
            "predictions": [plain(prediction) for prediction in type(answer).pb(answer).predictions],
            "model": f"{answer.model_display_name}, version {answer.model_version_id}",
            "seconds": round(time.perf_counter() - before, 4),
        }


def _read(body: bytes) -> Mapping[str, Any]:
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        asked = None
    if (
        not isinstance(asked, dict)
        or not isinstance(asked.get("endpoint"), str)
        or not isinstance(asked.get("instances"), list)
    ):
        raise exceptions.InvalidArgument('The body must be {"endpoint": "projects/…", "instances": […]}.')
    return asked


def _shown(endpoint: Endpoint) -> dict[str, Any]:
    shares = dict(endpoint.traffic_split)
    return {
        "name": endpoint.name,
        "display_name": endpoint.display_name,
        "location": names.location_of(endpoint.name),
        "models": [
            f"{deployed.display_name}, version {deployed.model_version_id} ({shares[deployed.id]} %)"
            for deployed in endpoint.deployed_models
            if shares.get(deployed.id)
        ],
    }
