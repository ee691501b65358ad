"""What to try next: grid search, random search, or (the default) Optuna's Tree-structured Parzen Estimator.

A suggestion depends on the study, its seed and the trials so far alone, so a search goes on after a kill as
if there had been none. The estimator: Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization".
"""

from __future__ import annotations

import hashlib
import itertools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.cloud.aiplatform_v1.types import StudySpec

from localvertex.tuning.space import Scale, Spec, Value, Values, children, default, kind, points

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

_MINIMIZE = StudySpec.MetricSpec.GoalType.MINIMIZE


@dataclass(frozen=True)
class Past:
    """A trial begun earlier.

    Args:
        values: what it tried.
        scores: its final metrics, in the order of the study's; none while it runs.
        feasible: False when it failed.
    """

    values: Values
    scores: tuple[float, ...] = ()
    feasible: bool = True


def suggest(study: StudySpec, seed: str, past: Sequence[Past]) -> Values | None:
    """The next trial's parameters, conditional ones included where they apply.

    Args:
        study: a study that `space.check` accepts.
        seed: any text; the same text gives the same search.
        past: all trials begun so far, in order.

    Returns:
        Values by parameter id (numbers as float or int, categories as str); None when a grid is exhausted.
    """
    if study.algorithm == StudySpec.Algorithm.GRID_SEARCH:
        return next(itertools.islice(_grid(list(study.parameters)), len(past), None), None)
    start = _defaults(study.parameters)
    if not past and start and study.algorithm != StudySpec.Algorithm.RANDOM_SEARCH:
        return start
    return _sample(study, int.from_bytes(hashlib.sha256(f"{seed}/{len(past)}".encode()).digest()[:4], "big"), past)


def _grid(specs: Sequence[Spec]) -> Iterator[Values]:
    if not specs:
        yield {}
        return
    first, rest = specs[0], list(specs[1:])
    for value in points(first):
        for others in _grid(children(first, value) + rest):
            yield {first.parameter_id: value, **others}


def _defaults(specs: Sequence[Spec]) -> Values | None:
    values: Values = {}
    for spec in specs:
        value = default(spec)
        below = None if value is None else _defaults(children(spec, value))
        if value is None or below is None:
            return None
        values |= {spec.parameter_id: value, **below}
    return values


def memory(study: StudySpec, past: Sequence[Past], sampler: optuna.samplers.BaseSampler | None = None) -> optuna.Study:
    """A study of Optuna's that knows the trials so far."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    down, up = optuna.study.StudyDirection.MINIMIZE, optuna.study.StudyDirection.MAXIMIZE
    directions = [down if metric.goal == _MINIMIZE else up for metric in study.metrics]
    made = optuna.create_study(sampler=sampler, directions=directions)
    for trial in past:
        made.add_trial(_frozen(study.parameters, trial))
    return made


def _sample(study: StudySpec, seed: int, past: Sequence[Past]) -> Values:
    import optuna

    sampler: optuna.samplers.BaseSampler
    if study.algorithm == StudySpec.Algorithm.RANDOM_SEARCH:
        sampler = optuna.samplers.RandomSampler(seed=seed)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # Running trials count as poor ones, so that parallel trials do not all try the same place.
            sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    return _ask(study.parameters, memory(study, past, sampler).ask())


def _ask(specs: Sequence[Spec], trial: optuna.Trial) -> Values:
    values: Values = {}
    for spec in specs:
        value = _from_search(spec, _draw(trial, spec.parameter_id, _distribution(spec)))
        values |= {spec.parameter_id: value, **_ask(children(spec, value), trial)}
    return values


def _draw(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    match distribution:
        case FloatDistribution():
            return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
        case IntDistribution():
            return trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
        case CategoricalDistribution():
            return trial.suggest_categorical(name, distribution.choices)
    raise TypeError(distribution)


def _frozen(specs: Sequence[Spec], trial: Past) -> optuna.trial.FrozenTrial:
    import optuna

    state = optuna.trial.TrialState.COMPLETE if trial.scores else optuna.trial.TrialState.RUNNING
    if not trial.feasible:
        state = optuna.trial.TrialState.FAIL
    active = list(_active(specs, trial.values))
    return optuna.trial.create_trial(
        state=state,
        values=trial.scores if trial.feasible and trial.scores else None,
        params={spec.parameter_id: _to_search(spec, trial.values[spec.parameter_id]) for spec in active},
        distributions={spec.parameter_id: _distribution(spec) for spec in active},
    )


def _active(specs: Sequence[Spec], values: Values) -> Iterator[Spec]:
    for spec in specs:
        yield spec
        yield from _active(children(spec, values[spec.parameter_id]), values)


def _distribution(spec: Spec) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    log = spec.scale_type in (Scale.UNIT_LOG_SCALE, Scale.UNIT_REVERSE_LOG_SCALE)
    match kind(spec):
        case "double_value_spec":
            return FloatDistribution(spec.double_value_spec.min_value, spec.double_value_spec.max_value, log=log)
        case "integer_value_spec":
            return IntDistribution(spec.integer_value_spec.min_value, spec.integer_value_spec.max_value, log=log)
        case "discrete_value_spec":  # searched by rank: the order matters, the gaps do not
            return IntDistribution(0, len(spec.discrete_value_spec.values) - 1)
        case _:
            return CategoricalDistribution(list(spec.categorical_value_spec.values))


def _from_search(spec: Spec, found: Any) -> Value:
    if kind(spec) == "discrete_value_spec":
        return float(spec.discrete_value_spec.values[found])
    value: Value = _mirrored(spec, found)
    return value


def _to_search(spec: Spec, value: Any) -> Any:
    if kind(spec) == "discrete_value_spec":
        return list(spec.discrete_value_spec.values).index(value)
    if kind(spec) == "integer_value_spec":
        return _mirrored(spec, int(value))
    return _mirrored(spec, value)


def _mirrored(spec: Spec, value: Any) -> Any:
    """A reverse logarithmic scale is a logarithmic one seen in a mirror: dense at the upper end."""
    if spec.scale_type != Scale.UNIT_REVERSE_LOG_SCALE or kind(spec) not in (
        "double_value_spec",
        "integer_value_spec",
    ):
        return value
    bounds = getattr(spec, kind(spec))
    # Rounding must not carry the mirror image of one bound past the other.
    return min(max(bounds.min_value + bounds.max_value - value, bounds.min_value), bounds.max_value)
