"""Protects the stand-ins for Vertex AI's pre-built prediction images: formats, signatures, and words on mistakes."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from google.api import httpbody_pb2
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import RawPredictRequest

from tests.localvertex.serving.support import Failed, Service

REGISTRY = "us-docker.pkg.dev/vertex-ai/prediction"
TENSORFLOW = f"{REGISTRY}/tf2-cpu.2-15:latest"


def b64(content: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(content).decode()}


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel with a signature of one input, one of several, and one whose output has no rows."""
    tf = pytest.importorskip("tensorflow")

    class Model(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
        def double(self, x: Any) -> Any:
            return {"doubled": 2 * x}

        @tf.function(
            input_signature=[tf.TensorSpec([None], tf.string, "image_bytes"), tf.TensorSpec([None], tf.int64, "size")]
        )
        def look(self, image_bytes: Any, size: Any) -> Any:
            return {"text": tf.strings.upper(image_bytes), "raw_bytes": image_bytes, "larger": size + 1}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
        def total(self, x: Any) -> Any:
            return {"total": tf.reduce_sum(x)}

    model, folder = Model(), tmp_path_factory.mktemp("saved")
    signatures = {"serving_default": model.double, "look": model.look, "total": model.total}
    tf.saved_model.save(model, str(folder), signatures=signatures)
    return folder


@pytest.fixture
def deployed(service: Service) -> Callable[..., str]:
    """Deploys what lies in a folder to an image, from a bucket; returns the endpoint."""

    def deploy(folder: Path, image: str) -> str:
        bucket = service.home.gcs / "models"
        bucket.mkdir(exist_ok=True)
        (bucket / "one").symlink_to(folder)
        model = service.upload(artifact_uri="gs://models/one/", container_spec={"image_uri": image})
        endpoint = service.endpoint()
        service.deploy(endpoint, model)
        return endpoint

    return deploy


def test_a_saved_model_answers_as_tensorflow_serving_does(
    service: Service, saved_model: Path, deployed: Callable[..., str]
) -> None:
    endpoint = deployed(saved_model, TENSORFLOW)

    def predict(*instances: Any, **parameters: Any) -> list[Any]:
        response = service.predict(endpoint, *instances, **parameters)
        answer = type(response).to_dict(response)["predictions"]
        return list(answer)

    def raw(**body: Any) -> Any:
        request = RawPredictRequest(endpoint=endpoint, http_body=httpbody_pb2.HttpBody(data=json.dumps(body).encode()))
        return json.loads(service.prediction.raw_predict(request).data)

    assert predict([1, 2.5], {"x": [3, 4]}) == [[2, 5], [6, 8]]
    rows = [{"image_bytes": b64(b"a\xff"), "size": 1}, {"image_bytes": "plain", "size": 2}]
    expected = [
        {"text": "A\ufffd", "raw_bytes": b64(b"a\xff"), "larger": 2},
        {"text": "PLAIN", "raw_bytes": b64(b"plain"), "larger": 3},
    ]
    assert predict(*rows, signature_name="look") == expected
    assert raw(signature_name="look", instances=rows)["predictions"] == expected
    assert raw(inputs={"x": [[1, 2]]}) == raw(inputs=[[1, 2]]) == {"outputs": [[2, 4]]}
    assert raw(signature_name="total", inputs=[1, 2]) == {"outputs": 3}
    for instances, parameters, message in (
        ([[1, 2, 3]], {}, r"input 'x' must have the shape \(None, 2\), not \(1, 3\)"),
        ([["a", "b"]], {}, "input 'x' is not a tensor of float32"),
        ([[1, 2]], {"signature_name": "none"}, "'none' not found; known are look, serving_default, total"),
        ([{"size": 1}], {"signature_name": "look"}, r"instances\[0\] must be an object with image_bytes, size"),
        ([{"image_bytes": {"b64": "?"}, "size": 1}], {"signature_name": "look"}, "not valid base64"),
        ([1, 2], {"signature_name": "total"}, "output 'total' has no row for each of the 2 instances"),
    ):
        with pytest.raises(exceptions.InvalidArgument, match=message):
            predict(*instances, **parameters)


def test_a_scikit_learn_model_predicts(service: Service, tmp_path: Path, deployed: Callable[..., str]) -> None:
    import joblib
    from sklearn.linear_model import LinearRegression

    features = numpy.arange(8).reshape(4, 2)
    joblib.dump(LinearRegression().fit(features, features.sum(axis=1)), tmp_path / "model.joblib")
    endpoint = deployed(tmp_path, f"{REGISTRY}/sklearn-cpu.1-5:latest")
    assert [round(value, 6) for value in service.predict(endpoint, [1, 2], [3, 4]).predictions] == [3, 7]
    with pytest.raises(exceptions.InvalidArgument, match="3 features"):
        service.predict(endpoint, [1, 2, 3])


def test_what_keeps_a_model_from_being_served_is_said_once(
    service: Service, tmp_path: Path, deployed: Callable[..., str], restarts: Callable[[], Service]
) -> None:
    (tmp_path / "weights").touch()
    for image, message in (
        (TENSORFLOW, r"there is no saved_model.pb in gs://models/one/: the model's artifact_uri must name"),
        (f"{REGISTRY}/sklearn-cpu.1-5:latest", "there is no model.joblib or model.pkl in gs://models/one/"),
        (f"{REGISTRY}/pytorch-gpu.2-2:latest", "stands in for those of TensorFlow and scikit-learn"),
    ):
        with pytest.raises(Failed, match=message) as failed:
            deployed(tmp_path, image)
        (service.home.gcs / "models/one").unlink()
        assert "Traceback" not in str(failed.value)


def test_an_interpreter_without_tensorflow_says_so(restarts: Callable[[], Service], tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    os.chmod(bare, 0o755)
    home = tmp_path / "home"
    (home / "localvertex.toml").write_text(f'[[image]]\npattern = "*/tf2-*"\npython = "{bare}"\n')
    service = restarts()
    (home / "gcs/models").mkdir()
    (home / "gcs/models/saved_model.pb").touch()
    model = service.upload(artifact_uri="gs://models", container_spec={"image_uri": TENSORFLOW})
    with pytest.raises(
        Failed, match=r"has no tensorflow, which serving this model's image needs[\s\S]*localvertex.toml"
    ):
        service.deploy(service.endpoint(), model)
