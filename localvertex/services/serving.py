"""The prediction servers of a deployed model: kept alive, watched for their health, asked in turn."""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import DeployedModel, Endpoint, Model

from localvertex import machines, names
from localvertex.services.workers import free_ports, last_lines
from localvertex.workloads import Runner, Workload, WorkloadError

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_PAUSE_SECONDS = 0.05
_HEALTH_TIMEOUT = 10.0
_SECONDS_BETWEEN_CHECKS = 10.0
_FAILED_CHECKS_OF_THE_SICK = 3
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0
_LINES_OF_A_FAILURE = 20
_VARIABLE = re.compile(r"\$(\$|\((\w+)\))")


@dataclass(frozen=True)
class Address:
    """Where a replica answers; the routes hold a secret unless the model fixes them."""

    port: int
    health: str
    predict: str

    def url(self, route: str) -> str:
        """The full URL of a route."""
        return f"http://127.0.0.1:{self.port}{route}"


class NotReadyError(exceptions.ServiceUnavailable):
    """No replica is healthy, nor became so in time."""

    def __init__(self, message: str) -> None:
        super().__init__(message)  # type: ignore[no-untyped-call]


class UndeployedError(NotReadyError):
    """The model was taken off its endpoint while it was asked: others answer there now."""


@dataclass(frozen=True)
class Plan:
    """What every replica of a deployed model runs.

    Args:
        endpoint: resource name of the endpoint, or of the batch prediction job that the servers work for.
        deployed: the deployed model, its id set.
        model: the model version.
        logs: folder of the replicas' logs.
    """

    endpoint: str
    deployed: DeployedModel
    model: Model
    logs: Path

    def address(self) -> Address:
        """A free port, and the model's routes or made-up ones, which other users of the machine cannot guess."""
        container = self.model.container_spec
        made_up = f"/v1/endpoints/{names.id_of(self.endpoint)}/deployedModels/{self.deployed.id}"
        return Address(
            port=free_ports(1)[0],
            health=container.health_route or made_up,
            predict=container.predict_route or f"{made_up}-{secrets.token_urlsafe(24)}:predict",
        )

    def log(self, number: int) -> Path:
        """The log file of a replica."""
        return self.logs / f"replica-{number}.log"

    def workload(self, number: int, address: Address) -> Workload:
        """The server process of a replica."""
        container = self.model.container_spec
        variables = self._environment(address)
        variables |= {given.name: expand(given.value, variables) for given in container.env}
        return Workload(
            id=f"{names.id_of(self.endpoint)}-{self.deployed.id}-{number}",
            image=container.image_uri,
            command=tuple(expand(text, variables) for text in container.command),
            args=tuple(expand(text, variables) for text in container.args),
            env=variables,
            log=self.log(number),
            serve=True,
            limits=machines.limits(self.deployed.dedicated_resources.machine_spec),
        )

    def _environment(self, address: Address) -> dict[str, str]:
        """Vertex AI's variables; see "Custom container requirements for prediction" in its documentation."""
        return {
            "AIP_MODE": "PREDICTION",
            "AIP_MODE_VERSION": "1.0.0",
            "AIP_FRAMEWORK": "CUSTOM_CONTAINER",
            "AIP_ACCELERATOR_TYPE": "cpu",
            "AIP_MACHINE_TYPE": self.deployed.dedicated_resources.machine_spec.machine_type,
            "AIP_PROJECT_NUMBER": names.project_of(self.endpoint),
            "AIP_ENDPOINT_ID": names.id_of(self.endpoint),
            "AIP_DEPLOYED_MODEL_ID": self.deployed.id,
            "AIP_MODEL_NAME": names.id_of(self.model.name),
            "AIP_VERSION_NAME": self.model.version_id,
            "AIP_STORAGE_URI": self.model.artifact_uri,
            "AIP_HTTP_PORT": str(address.port),
            "AIP_HEALTH_ROUTE": address.health,
            "AIP_PREDICT_ROUTE": address.predict,
        }


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by the variable's value where there is one; `$$(NAME)` stays `$(NAME)`."""

    def value(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return variables.get(match[2], match[0])

    return _VARIABLE.sub(value, text)


@dataclass(frozen=True)
class Health:
    """How many replicas there are and answer, and why one does not."""

    replicas: int = 0
    ready: int = 0
    failure: str = ""


class Deployment:
    """The replicas of one deployed model.

    Args:
        plan: what they run.
        runner: starts them.
        client: asks them for their health and for predictions.
    """

    def __init__(self, plan: Plan, runner: Runner, client: httpx.Client) -> None:
        self.plan = plan
        self._runner = runner
        self._client = client
        self._changed = threading.Condition()
        self._replicas: list[_Replica] = []
        self._closed = False
        self._turn = 0

    def scale(self, count: int) -> None:
        """Start or end replicas until there are this many; does not wait for the new ones to be ready."""
        with self._changed:
            numbers = range(len(self._replicas), count)
            begun = [_Replica(self.plan, number, self._runner, self._client, self._notify) for number in numbers]
            ended, self._replicas = self._replicas[count:], self._replicas[:count] + begun
        for replica in begun:
            replica.start()
        for replica in ended:
            replica.close()

    def wait_until_ready(self, timeout: float, stopped: Callable[[], bool] = lambda: False) -> None:
        """Wait until all replicas are healthy.

        Args:
            timeout: seconds.
            stopped: whether nobody wants them any more, which ends the wait.

        Raises:
            google.api_core.exceptions.FailedPrecondition: one ended before it was, or the time is over.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while not (all(replica.ready for replica in self._replicas) or stopped()):
                for replica in self._replicas:
                    if replica.failure:
                        raise exceptions.FailedPrecondition(replica.failure)
                if time.monotonic() > deadline:
                    raise exceptions.FailedPrecondition(self._unready(timeout))
                self._changed.wait(_POLL_SECONDS)

    def pick(self, deadline: float) -> Address:
        """The next healthy replica in turn, waited for until `deadline` (time.monotonic).

        Raises:
            NotReadyError: none became healthy.
        """
        with self._changed:
            while not (ready := [replica.address for replica in self._replicas if replica.ready]):
                if self._closed:
                    raise UndeployedError(f"Deployed model {self.plan.deployed.id} was undeployed.")
                if time.monotonic() > deadline:
                    failures = [replica.failure for replica in self._replicas if replica.failure]
                    raise NotReadyError(failures[0] if failures else f"No replica of {self.plan.deployed.id} is ready.")
                self._changed.wait(_POLL_SECONDS)
            self._turn += 1
            return ready[self._turn % len(ready)]

    def ask(self, content: bytes, content_type: str, patience: float) -> httpx.Response:
        """Post a body to the predict route of the next healthy replica; the answer may have any status.

        Args:
            patience: seconds in which the answer must be there.

        Raises:
            google.api_core.exceptions.DeadlineExceeded: it was not.
            google.api_core.exceptions.ServiceUnavailable: the server ended over it, more than once.
            NotReadyError: there is no server to ask.
            UndeployedError: there is none any more, for the model was undeployed.
        """
        deadline = time.monotonic() + patience
        broken_off = 0
        while True:
            address = self.pick(deadline)
            try:
                return self._client.post(
                    address.url(address.predict),
                    content=content,
                    headers={"content-type": content_type},
                    timeout=max(0.01, deadline - time.monotonic()),
                )
            except httpx.TimeoutException:
                raise exceptions.DeadlineExceeded(
                    f"Deployed model {self.plan.deployed.id} did not answer within {patience:g} s."
                ) from None
            except httpx.TransportError as error:
                # The server has just gone. Another one, or its successor, is asked; but a request that was under
                # way may be what ended it, and gets one more chance only.
                broken_off += not isinstance(error, httpx.ConnectError)
                if broken_off > 1:
                    raise exceptions.ServiceUnavailable(
                        f"Deployed model {self.plan.deployed.id} broke off: {error!r}."
                    ) from None
                time.sleep(_PAUSE_SECONDS)

    def health(self) -> Health:
        """How the replicas are at this moment."""
        with self._changed:
            failures = [replica.failure for replica in self._replicas if replica.failure]
            ready = sum(replica.ready for replica in self._replicas)
            return Health(len(self._replicas), ready, failures[0] if failures else "")

    def close(self) -> None:
        """End all replicas, and what is being asked of them."""
        with self._changed:
            self._closed = True
            replicas, self._replicas = self._replicas, []
        for replica in replicas:
            replica.close()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _unready(self, timeout: float) -> str:
        late = next(replica for replica in self._replicas if not replica.ready)
        return (
            f"Model server did not become healthy within {timeout:g} s (its health route is "
            f"{late.address.health!r}). {_log_text(self.plan.log(late.number))}"
        )


@dataclass
class _Replica:
    plan: Plan
    number: int
    runner: Runner
    client: httpx.Client
    notify: Callable[[], None]
    ready: bool = False
    failure: str = ""

    address: Address = field(init=False)

    def __post_init__(self) -> None:
        self.address = self.plan.address()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, name=f"replica-{self.number}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def _keep_alive(self) -> None:
        pause = _SHORTEST_PAUSE
        while not self._closing.is_set():
            served = False
            try:
                served = self._serve_once()
            except WorkloadError as error:
                self._set(ready=False, failure=str(error))
            except Exception as error:
                log.exception("replica %s of %s", self.number, self.plan.deployed.id)
                self._set(ready=False, failure=f"Internal error: {error!r}.")
            pause = _SHORTEST_PAUSE if served else min(2 * pause, _LONGEST_PAUSE)
            self._closing.wait(pause)
            self.address = self.plan.address()

    def _serve_once(self) -> bool:
        """Run the server until it ends or is to end; returns whether it was ever healthy."""
        process = self.runner.start(self.plan.workload(self.number, self.address))
        served = False
        failed_checks, next_check = 0, 0.0
        try:
            while not self._closing.is_set():
                if (code := process.wait(_POLL_SECONDS)) is not None:
                    text = f"Model server exited unexpectedly with status {code}. "
                    self._set(ready=False, failure=text + _log_text(self.plan.log(self.number)))
                    break
                if self.ready and time.monotonic() < next_check:
                    continue
                healthy = self._is_healthy()
                failed_checks = 0 if healthy else failed_checks + 1
                next_check = time.monotonic() + _SECONDS_BETWEEN_CHECKS
                if healthy != self.ready and (healthy or failed_checks >= _FAILED_CHECKS_OF_THE_SICK):
                    served = True
                    self._set(ready=healthy, failure="")
            return served
        finally:
            self._set(ready=False, failure=self.failure)
            process.stop()

    def _is_healthy(self) -> bool:
        try:
            answer = self.client.get(self.address.url(self.address.health), timeout=_HEALTH_TIMEOUT)
        except httpx.HTTPError:
            return False
        return answer.status_code == httpx.codes.OK

    def _set(self, *, ready: bool, failure: str) -> None:
        self.ready, self.failure = ready, failure
        self.notify()


def _log_text(file: Path) -> str:
    lines = last_lines(file, _LINES_OF_A_FAILURE)
    return f"Its log {file} ends with:\n{lines}" if lines else f"It wrote nothing to its log, {file}."


def replica_count(deployed: DeployedModel) -> int:
    """How many replicas to run: the minimum asked for, at least one."""
    return max(1, deployed.dedicated_resources.min_replica_count, deployed.automatic_resources.min_replica_count)


def deployed_model(endpoint: Endpoint, deployed_id: str) -> DeployedModel:
    """An endpoint's deployed model of that id; raises NotFound."""
    for deployed in endpoint.deployed_models:
        if deployed.id == deployed_id:
            found: DeployedModel = deployed
            return found
    raise exceptions.NotFound(f"{endpoint.name} has no deployed model {deployed_id}.")
