"""Deploy: a new version of a model takes over an endpoint's traffic once it answers as it did at export.

A prediction cannot be addressed to one of an endpoint's models: traffic decides. So the version is first
tried at an endpoint of its own, `<endpoint>-candidate`, which nobody else asks and which is gone at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from images import executor
from images.executor import ExecutorOutput, UserError
from images.launcher import api

HEALTH_ROUTE, PREDICT_ROUTE, PORT = "/health", "/predict", 8080
TOLERANCE = 0.01
"""By how much a confidence may differ from export's: another processor sums in another order."""

BATCH = 8
"""Instances a request: Vertex AI takes 1.5 MB at most."""

DEPLOY_TIMEOUT = 3600.0
CALL_TIMEOUT = 600.0
"""Seconds that an operation of the service may take: those that start machines, and the others."""


def deploy(
    vertex: Vertex,
    model_name: str,
    endpoint_name: str,
    saved_model_uri: str,
    serving_image: str,
    machine_type: str,
    samples: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, float],
) -> tuple[str, str, list[dict[str, Any]]]:
    """Uploads, tries, and moves the traffic; what an earlier attempt has already done is not done again.

    Args:
        vertex: the services.
        model_name: display name in the Model Registry.
        endpoint_name: display name of the endpoint.
        saved_model_uri: gs:// folder of the SavedModel.
        serving_image: container image that answers predictions.
        machine_type: that it runs on.
        samples: lines of `smoke.jsonl`.
        metrics: scores to note on the version.

    Returns:
        The version's resource name with `@version`, the endpoint's resource name, and the rows
        `{"truth", "answer", "confidence"}` of the samples.

    Raises:
        UserError: the version does not answer as expected. Traffic is where it was.
    """
    version = vertex.version(model_name, saved_model_uri, serving_image, metrics)
    print(f"model {version}")
    print(f"trying it with {len(samples)} smoke predictions")
    with vertex.candidate(f"{endpoint_name}-candidate") as candidate:
        vertex.deploy(candidate, version, machine_type, {"0": 100})
        answers = vertex.predict(candidate, [sample["instance"] for sample in samples])
        wrong = disagreements(samples, answers)
        if wrong:
            raise UserError(
                f"{len(wrong)} of {len(samples)} smoke predictions of {version} are not what export saw; "
                f"{endpoint_name} keeps its traffic where it was. First: {wrong[0]}"
            )
    print("all as expected; moving the traffic")
    endpoint = vertex.endpoint(endpoint_name) or vertex.create_endpoint(endpoint_name)
    vertex.take_over(endpoint, version, machine_type)
    vertex.make_default(version)
    print(f"endpoint {endpoint}")
    rows = [
        {"truth": sample["truth"], "answer": answer[sample["answer"]], "confidence": answer["confidence"]}
        for sample, answer in zip(samples, answers, strict=True)
    ]
    return version, endpoint, rows


def disagreements(samples: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where answers are not what export saw: another answer, or a confidence further off than `TOLERANCE`."""
    wrong = []
    for sample, given in zip(samples, answers, strict=True):
        name, expected = sample["answer"], sample["expected"]
        same = given.get(name) == expected[name]
        if not (same and math.isclose(given["confidence"], expected["confidence"], abs_tol=TOLERANCE)):
            wrong.append(
                f"{sample['instance'].get('key', '?')}: answered {given.get(name)!r} "
                f"({given.get('confidence')}), expected {expected[name]!r} ({expected['confidence']})"
            )
    return wrong


def labels(metrics: Mapping[str, float]) -> dict[str, str]:
    """Scores as labels, which hold small letters, digits, dashes and underscores: 0.0312 is `0_0312`."""
    return {
        re.sub(r"[^a-z0-9_-]", "_", name.lower())[:63]: re.sub(r"[^a-z0-9_-]", "_", f"{value:.4f}")[:63]
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


class Vertex:
    """Model Registry, endpoints and predictions of one project and region.

    Args:
        project: Google Cloud project.
        location: region.
    """

    def __init__(self, project: str, location: str) -> None:
        from google.cloud import aiplatform_v1

        self._parent = f"projects/{project}/locations/{location}"
        self._models = api.client(aiplatform_v1.ModelServiceClient, location)
        self._endpoints = api.client(aiplatform_v1.EndpointServiceClient, location)
        self._predictions = api.client(aiplatform_v1.PredictionServiceClient, location)

    def version(self, name: str, artifact_uri: str, image: str, metrics: Mapping[str, float]) -> str:
        """The version with this SavedModel and image, uploaded if there is none; `<model>@<version>`.

        Args:
            name: display name of the model. If there is such a model the upload is a new version of it.
            artifact_uri: gs:// folder of the SavedModel.
            image: container image that answers predictions.
            metrics: scores to note on a new version.
        """
        request = {"parent": self._parent, "filter": f'display_name="{name}"'}
        found = [model for model in self._models.list_models(request=request) if model.display_name == name]
        parent_model = found[0].name.partition("@")[0] if found else ""
        versions: Iterable[Any] = self._models.list_model_versions(name=parent_model) if parent_model else ()
        for version in versions:
            if version.artifact_uri == artifact_uri and version.container_spec.image_uri == image:
                return f"{version.name.partition('@')[0]}@{version.version_id}"
        model = {
            "display_name": name,
            "artifact_uri": artifact_uri,
            "labels": labels(metrics),
            "container_spec": {
                "image_uri": image,
                "health_route": HEALTH_ROUTE,
                "predict_route": PREDICT_ROUTE,
                "ports": [{"container_port": PORT}],
            },
        }
        upload = {"parent": self._parent, "parent_model": parent_model, "model": model}
        done = self._models.upload_model(request=upload).result(timeout=CALL_TIMEOUT)
        return f"{done.model.partition('@')[0]}@{done.model_version_id}"

    def endpoint(self, name: str) -> str | None:
        """The resource name of the endpoint with this display name."""
        request = {"parent": self._parent, "filter": f'display_name="{name}"'}
        found = (endpoint for endpoint in self._endpoints.list_endpoints(request=request))
        return next((endpoint.name for endpoint in found if endpoint.display_name == name), None)

    def create_endpoint(self, name: str) -> str:
        """Makes an endpoint with this display name."""
        request = {"parent": self._parent, "endpoint": {"display_name": name}}
        operation = self._endpoints.create_endpoint(request=request)
        return str(operation.result(timeout=CALL_TIMEOUT).name)

    @contextlib.contextmanager
    def candidate(self, name: str) -> Iterator[str]:
        """An endpoint for the time of a trial; one that a killed attempt left behind is removed first."""
        while left_over := self.endpoint(name):
            self._delete(left_over)
        endpoint = self.create_endpoint(name)
        try:
            with api.on_cancel(lambda: self._delete(endpoint)):
                yield endpoint
        finally:
            if self.endpoint(name) == endpoint:
                self._delete(endpoint)

    def deploy(self, endpoint: str, version: str, machine_type: str, traffic: Mapping[str, int]) -> None:
        """Starts a version at an endpoint and waits until it answers.

        Args:
            endpoint: resource name.
            version: `<model>@<version>`.
            machine_type: Compute Engine machine.
            traffic: percent by deployed model; `0` stands for the new one.

        Raises:
            UserError: it does not start.
        """
        from google.api_core.exceptions import GoogleAPICallError

        resources = {
            "machine_spec": {"machine_type": machine_type},
            "min_replica_count": 1,
            "max_replica_count": 1,
        }
        deployed = {
            "model": version,
            "display_name": version.rpartition("/")[2],
            "dedicated_resources": resources,
        }
        request = {"endpoint": endpoint, "deployed_model": deployed, "traffic_split": dict(traffic)}
        try:
            self._endpoints.deploy_model(request=request).result(timeout=DEPLOY_TIMEOUT)
        except GoogleAPICallError as error:
            raise UserError(f"{version} does not start; traffic stays where it was: {error.message}") from error

    def take_over(self, endpoint: str, version: str, machine_type: str) -> None:
        """Starts a version beside the present one, gives it all traffic in one update, stops the others."""
        if version not in self._deployed(endpoint).values():
            present = dict(self._endpoints.get_endpoint(name=endpoint).traffic_split)
            self.deploy(endpoint, version, machine_type, {**present, "0": 0} if present else {"0": 100})
        deployed = self._deployed(endpoint)
        chosen = next(key for key, model in deployed.items() if model == version)
        traffic = {key: 100 if key == chosen else 0 for key in deployed}
        request = {
            "endpoint": {"name": endpoint, "traffic_split": traffic},
            "update_mask": {"paths": ["traffic_split"]},
        }
        self._endpoints.update_endpoint(request=request)
        for key in deployed:
            if key != chosen:
                self._undeploy(endpoint, key, {chosen: 100})

    def make_default(self, version: str) -> None:
        """Makes a version the one that the model's bare name stands for."""
        self._models.merge_version_aliases(name=version, version_aliases=["default"])

    def predict(self, endpoint: str, instances: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The endpoint's answers, in the order of the instances.

        Raises:
            UserError: it refuses or fails a request.
        """
        from google.api_core.exceptions import GoogleAPICallError
        from google.protobuf import json_format, struct_pb2

        answers: list[dict[str, Any]] = []
        for start in range(0, len(instances), BATCH):
            values = [
                json_format.ParseDict(dict(entry), struct_pb2.Value()) for entry in instances[start : start + BATCH]
            ]
            try:
                response = self._predictions.predict(endpoint=endpoint, instances=values, timeout=CALL_TIMEOUT)
            except GoogleAPICallError as error:
                raise UserError(f"a smoke prediction failed; traffic stays where it was: {error.message}") from error
            answers += json_format.MessageToDict(type(response).pb(response))["predictions"]
        return answers

    def _deployed(self, endpoint: str) -> dict[str, str]:
        """`<model>@<version>` by id of the deployed model."""
        found = self._endpoints.get_endpoint(name=endpoint).deployed_models
        return {entry.id: f"{entry.model.partition('@')[0]}@{entry.model_version_id}" for entry in found}

    def _undeploy(self, endpoint: str, deployed_model: str, traffic: Mapping[str, int]) -> None:
        request = {"endpoint": endpoint, "deployed_model_id": deployed_model, "traffic_split": dict(traffic)}
        self._endpoints.undeploy_model(request=request).result(timeout=CALL_TIMEOUT)

    def _delete(self, endpoint: str) -> None:
        for deployed_model in self._deployed(endpoint):
            self._undeploy(endpoint, deployed_model, {})
        self._endpoints.delete_endpoint(name=endpoint).result(timeout=CALL_TIMEOUT)


def read_samples(folder: str) -> list[dict[str, Any]]:
    """Reads `smoke.jsonl`.

    Raises:
        UserError: it is missing, or holds nothing to try.
    """
    path = Path(folder) / "smoke.jsonl"
    try:
        samples = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"--smoke={folder}: cannot read smoke.jsonl ({error})") from None
    if not samples:
        raise UserError(f"--smoke={folder}: smoke.jsonl is empty; a version is not deployed untried")
    return samples


def read_metrics(file: str) -> dict[str, float]:
    """Reads evaluate's metrics.

    Raises:
        UserError: no JSON object.
    """
    try:
        metrics = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--metrics={file}: cannot be read ({error})") from None
    if not isinstance(metrics, dict):
        raise UserError(f"--metrics={file}: must be one JSON object of names and numbers")
    return metrics


def main(argv: Sequence[str]) -> None:
    """The command line; `--help` lists the flags."""
    parser = argparse.ArgumentParser(prog="python -m images.launcher.deploy", description=__doc__, allow_abbrev=False)
    parser.add_argument("--project", required=True)
    parser.add_argument("--location", required=True)
    parser.add_argument("--model_name", required=True, help="display name in the Model Registry")
    parser.add_argument("--endpoint_name", required=True, help="display name of the endpoint")
    parser.add_argument("--serving_image", required=True, help="container image that answers predictions")
    parser.add_argument("--machine_type", required=True, help="Compute Engine machine that answers predictions")
    parser.add_argument("--saved_model_uri", required=True, help="gs:// folder that export wrote")
    parser.add_argument("--smoke", required=True, help="folder with smoke.jsonl, that export wrote")
    parser.add_argument("--metrics", required=True, help="JSON that evaluate wrote")
    parser.add_argument("--predictions", required=True, help="JSON file to write")
    parser.add_argument("--executor_input", help="KFP's ExecutorInput; leave it out by hand")
    flags = parser.parse_args(argv)
    logged = ExecutorOutput(flags.executor_input)
    samples, metrics = read_samples(flags.smoke), read_metrics(flags.metrics)
    version, endpoint, rows = deploy(
        Vertex(flags.project, flags.location),
        model_name=flags.model_name,
        endpoint_name=flags.endpoint_name,
        saved_model_uri=flags.saved_model_uri,
        serving_image=flags.serving_image,
        machine_type=flags.machine_type,
        samples=samples,
        metrics=metrics,
    )
    with executor.whole(flags.predictions) as aside:
        aside.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    service = f"https://{api.host(flags.location)}/v1"
    logged.log("model", uri=f"{service}/{version}", resourceName=version)
    logged.log("endpoint", uri=f"{service}/{endpoint}", resourceName=endpoint)
    logged.log("predictions", digest=executor.digest(flags.predictions))
    logged.write()


if __name__ == "__main__":
    executor.run(main)
