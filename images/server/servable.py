"""A SavedModel that answers JSON instances, whatever its signatures are."""

from __future__ import annotations

import base64
import binascii
import functools
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

DEFAULT_SIGNATURE = "serving_default"
_SHOWN = 40  # characters of a value in a message


class BadRequest(ValueError):
    """What is wrong with a request, in words for the person who sent it."""


class Servable:
    """A loaded SavedModel.

    Each signature takes tensors by name and gives tensors by name; the first axis of all of them counts
    instances.

    Args:
        folder: the SavedModel.

    Raises:
        OSError: there is no SavedModel there.
    """

    def __init__(self, folder: str | Path) -> None:
        self._model = tf.saved_model.load(str(folder))

    def predict(self, instances: Any, parameters: Any = None) -> list[dict[str, Any]]:
        """Answers instances, all of them in one call of the model.

        Args:
            instances: a list of one JSON object an instance, input name -> value. `{"b64": "…"}` stands for
                bytes. A string that the signature only passes through, having an output of the same name, may
                be left out. Where the signature has one other input only, its bare value may stand for the object.
            parameters: a JSON object or None; `signature_name` chooses the signature. Left out, it is the default
                one, or if the first instance does not have its inputs, the first by name whose inputs it has.

        Returns:
            For each instance its outputs by name; bytes that are not text as {"b64": "…"}.

        Raises:
            BadRequest: the first thing that is wrong, with the index of the instance and the name of the
                input.
        """
        if not isinstance(instances, list) or not instances:
            raise BadRequest('"instances" must be a list of at least one instance')
        signature = self._signature(parameters, instances[0])
        specs, passed = _inputs(signature)
        rows = [_row(instance, index, specs, passed) for index, instance in enumerate(instances)]
        inputs = {name: _column(rows, name, spec) for name, spec in specs.items()}
        try:
            outputs = signature(**inputs)
        except tf.errors.InvalidArgumentError as error:
            raise _culprit(signature, inputs, error) from None
        columns = {name: _plain(tensor.numpy()) for name, tensor in sorted(outputs.items())}
        return [{name: column[index] for name, column in columns.items()} for index in range(len(rows))]

    def _signature(self, parameters: Any, instance: Any) -> Any:
        if parameters is None:
            parameters = {}
        if not isinstance(parameters, dict):
            raise BadRequest('"parameters" must be an object')
        names = sorted(self._model.signatures, key=lambda name: (name != DEFAULT_SIGNATURE, name))
        fitting = (name for name in names if _fits(instance, *_inputs(self._model.signatures[name])))
        name = parameters.get("signature_name") or next(fitting, DEFAULT_SIGNATURE)
        if name not in names:
            raise BadRequest(f"no signature {name!r}; there are {', '.join(sorted(names))}")
        return self._model.signatures[name]


def _inputs(signature: Any) -> tuple[Mapping[str, tf.TensorSpec], Set[str]]:
    """A signature's inputs by name, and those that it only passes through."""
    specs = signature.structured_input_signature[1]
    return specs, {
        name for name, spec in specs.items() if spec.dtype == tf.string and name in signature.structured_outputs
    }


def _fits(instance: Any, specs: Mapping[str, tf.TensorSpec], passed: Set[str]) -> bool:
    """Whether an instance has a signature's inputs; the values of named ones are not looked at."""
    if _is_bare(instance):
        read = [spec for name, spec in specs.items() if name not in passed]
        if len(read) != 1 or isinstance(instance, list) != (read[0].shape.rank != 1):
            return False
        return isinstance(instance, list) or isinstance(instance, str | dict) == (read[0].dtype == tf.string)
    return specs.keys() - passed <= instance.keys() <= specs.keys()


def _is_bare(instance: Any) -> bool:
    """Whether it is the value of an input rather than an object of values by name."""
    return not isinstance(instance, dict) or set(instance) == {"b64"}


def _row(instance: Any, index: int, specs: Mapping[str, tf.TensorSpec], passed: Set[str]) -> dict[str, Any]:
    """One instance's values by the name of the input; those only passed through may be missing."""
    read = [name for name in specs if name not in passed]
    if len(read) == 1 and _is_bare(instance):
        instance = {read[0]: instance}
    if not isinstance(instance, dict):
        raise BadRequest(f"instance {index}: must be an object with {_names(specs)}")
    for name in instance:
        if name not in specs:
            raise BadRequest(f"instance {index}: no input {name!r}; the inputs are {_names(specs)}")
    for name in sorted(specs):
        if name not in instance and name not in passed:
            raise BadRequest(f"instance {index}: input {name!r} is missing; the inputs are {_names(specs)}")
    return {name: _value(instance.get(name, ""), index, name, spec) for name, spec in specs.items()}


def _value(given: Any, index: int, name: str, spec: tf.TensorSpec) -> Any:
    value = _decoded(given, index, name)
    array = np.asarray(value, dtype=object)
    if not spec.shape[1:].is_compatible_with(array.shape):
        raise BadRequest(f"instance {index}, input {name!r}: shape {array.shape}, needs {tuple(spec.shape[1:])}")
    wanted = (bytes, str) if spec.dtype == tf.string else (bool,) if spec.dtype == tf.bool else (int, float)
    for element in array.flat:
        if not isinstance(element, wanted) or (isinstance(element, bool) and spec.dtype != tf.bool):
            raise BadRequest(f"instance {index}, input {name!r}: needs {_kind(spec.dtype)}, got {_json_kind(element)}")
        if isinstance(element, int | float) and not _lowest(spec.dtype) <= element <= _highest(spec.dtype):
            got = str(element)[:_SHOWN]
            raise BadRequest(f"instance {index}, input {name!r}: needs a number that fits {spec.dtype.name}, got {got}")
        if spec.dtype.is_integer and element != int(element):
            raise BadRequest(f"instance {index}, input {name!r}: needs {_kind(spec.dtype)}, got {element}")
    return value


@functools.cache
def _lowest(dtype: tf.DType) -> float:
    return int(dtype.min) if dtype.is_integer else float(dtype.min)  # NumPy's own refuse to be compared with 10**400.


@functools.cache
def _highest(dtype: tf.DType) -> float:
    return int(dtype.max) if dtype.is_integer else float(dtype.max)


def _decoded(value: Any, index: int, name: str) -> Any:
    """The value with every {"b64": …} in it as bytes."""
    if isinstance(value, list):
        return [_decoded(part, index, name) for part in value]
    if isinstance(value, dict) and set(value) == {"b64"}:
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, ValueError, TypeError):
            raise BadRequest(f"instance {index}, input {name!r}: not base64") from None
    return value


def _column(rows: Sequence[Mapping[str, Any]], name: str, spec: tf.TensorSpec) -> tf.Tensor:
    """One input of all instances as a tensor."""
    try:
        return tf.constant([row[name] for row in rows], dtype=spec.dtype)
    except (ValueError, TypeError, OverflowError):
        raise BadRequest(f"input {name!r}: the instances differ in shape, or a number is out of range") from None


def _culprit(signature: Any, inputs: Mapping[str, tf.Tensor], error: tf.errors.OpError) -> BadRequest:
    """Finds the instance that the model cannot take, for the sake of the message."""
    for index in range(len(next(iter(inputs.values())))):
        try:
            signature(**{name: tensor[index : index + 1] for name, tensor in inputs.items()})
        except tf.errors.InvalidArgumentError as alone:
            return BadRequest(f"instance {index}: {_first_line(alone)}")
    return BadRequest(_first_line(error))


def _first_line(error: tf.errors.OpError) -> str:
    """TensorFlow's message without where in the graph it arose."""
    where = ("Graph execution error", "Detected at node", "<stack traces", "[[")
    lines = [line.strip() for line in str(error.message).splitlines()]
    said = (line.split("[[{{")[0].strip() for line in lines if line and not line.startswith(where))
    return next(said, "the model refuses it")


def _plain(array: np.ndarray) -> list[Any]:
    """An array as JSON values."""
    if array.dtype != object:
        return array.tolist()
    return [_plain(part) if isinstance(part, np.ndarray) else _text(part) for part in array]


def _text(value: bytes) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def _names(specs: Mapping[str, tf.TensorSpec]) -> str:
    return ", ".join(sorted(specs))


def _kind(dtype: tf.DType) -> str:
    if dtype == tf.string:
        return 'a string or {"b64": bytes}'
    return "true or false" if dtype == tf.bool else "a whole number" if dtype.is_integer else "a number"


def _json_kind(value: Any) -> str:
    kinds = {str: "a string", bytes: "bytes", bool: "true or false", dict: "an object", list: "a list"}
    return "null" if value is None else kinds.get(type(value), "a number")
