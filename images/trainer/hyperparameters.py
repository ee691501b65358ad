"""Typed search spaces: a frozen dataclass a system, mapped to Vertex's StudySpec, read from flags or JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from images.executor import UserError
from images.trainer import roles

Value = str | int | float


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of a few names."""

    values: tuple[str, ...]

    def read(self, text: Value) -> str:
        """The value that `text` stands for; raises ValueError when it is not in the space."""
        if text not in self.values:
            raise ValueError(str(self))
        return str(text)

    def spec(self, default: Any) -> dict[str, Any]:
        """The value spec of a Vertex ParameterSpec."""
        return {"categorical_value_spec": {"values": list(self.values), "default_value": default}}

    def __str__(self) -> str:
        return f"one of {', '.join(self.values)}"


@dataclasses.dataclass(frozen=True)
class Discrete:
    """One of a few numbers, in increasing order; whole numbers stay whole."""

    values: tuple[int, ...] | tuple[float, ...]

    def read(self, text: Value) -> int | float:
        """The value that `text` stands for; raises ValueError when it is not in the space."""
        number = _number(text)
        for value in self.values:
            if number == value:
                return value
        raise ValueError(str(self))

    def spec(self, default: Any) -> dict[str, Any]:
        """The value spec of a Vertex ParameterSpec."""
        values = [float(value) for value in self.values]
        return {"discrete_value_spec": {"values": values, "default_value": float(default)}}

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self.values))}"


@dataclasses.dataclass(frozen=True)
class Integer:
    """A whole number between two bounds, both included."""

    low: int
    high: int

    def read(self, text: Value) -> int:
        """The value that `text` stands for; raises ValueError when it is not in the space."""
        number = _number(text)
        if not (number == int(number) and self.low <= number <= self.high):
            raise ValueError(str(self))
        return int(number)

    def spec(self, default: Any) -> dict[str, Any]:
        """The value spec of a Vertex ParameterSpec."""
        bounds = {"min_value": self.low, "max_value": self.high, "default_value": default}
        return {"integer_value_spec": bounds, "scale_type": "UNIT_LINEAR_SCALE"}

    def __str__(self) -> str:
        return f"a whole number from {self.low} to {self.high}"


@dataclasses.dataclass(frozen=True)
class Float:
    """A number between two bounds, both included; `log` searches its order of magnitude evenly."""

    low: float
    high: float
    log: bool = False

    def read(self, text: Value) -> float:
        """The value that `text` stands for; raises ValueError when it is not in the space."""
        number = _number(text)
        if not self.low <= number <= self.high:
            raise ValueError(str(self))
        return number

    def spec(self, default: Any) -> dict[str, Any]:
        """The value spec of a Vertex ParameterSpec."""
        bounds = {"min_value": self.low, "max_value": self.high, "default_value": default}
        return {
            "double_value_spec": bounds,
            "scale_type": "UNIT_LOG_SCALE" if self.log else "UNIT_LINEAR_SCALE",
        }

    def __str__(self) -> str:
        return f"a number from {self.low:g} to {self.high:g}"


Space = Choice | Discrete | Integer | Float


@dataclasses.dataclass(frozen=True)
class When:
    """The condition under which a hyperparameter exists: its parent, a `Choice`, has one of these values."""

    parent: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.parent} is {' or '.join(self.values)}"


def within(space: Space, default: Value, when: When | None = None, searched: bool = True) -> Any:
    """A dataclass field that knows its space.

    Args:
        space: what values it can take.
        default: the known good value, inside `space`.
        when: the condition under which it exists; None: always. A field whose condition does not hold is not
            part of `to_dict`, of a trial's parameters, nor of a hyperparameters file.
        searched: whether tuning tries other values; else it is the default wherever it is not given.
    """
    space.read(default)
    return dataclasses.field(default=default, metadata={"space": space, "when": when, "searched": searched})


def of(system: str) -> type[Any]:
    """The `Hyperparameters` dataclass of a system.

    Raises:
        UserError: there is no such system.
    """
    hyperparameters: type[Any] = roles.load(system, "hyperparameters").Hyperparameters
    return hyperparameters


def given(cls: type[Any], text: str) -> dict[str, Value]:
    """Hyperparameters that a person has decided.

    Args:
        cls: a system's `Hyperparameters`.
        text: words such as `flip=0.5`; one that ends at its `=` decides nothing.

    Raises:
        UserError: a name is unknown, or a value is of the wrong type or out of its space.
    """
    values: dict[str, Value] = {}
    for name, _, value in (word.partition("=") for word in text.split()):
        field = _field(cls, name)
        if value:
            values[name] = _read(field, value)
    return values


def is_searched(cls: type[Any], given: Mapping[str, Value]) -> bool:
    """Whether tuning has something left to search, where some are given."""
    return any(field.metadata["searched"] and field.name not in given for field in dataclasses.fields(cls))


def parameter_specs(cls: type[Any], given: Mapping[str, Value] | None = None) -> list[dict[str, Any]]:
    """The space as Vertex's StudySpec.ParameterSpec messages, as dictionaries with snake_case names.

    Args:
        cls: a system's `Hyperparameters`.
        given: values that are decided: a study, which needs parameters, has no other to choose from.

    Source: cloud.google.com/vertex-ai/docs/reference/rest/v1/StudySpec#ParameterSpec
    """
    specs: dict[str, dict[str, Any]] = {}
    searched = [field for field in dataclasses.fields(cls) if field.metadata["searched"]]
    decided = given or {}
    for field in searched:
        space, value = field.metadata["space"], decided.get(field.name, field.default)
        if field.name in decided:
            space = Choice((value,)) if isinstance(space, Choice) else Discrete((value,))
        spec = {"parameter_id": field.name, **space.spec(value)}
        when: When | None = field.metadata["when"]
        if when is not None and decided.get(when.parent, when.values[0]) not in when.values:
            continue
        specs[field.name] = spec
        if when is not None:
            conditional = {"parent_categorical_values": {"values": list(when.values)}, "parameter_spec": spec}
            specs[when.parent].setdefault("conditional_parameter_specs", []).append(conditional)
    return [specs[field.name] for field in searched if field.metadata["when"] is None]


def parse(cls: type[Any], mapping: Mapping[str, Value]) -> Any:
    """Reads hyperparameters from names and values, such as a trial's flags or a JSON object.

    Args:
        cls: a system's `Hyperparameters`.
        mapping: the hyperparameters that exist under their conditions, all that are searched; numbers may be text.

    Returns:
        An instance of `cls`. Fields whose condition does not hold, and those not searched, keep their default.

    Raises:
        UserError: a name is unknown, missing, or stands where its condition does not hold; or a value has the
            wrong type or is out of its space.
    """
    for name in mapping:
        _field(cls, name)
    values: dict[str, Value] = {}
    for field in dataclasses.fields(cls):
        name = field.name
        space, when = field.metadata["space"], field.metadata["when"]
        exists = when is None or values.get(when.parent) in when.values
        if exists and name not in mapping and field.metadata["searched"]:
            raise UserError(f"hyperparameter {name}: missing; give {space}")
        if not exists and name in mapping:
            raise UserError(f"hyperparameter {name}: only exists when {when}; leave it out")
        if exists and name not in mapping:
            values[name] = field.default
        elif exists:
            values[name] = _read(field, mapping[name])
    return cls(**values)


def to_dict(hyperparameters: Any) -> dict[str, Value]:
    """The hyperparameters that exist under their conditions, by name, in the order of definition."""
    values: dict[str, Value] = {}
    for field in dataclasses.fields(hyperparameters):
        when: When | None = field.metadata["when"]
        if when is None or values.get(when.parent) in when.values:
            values[field.name] = getattr(hyperparameters, field.name)
    return values


def _field(cls: type[Any], name: str) -> dataclasses.Field[Any]:
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if name not in fields:
        raise UserError(f"hyperparameter {name}: no such name{roles.nearest(name, list(fields))}")
    return fields[name]


def _read(field: dataclasses.Field[Any], value: Value) -> Value:
    space: Space = field.metadata["space"]
    try:
        return space.read(value)
    except ValueError:
        raise UserError(f"hyperparameter {field.name}={value}: must be {space}") from None


def _number(value: Value) -> float:
    number = float(str(value))  # By way of text, so that JSON's true is no number.
    if not math.isfinite(number):
        raise ValueError(value)
    return number
