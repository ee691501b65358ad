"""Model, endpoint and prediction services on a real store and real server processes, without front ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from google.cloud.aiplatform_v1.types import (
    CreateEndpointRequest,
    DeployModelRequest,
    Endpoint,
    GetEndpointRequest,
    PredictRequest,
    PredictResponse,
    UndeployModelRequest,
    UploadModelRequest,
    UploadModelResponse,
)
from google.longrunning import operations_pb2
from google.protobuf import json_format
from google.rpc import code_pb2

from localvertex.buckets import Buckets
from localvertex.home import Home
from localvertex.services.batch_prediction import BatchPredictionService
from localvertex.services.endpoints import EndpointService
from localvertex.services.models import ModelService
from localvertex.services.operations import Operations
from localvertex.services.prediction import PredictionService
from localvertex.store import Store
from localvertex.workloads.process import ProcessRunner
from localvertex.workloads.table import ImageTable

PARENT = "projects/100000000001/locations/us-central1"
Seen = TypeVar("Seen")

# A prediction server in the terms of Vertex AI's container contract; instances tell it what to do.
SERVER = """
import http.server, json, os, signal, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    sick_until = 0

    def do_GET(self):
        healthy = self.path == os.environ["AIP_HEALTH_ROUTE"] and time.time() > Handler.sick_until
        self.answer(200 if healthy else 404, b"")

    def do_POST(self):
        data = self.rfile.read(int(self.headers["content-length"]))
        if self.path != os.environ["AIP_PREDICT_ROUTE"]:
            return self.answer(404, b"no such route")
        if not self.headers["content-type"].startswith("application/json"):
            return self.answer(200, b"raw:" + data, self.headers["content-type"])
        body = json.loads(data)
        for instance in body["instances"]:
            if instance == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if instance == "sick":
                Handler.sick_until = time.time() + 2
            if instance == "sleep":
                time.sleep(3600)
            if instance in (400, 429, 500, 503):
                return self.answer(instance, json.dumps({"error": f"instance 0: {instance} is bad"}).encode())
            if instance == "nonsense":
                return self.answer(200, b"nonsense")
        name = os.environ.get("NAME", sys.argv[-1])
        saw = [json.dumps(instance, sort_keys=True) for instance in body["instances"]]
        predictions = [{"by": name, "pid": os.getpid(), "saw": one} for one in saw]
        answer = {"predictions": predictions, "metadata": body.get("parameters")}
        self.answer(200, json.dumps(answer).encode())

    def answer(self, status, body, kind="application/json"):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

print("serving", flush=True)
time.sleep(float(os.environ.get("SLOW", "0")))
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["AIP_HTTP_PORT"])), Handler).serve_forever()
"""


class Failed(Exception):
    """An operation that ended in an error."""

    def __init__(self, operation: operations_pb2.Operation) -> None:
        self.code = code_pb2.Code.Name(operation.error.code)
        super().__init__(f"{self.code}: {operation.error.message}")


class Service:
    """The services; can be closed and built anew on the same state, as a restarted server would."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.store = Store.at(home.database)
        self.operations = Operations(self.store)
        self.buckets = Buckets(home, self.store)
        self.models = ModelService(self.store, self.operations, self.buckets)
        runner = ProcessRunner(home, ImageTable.load(home), {})
        self.endpoints = EndpointService(self.store, home, self.operations, runner, self.models)
        self.prediction = PredictionService(self.endpoints)
        self.batches = BatchPredictionService(self.store, home, self.buckets, self.operations, runner, self.models)

    def close(self) -> None:
        """End the servers, as a stop of localvertex does."""
        self.batches.close()
        self.endpoints.close()
        self.store.close()

    def done(self, operation: operations_pb2.Operation) -> operations_pb2.Operation:
        """The operation once it is done; raises Failed if it ended in an error."""
        name = operations_pb2.GetOperationRequest(name=operation.name)
        ended = until(lambda: self.operations.get_operation(name), lambda found: found.done)
        if ended.HasField("error"):
            raise Failed(ended)
        return ended

    def upload(self, name: str = "reader", *, parent_model: str = "", model_id: str = "", **model: Any) -> str:
        """Upload a model, or a version of one; returns `<model>@<version>`."""
        model.setdefault("container_spec", container())
        request = UploadModelRequest(
            parent=PARENT, parent_model=parent_model, model_id=model_id, model={"display_name": name, **model}
        )
        uploaded = UploadModelResponse.pb(UploadModelResponse())
        self.done(self.models.upload_model(request)).response.Unpack(uploaded)
        return f"{uploaded.model}@{uploaded.model_version_id}"

    def endpoint(self, **endpoint: Any) -> str:
        """Create an endpoint; returns its resource name."""
        request = CreateEndpointRequest(parent=PARENT, endpoint={"display_name": "words", **endpoint})
        created = Endpoint.pb(Endpoint())
        self.done(self.endpoints.create_endpoint(request)).response.Unpack(created)
        return str(created.name)

    def deploy(self, endpoint: str, model: str, split: Mapping[str, int] | None = None, replicas: int = 1) -> str:
        """Deploy a model; returns its id at the endpoint."""
        deployed = {
            "model": model,
            "dedicated_resources": {
                "machine_spec": {"machine_type": "n1-standard-2"},
                "min_replica_count": replicas,
            },
        }
        known = {one.id for one in self.get(endpoint).deployed_models}
        request = DeployModelRequest(
            endpoint=endpoint, deployed_model=deployed, traffic_split={"0": 100} if split is None else split
        )
        self.done(self.endpoints.deploy_model(request))
        (new,) = {one.id for one in self.get(endpoint).deployed_models} - known
        return new

    def undeploy(self, endpoint: str, deployed_id: str, split: Mapping[str, int] | None = None) -> None:
        """Take a model off an endpoint."""
        request = UndeployModelRequest(
            endpoint=endpoint, deployed_model_id=deployed_id, traffic_split=dict(split or {})
        )
        self.done(self.endpoints.undeploy_model(request))

    def get(self, endpoint: str) -> Endpoint:
        """The endpoint as it is now."""
        return self.endpoints.get_endpoint(GetEndpointRequest(name=endpoint))

    def predict(self, endpoint: str, *instances: Any, **parameters: Any) -> PredictResponse:
        """Predictions of instances."""
        request = PredictRequest(endpoint=endpoint)
        wire = PredictRequest.pb(request)
        for instance in instances:
            json_format.ParseDict(instance, wire.instances.add())
        if parameters:
            json_format.ParseDict(parameters, wire.parameters)
        return self.prediction.predict(request)


def container(name: str = "", **spec: Any) -> dict[str, Any]:
    """The container spec of the test's server."""
    return {
        "image_uri": "example.test/server:1",
        "command": ["python", "-c", SERVER],
        "env": [{"name": "NAME", "value": name}],
        **spec,
    }


def until(look: Callable[[], Seen], wanted: Callable[[Seen], bool] = bool) -> Seen:
    """Look again and again until what is seen is wanted; the test's own timeout ends a vain wait."""
    while not wanted(seen := look()):
        time.sleep(0.02)
    return seen
