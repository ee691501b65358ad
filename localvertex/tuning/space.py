"""The search space of a StudySpec: what may be tried, what a choice brings with it, what is not allowed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import StudySpec

Spec = StudySpec.ParameterSpec
Scale = Spec.ScaleType
Value = float | str
Values = dict[str, Value]

_CONDITIONS = {
    "categorical_value_spec": "parent_categorical_values",
    "integer_value_spec": "parent_int_values",
    "discrete_value_spec": "parent_discrete_values",
}


def kind(spec: Spec) -> str:
    """Which of the four value specs a parameter has, by its field's name; empty when it has none."""
    return Spec.pb(spec).WhichOneof("parameter_value_spec") or ""


def children(spec: Spec, value: Value) -> list[Spec]:
    """The parameters that are there only because `spec` took this value."""
    return [child.parameter_spec for child in spec.conditional_parameter_specs if value in _parent_values(child)]


def points(spec: Spec) -> Sequence[Value]:
    """Every value of an integer, categorical or discrete parameter, in order."""
    match kind(spec):
        case "categorical_value_spec":
            return list(spec.categorical_value_spec.values)
        case "discrete_value_spec":
            return list(spec.discrete_value_spec.values)
        case _:
            bounds = spec.integer_value_spec
            return range(bounds.min_value, bounds.max_value + 1)


def default(spec: Spec) -> Value | None:
    """The value offered as a good starting point, where one is."""
    values = getattr(spec, kind(spec))
    return values.default_value if "default_value" in values else None


def check(study: StudySpec) -> None:
    """Refuse a study that cannot be searched.

    Raises:
        google.api_core.exceptions.InvalidArgument: naming the field that is wrong.
        google.api_core.exceptions.MethodNotImplemented: what Vertex AI has and localvertex has not.
    """
    if not study.metrics:
        raise exceptions.InvalidArgument("study_spec.metrics must name the metric to optimize.")
    for number, metric in enumerate(study.metrics):
        where = f"study_spec.metrics[{number}]"
        if not metric.metric_id or metric.metric_id in [other.metric_id for other in study.metrics[:number]]:
            raise exceptions.InvalidArgument(f"{where}.metric_id {metric.metric_id!r} is empty or used twice.")
        if not metric.goal:
            raise exceptions.InvalidArgument(f"{where}.goal must be MAXIMIZE or MINIMIZE.")
        if "safety_config" in metric:
            raise exceptions.MethodNotImplemented(f"{where}.safety_config is not supported by localvertex.")
    if not study.parameters:
        raise exceptions.InvalidArgument("study_spec.parameters must not be empty.")
    for unsupported in ("convex_automated_stopping_spec", "study_stopping_config"):
        if unsupported in study:
            raise exceptions.MethodNotImplemented(f"study_spec.{unsupported} is not supported by localvertex.")
    seen: set[str] = set()
    for spec in _everything(study.parameters):
        if not spec.parameter_id or spec.parameter_id in seen:
            raise exceptions.InvalidArgument(
                f"study_spec.parameters: parameter_id {spec.parameter_id!r} is empty or used twice."
            )
        seen.add(spec.parameter_id)
        problem = _problem(spec, study.algorithm)
        if problem:
            raise exceptions.InvalidArgument(f"study_spec.parameters: {spec.parameter_id}: {problem}.")


def _everything(specs: Sequence[Spec]) -> Iterator[Spec]:
    for spec in specs:
        yield spec
        yield from _everything([child.parameter_spec for child in spec.conditional_parameter_specs])


def _problem(spec: Spec, algorithm: StudySpec.Algorithm) -> str | None:
    match kind(spec):
        case "double_value_spec":
            wrong = _bounds_problem(spec.double_value_spec, spec.scale_type)
            if not wrong and algorithm == StudySpec.Algorithm.GRID_SEARCH:
                wrong = "grid search needs INTEGER, CATEGORICAL or DISCRETE parameters"
        case "integer_value_spec":
            wrong = _bounds_problem(spec.integer_value_spec, spec.scale_type)
        case "categorical_value_spec":
            names = list(spec.categorical_value_spec.values)
            wrong = None if names and len(set(names)) == len(names) else "values must be given, each once"
        case "discrete_value_spec":
            values = list(spec.discrete_value_spec.values)
            ordered = values and values == sorted(set(values))
            wrong = None if ordered else "values must be given in increasing order"
        case _:
            wrong = "a parameter needs one of the four value specs"
    return wrong or _condition_problem(spec)


def _bounds_problem(
    bounds: Spec.DoubleValueSpec | Spec.IntegerValueSpec, scale: StudySpec.ParameterSpec.ScaleType
) -> str | None:
    if bounds.min_value > bounds.max_value:
        return f"min_value {bounds.min_value} is above max_value {bounds.max_value}"
    if scale in (Scale.UNIT_LOG_SCALE, Scale.UNIT_REVERSE_LOG_SCALE) and bounds.min_value <= 0:
        return f"a logarithmic scale needs a min_value above 0, not {bounds.min_value}"
    return None


def _condition_problem(spec: Spec) -> str | None:
    for child in spec.conditional_parameter_specs:
        if Spec.ConditionalParameterSpec.pb(child).WhichOneof("parent_value_condition") != _CONDITIONS.get(kind(spec)):
            return "a conditional parameter's condition must be of its parent's kind, which is not DOUBLE"
        strangers = [value for value in _parent_values(child) if value not in points(spec)]
        if strangers:
            dependent = child.parameter_spec.parameter_id
            return f"{dependent} depends on the value {strangers[0]!r}, which it cannot take"
    return None


def _parent_values(child: Spec.ConditionalParameterSpec) -> list[Value]:
    condition = Spec.ConditionalParameterSpec.pb(child).WhichOneof("parent_value_condition")
    return list(getattr(child, condition).values) if condition else []
