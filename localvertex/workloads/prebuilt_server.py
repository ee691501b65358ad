"""Stands in for Vertex AI's pre-built prediction images: serves a TensorFlow SavedModel or a scikit-learn model.

Run as a script by the interpreter that the image table names, so it needs the standard library and the framework only:

    prebuilt_server.py tensorflow|sklearn

Sources: https://cloud.google.com/vertex-ai/docs/predictions/pre-built-containers,
https://cloud.google.com/vertex-ai/docs/training/exporting-model-artifacts, https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_DEFAULT_SIGNATURE = "serving_default"
_BINARY = "_bytes"
_SKLEARN_FILES = ("model.joblib", "model.pkl")

Answer = Callable[[dict[str, Any]], dict[str, Any]]


class RequestError(Exception):
    """A request that cannot be answered; the message says what is wrong with it."""


def main(framework: str) -> None:
    """Load the model, then serve it until the process is ended."""
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [folder for folder in sys.path if folder != here]  # no module beside this one is meant by an import
    handler = type("Handler", (_Handler,), {"answer": staticmethod(LOADERS[framework](_folder()))})
    _Server(("127.0.0.1", int(os.environ["AIP_HTTP_PORT"])), handler).serve_forever()


def _folder() -> Path:
    uri = os.environ.get("AIP_STORAGE_URI", "")
    if not uri:
        raise SystemExit("error: the model has no artifact_uri, and a pre-built image serves nothing else.")
    if not uri.startswith("gs://"):
        raise SystemExit(f"error: the model's artifact_uri {uri} is not a gs:// URI.")
    folder = Path(os.environ["LOCALVERTEX_GCS_MOUNT"], *uri[len("gs://") :].strip("/").split("/"))
    if not folder.is_dir():
        raise SystemExit(f"error: the model's artifact_uri {uri} is not a folder in a bucket.")
    return folder


def load_tensorflow(folder: Path) -> Answer:
    """A SavedModel, which answers in TensorFlow Serving's row and column formats."""
    if not (folder / "saved_model.pb").is_file():
        raise SystemExit(
            f"error: there is no saved_model.pb in {os.environ['AIP_STORAGE_URI']}: "
            "the model's artifact_uri must name the folder that holds it."
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import tensorflow
    except ImportError as error:
        raise _missing("tensorflow") from error
    model = tensorflow.saved_model.load(str(folder))

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        given = body.get("signature_name") or (body.get("parameters") or {}).get("signature_name")
        signature = model.signatures.get(given or _DEFAULT_SIGNATURE)
        if signature is None:
            known = ", ".join(sorted(model.signatures))
            raise RequestError(f"Serving signature name {given or _DEFAULT_SIGNATURE!r} not found; known are {known}.")
        inputs = signature.structured_input_signature[1]
        by_row = "instances" in body
        columns = _columns_of_rows(_instances(body), inputs) if by_row else _columns(body.get("inputs"), inputs)
        tensors = {name: _tensor(tensorflow, name, columns[name], spec) for name, spec in inputs.items()}
        try:
            outputs = {name: _plain(name, tensor) for name, tensor in signature(**tensors).items()}
        except (tensorflow.errors.OpError, ValueError) as error:
            raise RequestError(str(getattr(error, "message", error))) from error
        if not by_row:
            return {"outputs": next(iter(outputs.values())) if len(outputs) == 1 else outputs}
        return {"predictions": _rows(outputs, len(body["instances"]))}

    return answer


def load_sklearn(folder: Path) -> Answer:
    """A scikit-learn estimator in `model.joblib` or `model.pkl`."""
    file = next((folder / name for name in _SKLEARN_FILES if (folder / name).is_file()), None)
    if file is None:
        raise SystemExit(f"error: there is no {' or '.join(_SKLEARN_FILES)} in {os.environ['AIP_STORAGE_URI']}.")
    try:
        import joblib
        import sklearn  # noqa: F401
    except ImportError as error:
        raise _missing("scikit-learn") from error
    model = joblib.load(file)

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"predictions": model.predict(_instances(body)).tolist()}
        except ValueError as error:
            raise RequestError(str(error)) from error

    return answer


LOADERS: dict[str, Callable[[Path], Answer]] = {"tensorflow": load_tensorflow, "sklearn": load_sklearn}


def _missing(package: str) -> SystemExit:
    return SystemExit(
        f"error: {sys.executable} has no {package}, which serving this model's image needs. Install it there, or name "
        "an interpreter that has it: `python` of the image's entry in localvertex.toml."
    )


def _instances(body: Mapping[str, Any]) -> list[Any]:
    instances = body.get("instances")
    if not isinstance(instances, list) or not instances:
        raise RequestError("instances: a list of at least one instance is required.")
    return instances


def _columns_of_rows(rows: Sequence[Any], inputs: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The values of each input; rows are objects by input name, or plain values where there is one input only."""
    if len(inputs) == 1:
        (name,) = inputs
        return {name: [row[name] if _names(row, inputs) else row for row in rows]}
    for number, row in enumerate(rows):
        if not _names(row, inputs):
            raise RequestError(f"instances[{number}] must be an object with {', '.join(sorted(inputs))}.")
    return {name: [row[name] for row in rows] for name in inputs}


def _columns(given: Any, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    if len(inputs) == 1 and not _names(given, inputs):
        return {name: given for name in inputs}
    if not _names(given, inputs):
        raise RequestError(f"inputs must be an object with {', '.join(sorted(inputs))}.")
    columns: Mapping[str, Any] = given
    return columns


def _names(value: Any, inputs: Mapping[str, Any]) -> bool:
    return isinstance(value, dict) and set(value) == set(inputs)


def _tensor(tensorflow: Any, name: str, values: Any, spec: Any) -> Any:
    try:
        tensor = tensorflow.constant(_decoded(values), dtype=spec.dtype)
    except (ValueError, TypeError) as error:
        raise RequestError(f"input {name!r} is not a tensor of {spec.dtype.name}: {error}") from error
    if not spec.shape.is_compatible_with(tensor.shape):
        raise RequestError(f"input {name!r} must have the shape {spec.shape}, not {tensor.shape}.")
    return tensor


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if isinstance(value, dict) and set(value) == {"b64"}:
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, TypeError) as error:
            raise RequestError(f"b64: not valid base64: {error}") from error
    return value


def _plain(name: str, tensor: Any) -> Any:
    if tensor.dtype.name == "bfloat16":
        tensor = tensor.numpy().astype("float32")
    values = tensor.numpy() if hasattr(tensor, "numpy") else tensor
    return _text(values.tolist() if hasattr(values, "tolist") else values, binary=name.endswith(_BINARY))


def _text(value: Any, *, binary: bool) -> Any:
    if isinstance(value, list):
        return [_text(item, binary=binary) for item in value]
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()} if binary else value.decode(errors="replace")
    return value


def _rows(outputs: Mapping[str, Any], count: int) -> list[Any]:
    for name, values in outputs.items():
        if not isinstance(values, list) or len(values) != count:
            raise RequestError(f"output {name!r} has no row for each of the {count} instances; send them as inputs.")
    if len(outputs) == 1:
        return list(next(iter(outputs.values())))
    return [{name: values[row] for name, values in outputs.items()} for row in range(count)]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    answer: Answer

    def do_GET(self) -> None:
        """The health of the server, which is there only once its model is."""
        self._send(200 if self.path == os.environ["AIP_HEALTH_ROUTE"] else 404, {})

    def do_POST(self) -> None:
        """Predictions."""
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != os.environ["AIP_PREDICT_ROUTE"]:
            return self._send(404, {"error": f"There is nothing at {self.path}."})
        try:
            body = json.loads(content)
            if not isinstance(body, dict):
                raise RequestError("The request is not a JSON object.")
            self._send(200, self.answer(body))
        except RequestError as error:
            self._send(400, {"error": str(error)})
        except ValueError as error:
            self._send(400, {"error": f"The request is not valid JSON: {error}"})
        except Exception as error:
            self._send(500, {"error": repr(error)})
            raise

    def _send(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Requests are not logged, problems are."""


if __name__ == "__main__":
    main(sys.argv[1])
