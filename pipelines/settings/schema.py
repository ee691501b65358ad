"""The form of the settings files, and the check of a run's parameters against the pipeline's own."""

from __future__ import annotations

import datetime
import difflib
import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pydantic
import yaml
from pydantic import ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from pipelines import UserError
from pipelines.settings.accelerators import Accelerator, Table
from pipelines.settings.schedule import Count, Schedule

FOLDER = Path(__file__).parent
OF_ALL_ENVIRONMENTS = ("build", "prices", "accelerators")

Form = TypeVar("Form", bound=pydantic.BaseModel)


class Build(pydantic.BaseModel):
    """What the compiled pipelines contain, so that it is the same JSON in every environment.

    Attributes:
        registry: Artifact Registry repository of the images: part of each image's name, hence of the JSON.
        replicas: machines that train together. CustomJob has other worker pools for one than for more.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    registry: Annotated[StrictStr, Field(pattern=r"^[a-z0-9.:-]+(/[a-z0-9._-]+)+$")]
    replicas: Annotated[StrictInt, Field(ge=1)] = 1


Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PositivePrice = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Retention(pydantic.BaseModel):
    """What `make prune` keeps of each pipeline, beside all that something in use leans on.

    Attributes:
        keep_runs: newest runs that succeeded.
        keep_versions: newest versions of the model.
        keep_days: whatever is younger is kept.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    keep_runs: Annotated[StrictInt, Field(ge=0)] = 10
    keep_versions: Count = 5
    keep_days: Annotated[StrictInt | StrictFloat, Field(ge=0, allow_inf_nan=False)] = 30


class Environment(pydantic.BaseModel):
    """Where pipelines are run, and with which parameters.

    Attributes:
        project: Google Cloud project id.
        location: region, such as `europe-west4`.
        bucket: Cloud Storage bucket for data and for what the pipelines make; without `gs://`.
        pipelines: parameters by pipeline.
        schedules: by pipeline; `make schedule` brings them to the service.
        max_cost: US dollars by pipeline; a run that may cost more is not submitted.
        max_tune_cost: US dollars by pipeline; tuning ends with the best so far when its trials have cost that much.
        retention: what `make prune` keeps.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    project: Annotated[StrictStr, Field(min_length=1)]
    location: Annotated[StrictStr, Field(pattern=r"^[a-z]+-[a-z]+\d+$")]
    bucket: Annotated[StrictStr, Field(pattern=r"^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$")]
    pipelines: dict[str, dict[str, Any]]
    schedules: dict[str, tuple[Schedule, ...]] = {}
    max_cost: dict[str, Price] = {}
    max_tune_cost: dict[str, PositivePrice] = {}
    retention: Retention = Retention()

    @pydantic.field_validator("schedules")
    @classmethod
    def _have_names_of_their_own(cls, schedules: dict[str, tuple[Schedule, ...]]) -> dict[str, tuple[Schedule, ...]]:
        for pipeline, listed in schedules.items():
            names = [schedule.name for schedule in listed]
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"{pipeline} has two schedules named {name}")
        return schedules


INNER: Mapping[str, type[pydantic.BaseModel]] = {"schedules": Schedule, "retention": Retention}
"""What the settings of an environment hold that has settings of its own."""


class Prices(pydantic.BaseModel):
    """What machines cost.

    Attributes:
        source: the page that says so.
        date: when it did.
        run: US dollars for each run of a pipeline.
        machines: US dollars an hour by Compute Engine machine type.
        accelerators: US dollars an hour for one, by type.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: StrictStr
    date: datetime.date
    run: Price = 0.0
    machines: dict[str, Price]
    accelerators: dict[str, Price]

    def hourly(self, machine_type: str, accelerator_type: str = "", accelerator_count: int = 0) -> float | None:
        """US dollars an hour of one machine with its accelerators; None if the table does not know one of them."""
        machine = self.machines.get(machine_type)
        accelerator = self.accelerators.get(accelerator_type) if accelerator_count else 0.0
        return None if machine is None or accelerator is None else machine + accelerator_count * accelerator


TYPES: Mapping[str, Any] = {
    "STRING": StrictStr,
    "NUMBER_INTEGER": StrictInt,
    "NUMBER_DOUBLE": StrictFloat | StrictInt,
    "BOOLEAN": StrictBool,
    "LIST": list[Any],
    "STRUCT": dict[str, Any],
}
"""Python types of KFP's ParameterType."""

WORDS: Mapping[str, str] = {
    "STRING": "text",
    "NUMBER_INTEGER": "a whole number",
    "NUMBER_DOUBLE": "a number",
    "BOOLEAN": "true or false",
    "LIST": "a JSON list",
    "STRUCT": "a JSON object",
}

POSITIVE = Field(ge=1)
BOUNDS: Mapping[str, Any] = {
    "image_height": POSITIVE,
    "image_width": POSITIVE,
    "max_reject_share": Field(ge=0, le=1),
    "max_trials": POSITIVE,
    "parallel_trials": POSITIVE,
    "trial_epochs": POSITIVE,
    "trial_examples": POSITIVE,
    "tune_budget": Field(ge=0),
    "train_epochs": POSITIVE,
    "train_steps": POSITIVE,
    "classic_steps": POSITIVE,
    "seeds": POSITIVE,
    "patience": POSITIVE,
    "faces_only": Field(pattern="^(true|false)$"),
    "learning_rate": Field(pattern=r"^(\d*\.?\d+(e-?\d+)?)?$"),
    "batch_size": POSITIVE,
    "optimizer": Field(pattern="^(adamw|momentum|rmsprop)$"),
    "schedule": Field(pattern="^(cosine|exponential|constant)$"),
    "width": POSITIVE,
    "depth": POSITIVE,
    "zoom": Field(ge=1),
    "stretch": Field(ge=0),
    "flip": Field(ge=0, le=1),
    "colour": Field(ge=0, le=1),
    "nms_iou": Field(gt=0, lt=1),
    "follow_machine_type": Field(min_length=1),
    "fold_epochs": POSITIVE,
    "skew_threshold": Field(ge=0, le=1),
    "most_requests": POSITIVE,
    "seed": Field(ge=0),
    "machine_type": Field(min_length=1),
    "accelerator_count": Field(ge=0),
    "tpu_topology": Field(pattern=r"^(\d+x\d+(x\d+)?)?$"),
    "image_suffix": Field(pattern=r"^(-[a-z]+)?$"),
    "keras_backend": Field(pattern="^(tensorflow|jax)$"),
    "tutorial_steps": POSITIVE,
    "timeout": Field(pattern=r"^[1-9]\d*s$"),
    "strategy": Field(pattern="^(STANDARD|SPOT|FLEX_START)$"),
    "serving_machine_type": Field(min_length=1),
    "highest_error": Field(ge=0),
    "margin": Field(ge=0),
    "slice_margin": Field(ge=0),
    "level": Field(gt=0, lt=0.5),
    "canary_share": Field(ge=1, le=99),
    "logged_share": Field(ge=0, le=1),
    "webhook": Field(pattern="^(https?://.+)?$"),
    "model_name": Field(min_length=1, max_length=128),
    "endpoint_name": Field(min_length=1, max_length=118),
}
"""What holds for parameters of these names in every pipeline, beyond their type."""


def build() -> Build:
    """Reads `build.yaml`.

    Raises:
        UserError: it is not as it should be.
    """
    return _read(FOLDER / "build.yaml", Build)


def prices(folder: Path = FOLDER) -> Prices:
    """Reads `prices.yaml`.

    Raises:
        UserError: it is not as it should be.
    """
    return _read(folder / "prices.yaml", Prices)


def accelerators(folder: Path = FOLDER) -> Mapping[str, Accelerator]:
    """Reads `accelerators.yaml`.

    Raises:
        UserError: it is not as it should be.
    """
    return _read(folder / "accelerators.yaml", Table).root


def environment(name: str, folder: Path = FOLDER) -> Environment:
    """Reads the settings of an environment.

    Args:
        name: of a file in `pipelines/settings`, without `.yaml`.
        folder: where that file is.

    Raises:
        UserError: it is missing, no YAML, or a key in it is missing, unknown or of the wrong type.
    """
    return _read(folder / f"{name}.yaml", Environment)


def parameters(
    interface: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Any],
    arguments: str = "",
    given: Mapping[str, Any] | None = None,
    origin: str = "settings",
) -> dict[str, Any]:
    """The parameters of a run, checked against what the pipeline takes.

    Args:
        interface: the pipeline's `inputDefinitions.parameters`, from its compiled JSON.
        settings: from the environment's file.
        arguments: overrides of a person, such as `max_trials=2 train_epochs=5`; quoted as in a shell.
        given: values that the caller provides, such as the source; nobody else may.
        origin: of the settings, for messages.

    Raises:
        UserError: names the first parameter that is unknown, missing, mistyped or out of bounds.
    """
    given = given or {}
    overrides = _parse(arguments, interface, reserved=given)
    for name in settings:
        _known(name, interface, reserved=given, origin=origin)
    values = {**settings, **overrides, **given}
    required = {
        name for name, entry in interface.items() if "defaultValue" not in entry and not entry.get("isOptional")
    }
    for name in interface:
        if name in required and name not in values:
            raise UserError(f"{origin}: {name} is missing; give {WORDS[interface[name]['parameterType']]}")
    for name, value in values.items():
        _check(name, value, interface[name]["parameterType"], origin="ARGS" if name in overrides else origin)
    _check_accelerator(values, origin)
    return {name: values[name] for name in interface if name in values}


def _parse(arguments: str, interface: Mapping[str, Mapping[str, Any]], reserved: Iterable[str]) -> dict[str, Any]:
    try:
        words = shlex.split(arguments)
    except ValueError as error:
        raise UserError(f"ARGS: {error} in {arguments}") from None
    values: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise UserError(f'ARGS: {word}: write name=value, such as ARGS="max_trials=2 train_epochs=5"')
        _known(name, interface, reserved, origin="ARGS")
        kind = interface[name]["parameterType"]
        try:
            values[name] = text if kind == "STRING" else json.loads(text)
        except ValueError:
            raise UserError(f"ARGS: {name}={text}: must be {WORDS[kind]}") from None
    return values


def _known(name: str, interface: Iterable[str], reserved: Iterable[str], origin: str) -> None:
    if name in reserved:
        raise UserError(f"{origin}: {name} is not a setting; it is made from DATA, a folder")
    if name not in interface:
        raise UserError(f"{origin}: {name}: no such parameter{nearest(name, set(interface) - set(reserved))}")


def _check(name: str, value: Any, kind: str, origin: str) -> None:
    bound = BOUNDS.get(name)
    expected: Any = Annotated[TYPES[kind], bound] if bound is not None else TYPES[kind]
    try:
        pydantic.TypeAdapter(expected, config=ConfigDict(allow_inf_nan=False)).validate_python(value)
    except pydantic.ValidationError as error:
        problem = error.errors()[0]
        wrong_type = problem["type"].endswith("_type")
        message = f"must be {WORDS[kind]}" if wrong_type else problem["msg"].replace("Input should", "should", 1)
        raise UserError(f"{origin}: {name}={value}: {message}") from None


def _check_accelerator(values: Mapping[str, Any], origin: str) -> None:
    kind, count = values.get("accelerator_type", ""), values.get("accelerator_count", 0)
    if bool(kind) != bool(count):
        raise UserError(
            f"{origin}: accelerator_type={kind or repr(kind)} does not go with accelerator_count={count}; "
            "give a type and a count of at least 1, or '' and 0"
        )


def _read(path: Path, form: type[Form]) -> Form:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        names = sorted(file.stem for file in path.parent.glob("*.yaml") if file.stem not in OF_ALL_ENVIRONMENTS)
        raise UserError(f"{path.name}: no such settings file; there are {', '.join(names)}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path.name}: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path.name}: must be a YAML mapping with {', '.join(form.model_fields)}")
    try:
        return form.model_validate(content)
    except pydantic.ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            valid = form if len(problem["loc"]) == 1 else INNER.get(str(problem["loc"][0]), form)
            hint = nearest(str(problem["loc"][-1]), valid.model_fields)
            raise UserError(f"{path.name}: {name}: no such setting{hint}") from None
        if problem["type"] == "missing":
            raise UserError(f"{path.name}: {name} is missing") from None
        message = problem["msg"].replace("Input should", "should", 1).removeprefix("Value error, ")
        plain = not isinstance(problem["input"], dict | list)
        raise UserError(f"{path.name}: {name}{'=' + str(problem['input']) if plain else ''}: {message}") from None


def nearest(name: str, valid: Iterable[str]) -> str:
    """A hint to end a message with: the valid name that is most like a wrong one, or all of them."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(names)}"
