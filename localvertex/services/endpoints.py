"""EndpointService: endpoints, the models deployed to them, and how their traffic is split."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Mapping

import httpx
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import (
    CreateEndpointOperationMetadata,
    CreateEndpointRequest,
    DeleteEndpointRequest,
    DeleteOperationMetadata,
    DeployedModel,
    DeployModelOperationMetadata,
    DeployModelRequest,
    DeployModelResponse,
    Endpoint,
    GetEndpointRequest,
    ListEndpointsRequest,
    ListEndpointsResponse,
    MutateDeployedModelOperationMetadata,
    MutateDeployedModelRequest,
    MutateDeployedModelResponse,
    UndeployModelOperationMetadata,
    UndeployModelRequest,
    UndeployModelResponse,
    UpdateEndpointLongRunningRequest,
    UpdateEndpointOperationMetadata,
    UpdateEndpointRequest,
)
from google.longrunning import operations_pb2

from localvertex import filters, labels, machines, names
from localvertex.home import Home
from localvertex.services.models import ModelService, check_mask, merge
from localvertex.services.moments import seconds, stamp
from localvertex.services.operations import Operations
from localvertex.services.serving import Deployment, Health, Plan, deployed_model, replica_count
from localvertex.store import Store
from localvertex.workloads import Runner

THE_NEW_ONE = "0"
"""How a traffic split names the model that is just being deployed."""

_CHANGEABLE = {
    "display_name",
    "description",
    "labels",
    "traffic_split",
    "client_connection_config",
    "predict_request_response_logging_config",
}
_CHANGEABLE_DEPLOYMENT = {
    "dedicated_resources",
    "automatic_resources",
    "disable_container_logging",
    "enable_access_logging",
    "display_name",
}
_DEPLOYMENT_TIMEOUT = 1800.0
_ENDPOINT_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?|[1-9][0-9]{0,9}")
_PRIVATE = (
    "network",
    "enable_private_service_connect",
    "private_service_connect_config",
    "dedicated_endpoint_enabled",
    "private_model_server_enabled",
)


class EndpointService:
    """google.cloud.aiplatform.v1.EndpointService.

    Args:
        store: where endpoints are kept.
        home: for the folder of the servers' logs.
        operations: for everything that takes time.
        runner: starts prediction servers.
        models: the registry that deployed models come from.
    """

    SERVICE = "google.cloud.aiplatform.v1.EndpointService"

    def __init__(self, store: Store, home: Home, operations: Operations, runner: Runner, models: ModelService) -> None:
        self._store = store
        self._home = home
        self._operations = operations
        self._runner = runner
        self._models = models
        # Servers are on this host: no proxy, not even the one that redirects API calls here, is in between.
        self.client = httpx.Client(trust_env=False, limits=httpx.Limits(max_connections=None))
        self._lock = threading.Lock()
        self._deployments: dict[tuple[str, str], Deployment] = {}

    def resume(self) -> None:
        """Start the servers of all deployed models again; predictions wait until they are healthy."""
        for endpoint in self._store.select(Endpoint):
            for deployed in endpoint.deployed_models:
                self._open(endpoint.name, deployed).scale(replica_count(deployed))

    def close(self) -> None:
        """End all servers; deployed models stay deployed."""
        with self._lock:
            deployments, self._deployments = list(self._deployments.values()), {}
        closing = [threading.Thread(target=deployment.close) for deployment in deployments]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()
        self.client.close()

    def route(self, name: str) -> tuple[Endpoint, DeployedModel, Deployment]:
        """Which deployed model answers the next request, drawn by the traffic split.

        Raises:
            google.api_core.exceptions.NotFound: there is no such endpoint.
            google.api_core.exceptions.FailedPrecondition: it has no deployed model with traffic.
        """
        gone = ""
        while True:
            endpoint = self._store.get(Endpoint, name)
            shares = {deployed_id: share for deployed_id, share in endpoint.traffic_split.items() if share}
            if not shares:
                raise exceptions.FailedPrecondition(f"{name} doesn't have traffic_split.")
            if gone in shares:
                raise exceptions.ServiceUnavailable(f"Deployed model {gone} of {name} is not being served.")
            (chosen,) = random.choices(list(shares), list(shares.values()))
            with self._lock:
                deployment = self._deployments.get((name, chosen))
            if deployment is not None:
                return endpoint, deployed_model(endpoint, chosen), deployment
            gone = chosen  # Perhaps it was undeployed since the endpoint was read.

    def health(self, endpoint: str, deployed_id: str) -> Health:
        """How the servers of a deployed model are; none are wanted of one that is not being served."""
        with self._lock:
            deployment = self._deployments.get((endpoint, deployed_id))
        return deployment.health() if deployment else Health()

    def create_endpoint(self, request: CreateEndpointRequest) -> operations_pb2.Operation:
        """Make an endpoint that has no models yet."""
        if not request.endpoint.display_name:
            raise exceptions.InvalidArgument("endpoint.display_name is required.")
        labels.check(request.endpoint, "endpoint")
        _refuse_private(request.endpoint)
        if request.endpoint_id and not _ENDPOINT_ID.fullmatch(request.endpoint_id):
            raise exceptions.InvalidArgument(
                f"endpoint_id {request.endpoint_id!r} must be up to 63 lower-case letters, digits and -, begin with a "
                "letter and not end with -; or up to 10 digits, the first of them not 0."
            )
        endpoint = Endpoint(
            name=f"{request.parent}/endpoints/{request.endpoint_id or names.new_id()}",
            display_name=request.endpoint.display_name,
            description=request.endpoint.description,
            labels=request.endpoint.labels,
            encryption_spec=request.endpoint.encryption_spec,
            client_connection_config=request.endpoint.client_connection_config,
            predict_request_response_logging_config=request.endpoint.predict_request_response_logging_config,
        )
        if self._store.find(Endpoint, endpoint.name):
            raise exceptions.AlreadyExists(f"Endpoint {endpoint.name} already exists.")
        return self._operations.start(
            endpoint.name, lambda: self._store.create(endpoint), metadata=CreateEndpointOperationMetadata()
        )

    def get_endpoint(self, request: GetEndpointRequest) -> Endpoint:
        """An endpoint with its deployed models."""
        return self._store.get(Endpoint, request.name)

    def list_endpoints(self, request: ListEndpointsRequest) -> ListEndpointsResponse:
        """Endpoints of a location, newest first unless ordered otherwise."""
        found, token = filters.listing(
            self._store,
            Endpoint,
            request.parent,
            request.filter,
            request.order_by,
            request.page_size,
            request.page_token,
        )
        return ListEndpointsResponse(endpoints=found, next_page_token=token)

    def update_endpoint(self, request: UpdateEndpointRequest) -> Endpoint:
        """Change an endpoint's names, labels or traffic split."""
        check_mask(request.update_mask, _CHANGEABLE)

        def change(endpoint: Endpoint) -> None:
            merge(request.update_mask, request.endpoint, endpoint)
            check_split(endpoint)

        return self._store.update(Endpoint, request.endpoint.name, change)

    def update_endpoint_long_running(self, request: UpdateEndpointLongRunningRequest) -> operations_pb2.Operation:
        """Change an endpoint's connection settings."""
        name = request.endpoint.name

        def change(endpoint: Endpoint) -> None:
            endpoint.client_connection_config = request.endpoint.client_connection_config

        self._store.get(Endpoint, name)
        return self._operations.start(
            name,
            lambda: self._store.update(Endpoint, name, change),
            metadata=UpdateEndpointOperationMetadata(),
        )

    def delete_endpoint(self, request: DeleteEndpointRequest) -> operations_pb2.Operation:
        """Delete an endpoint without deployed models."""

        def work() -> None:
            endpoint = self._store.get(Endpoint, request.name)
            if endpoint.deployed_models:
                raise exceptions.FailedPrecondition(
                    f"Endpoint {request.name} has deployed or being-deployed DeployedModel(s) with ID(s): "
                    f"{', '.join(deployed.id for deployed in endpoint.deployed_models)}; undeploy them first."
                )
            self._store.delete(Endpoint, request.name)

        self._store.get(Endpoint, request.name)
        return self._operations.start(request.name, work, metadata=DeleteOperationMetadata())

    def deploy_model(self, request: DeployModelRequest) -> operations_pb2.Operation:
        """Start the servers of a model; it is deployed once all of them are healthy."""
        endpoint = self._store.get(Endpoint, request.endpoint)
        deployed = self._accepted(request.deployed_model)
        _add(endpoint, deployed, request.traffic_split)

        cancelled = threading.Event()

        def publish(stored: Endpoint) -> None:
            if cancelled.is_set():
                raise exceptions.Cancelled("The operation was cancelled.")
            self._models.resolve(f"{deployed.model}@{deployed.model_version_id}")  # not deleted meanwhile
            _add(stored, deployed, request.traffic_split)

        def work() -> DeployModelResponse:
            deployment = self._open(request.endpoint, deployed)
            try:
                deployment.scale(replica_count(deployed))
                deployment.wait_until_ready(_deployment_timeout(deployment), cancelled.is_set)
                stamp(deployed, "create_time")
                self._store.update(Endpoint, request.endpoint, publish)
            except BaseException:
                self._close(request.endpoint, deployed.id)
                raise
            return DeployModelResponse(deployed_model=deployed)

        metadata = DeployModelOperationMetadata()
        return self._operations.start(request.endpoint, work, metadata=metadata, cancel=cancelled.set)

    def undeploy_model(self, request: UndeployModelRequest) -> operations_pb2.Operation:
        """Take a model off an endpoint and end its servers."""
        deployed_id = request.deployed_model_id
        _remove(self._store.get(Endpoint, request.endpoint), deployed_id, request.traffic_split)

        def work() -> UndeployModelResponse:
            self._store.update(
                Endpoint, request.endpoint, lambda stored: _remove(stored, deployed_id, request.traffic_split)
            )
            self._close(request.endpoint, deployed_id)
            return UndeployModelResponse()

        return self._operations.start(request.endpoint, work, metadata=UndeployModelOperationMetadata())

    def mutate_deployed_model(self, request: MutateDeployedModelRequest) -> operations_pb2.Operation:
        """Change how many replicas serve a deployed model, or its logging."""
        check_mask(request.update_mask, _CHANGEABLE_DEPLOYMENT)
        deployed_id = request.deployed_model.id
        deployed_model(self._store.get(Endpoint, request.endpoint), deployed_id)

        def change(endpoint: Endpoint) -> None:
            merge(request.update_mask, request.deployed_model, deployed_model(endpoint, deployed_id))

        def work() -> MutateDeployedModelResponse:
            deployed = deployed_model(self._store.update(Endpoint, request.endpoint, change), deployed_id)
            with self._lock:
                deployment = self._deployments[request.endpoint, deployed_id]
            deployment.scale(replica_count(deployed))
            deployment.wait_until_ready(_deployment_timeout(deployment))
            return MutateDeployedModelResponse(deployed_model=deployed)

        return self._operations.start(request.endpoint, work, metadata=MutateDeployedModelOperationMetadata())

    def _accepted(self, given: DeployedModel) -> DeployedModel:
        model = self._models.resolve(given.model)
        deployed = DeployedModel(given)
        deployed.id = given.id or names.new_id()
        deployed.model, deployed.model_version_id = model.name, model.version_id
        deployed.display_name = given.display_name or model.display_name
        resources = deployed.dedicated_resources
        if "dedicated_resources" in deployed:
            machines.check(resources.machine_spec, "deployed_model.dedicated_resources.machine_spec", serving=True)
            resources.min_replica_count = max(1, resources.min_replica_count)
            resources.max_replica_count = max(resources.max_replica_count, resources.min_replica_count)
        return deployed

    def _open(self, endpoint: str, deployed: DeployedModel) -> Deployment:
        """The deployment of a model, without replicas yet."""
        model = self._models.resolve(f"{deployed.model}@{deployed.model_version_id}")
        logs = self._home.logs / names.id_of(endpoint) / deployed.id
        deployment = Deployment(Plan(endpoint, deployed, model, logs), self._runner, self.client)
        with self._lock:
            if (endpoint, deployed.id) in self._deployments:
                raise exceptions.AlreadyExists(f"{endpoint} already has a deployed model {deployed.id}.")
            self._deployments[endpoint, deployed.id] = deployment
        return deployment

    def _close(self, endpoint: str, deployed_id: str) -> None:
        with self._lock:
            deployment = self._deployments.pop((endpoint, deployed_id), None)
        if deployment:
            deployment.close()


def check_split(endpoint: Endpoint) -> None:
    """Refuse a traffic split that does not add up to 100 or names a model that is not deployed.

    Raises:
        google.api_core.exceptions.InvalidArgument: what is wrong.
    """
    deployed = {one.id for one in endpoint.deployed_models}
    for deployed_id, share in endpoint.traffic_split.items():
        if deployed_id not in deployed:
            raise exceptions.InvalidArgument(f"traffic_split: {endpoint.name} has no deployed model {deployed_id}.")
        if not 0 <= share <= 100:
            raise exceptions.InvalidArgument(f"traffic_split: {share} is not a percentage.")
    total = sum(endpoint.traffic_split.values())
    if endpoint.traffic_split and total != 100:
        raise exceptions.InvalidArgument(f"traffic_split must add up to 100, not {total}.")


def _refuse_private(endpoint: Endpoint) -> None:
    for field in _PRIVATE:
        if getattr(endpoint, field):
            raise exceptions.MethodNotImplemented(
                f"endpoint.{field} is not supported by localvertex, whose endpoints all answer at "
                "LOCATION-aiplatform.googleapis.com."
            )


def _add(endpoint: Endpoint, deployed: DeployedModel, split: Mapping[str, int]) -> None:
    if any(other.id == deployed.id for other in endpoint.deployed_models):
        raise exceptions.AlreadyExists(f"{endpoint.name} already has a deployed model {deployed.id}.")
    endpoint.deployed_models.append(deployed)
    if split:
        endpoint.traffic_split = {
            deployed.id if deployed_id == THE_NEW_ONE else deployed_id: share for deployed_id, share in split.items()
        }
    check_split(endpoint)


def _remove(endpoint: Endpoint, deployed_id: str, split: Mapping[str, int]) -> None:
    deployed_model(endpoint, deployed_id)
    endpoint.deployed_models = [one for one in endpoint.deployed_models if one.id != deployed_id]
    if not endpoint.deployed_models:
        endpoint.traffic_split = {}
    elif split:
        endpoint.traffic_split = dict(split)
    elif endpoint.traffic_split.get(deployed_id):
        raise exceptions.FailedPrecondition(
            f"Deployed model {deployed_id} has traffic; give a traffic_split that sends it elsewhere."
        )
    else:
        endpoint.traffic_split = {
            other: share for other, share in endpoint.traffic_split.items() if other != deployed_id
        }
    check_split(endpoint)


def _deployment_timeout(deployment: Deployment) -> float:
    return seconds(deployment.plan.model.container_spec, "deployment_timeout") or _DEPLOYMENT_TIMEOUT
