"""An endpoint as it is now: what is deployed, who gets which share of the traffic, and what it answers.

What must never be seen from outside: traffic that does not sum to 100, or none at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from images.executor import UserError
from images.launcher.rest import ServiceError, Vertex

BATCH = 8
"""Instances a request: Vertex AI takes 1.5 MB at most."""


@dataclasses.dataclass(frozen=True)
class Deployed:
    """A deployed model.

    Attributes:
        id: at its endpoint.
        version: `<model>@<number>`.
        share: percent of the traffic.
    """

    id: str
    version: str
    share: int


@dataclasses.dataclass(frozen=True)
class Answer:
    """What one request came to.

    Attributes:
        deployed: id of the deployed model that answered; empty where none did.
        predictions: in the order of the instances.
        seconds: that it took.
        error: the service's message; empty if it answered.
    """

    deployed: str
    predictions: Sequence[Mapping[str, Any]]
    seconds: float
    error: str = ""


class Endpoint:
    """One endpoint.

    Args:
        vertex: the service.
        name: resource name.
    """

    def __init__(self, vertex: Vertex, name: str) -> None:
        self._vertex = vertex
        self.name = name

    @classmethod
    def find(cls, vertex: Vertex, display_name: str) -> Endpoint | None:
        """The endpoint with this display name; of several, the newest."""
        found = vertex.every(f"{vertex.parent}/endpoints", "endpoints", filter=f'display_name="{display_name}"')
        named = [endpoint for endpoint in found if endpoint["displayName"] == display_name]
        newest = max(named, key=lambda endpoint: str(endpoint.get("createTime", "")), default=None)
        return cls(vertex, newest["name"]) if newest else None

    @classmethod
    def create(cls, vertex: Vertex, display_name: str) -> Endpoint:
        """Makes an endpoint."""
        body = {"displayName": display_name}
        return cls(vertex, str(vertex.done(vertex.post(f"{vertex.parent}/endpoints", body))["name"]))

    def come_to_rest(self) -> None:
        """Waits for what is still being done to it: an operation outlives who has begun it and was killed."""
        for under_way in self._vertex.every(f"{self.name}/operations", "operations", filter="done=false"):
            with contextlib.suppress(ServiceError):
                self._vertex.done(under_way)

    def deployed(self) -> list[Deployed]:
        """What is deployed now."""
        found = self._vertex.get(self.name)
        split = found.get("trafficSplit", {})
        return [
            Deployed(
                each["id"],
                f"{each['model'].partition('@')[0]}@{each['modelVersionId']}",
                int(split.get(each["id"], 0)),
            )
            for each in found.get("deployedModels", [])
        ]

    def deploy(self, version: str, machine_type: str, share: int) -> Deployed:
        """Starts a version, waits until it answers, and gives it a share of the traffic in the same step.

        Args:
            version: `<model>@<number>`.
            machine_type: Compute Engine machine.
            share: percent; the others keep the rest in the same proportion. 100 where nothing else is deployed.

        Raises:
            UserError: it does not start.
        """
        split = {"0": share, **scaled({each.id: each.share for each in self.deployed()}, 100 - share)}
        resources = {"machineSpec": {"machineType": machine_type}, "minReplicaCount": 1, "maxReplicaCount": 1}
        wanted = {"model": version, "displayName": version.rpartition("/")[2], "dedicatedResources": resources}
        try:
            body = {"deployedModel": wanted, "trafficSplit": split}
            done = self._vertex.done(self._vertex.post(f"{self.name}:deployModel", body))
        except ServiceError as error:
            raise UserError(f"{version} does not start; traffic stays where it was: {error}") from error
        return Deployed(done["deployedModel"]["id"], version, share)

    def give_all(self, chosen: Deployed) -> None:
        """Gives one deployed model all traffic, in one step."""
        split = {each.id: 100 if each.id == chosen.id else 0 for each in self.deployed()}
        self._vertex.patch(self.name, {"name": self.name, "trafficSplit": split}, "trafficSplit")

    def keep_only(self, chosen: Deployed) -> None:
        """Gives one deployed model all traffic, and stops the others."""
        present = self.deployed()
        if any(each.share != (100 if each.id == chosen.id else 0) for each in present):
            self.give_all(chosen)
        for each in present:
            if each.id != chosen.id:
                self._undeploy(each.id, {chosen.id: 100})

    def log_requests(self, share: float, table: str) -> None:
        """Has a share of the requests logged, from 0 to 1, to `bq://<project>.<dataset>.<table>`."""
        field = "predictRequestResponseLoggingConfig"
        present = self._vertex.get(self.name).get(field, {})
        if not share and not present.get("enabled"):
            return
        wanted = {"enabled": share > 0, "samplingRate": share, "bigqueryDestination": {"outputUri": table}}
        if {key: present.get(key) for key in wanted} != wanted:
            self._vertex.patch(self.name, {"name": self.name, field: wanted}, field)

    def delete(self) -> None:
        """Stops all that is deployed and removes the endpoint."""
        for each in self.deployed():
            self._undeploy(each.id, {})
        self._vertex.delete(self.name)

    def ask(self, instances: Sequence[Mapping[str, Any]]) -> Answer:
        """One request."""
        begun = time.perf_counter()
        try:
            answer = self._vertex.post(f"{self.name}:predict", {"instances": list(instances)})
        except ServiceError as error:
            return Answer("", (), time.perf_counter() - begun, str(error))
        predictions = answer.get("predictions", [])
        error = (
            "" if len(predictions) == len(instances) else f"{len(predictions)} answers to {len(instances)} instances"
        )
        return Answer(answer.get("deployedModelId", ""), predictions, time.perf_counter() - begun, error)

    def predict(self, instances: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The answers, in the order of the instances.

        Raises:
            UserError: it refuses or fails a request.
        """
        answers: list[Mapping[str, Any]] = []
        for start in range(0, len(instances), BATCH):
            answer = self.ask(instances[start : start + BATCH])
            if answer.error:
                raise UserError(f"a smoke prediction failed; traffic stays where it was: {answer.error}")
            answers += answer.predictions
        return answers

    def _undeploy(self, id: str, split: Mapping[str, int]) -> None:
        self._vertex.done(
            self._vertex.post(f"{self.name}:undeployModel", {"deployedModelId": id, "trafficSplit": dict(split)})
        )


def scaled(shares: Mapping[str, int], total: int) -> dict[str, int]:
    """Percentages in the same proportion that sum to another total; the largest takes what rounding leaves.

    Args:
        shares: percent by id.
        total: what they are to sum to; where there are none, nothing does.
    """
    whole = sum(shares.values())
    found = {id: share * total // whole for id, share in shares.items()} if whole else dict.fromkeys(shares, 0)
    if whole:
        largest = max(found, key=lambda id: shares[id])
        found[largest] += total - sum(found.values())
    return found


def champion(deployed: Sequence[Deployed], crowned: str) -> Deployed | None:
    """Which of the deployed models counts.

    It is the one with all the traffic: who has it has been promoted, whatever a killed run left unsaid. Where a canary
    was left behind, it is the one with the alias, and failing that the one with the most traffic.

    Args:
        deployed: at one endpoint.
        crowned: the version with the alias `champion`; empty if there is none.

    Returns:
        None where nothing has traffic.
    """
    serving = [each for each in deployed if each.share]
    if any(each.share == 100 for each in serving):
        return next(each for each in serving if each.share == 100)
    aliased = next((each for each in serving if each.version == crowned), None)
    return aliased or max(serving, key=lambda each: each.share, default=None)
