"""A tuning job as a person looks at it: its trials, how the objective went, and what mattered."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.cloud.aiplatform_v1.types import CustomJob, HyperparameterTuningJob, JobState, Measurement, StudySpec
from google.cloud.aiplatform_v1.types import Trial as TrialResource
from markupsafe import Markup

from localvertex.console import charts
from localvertex.services.moments import seconds
from localvertex.store import Store
from localvertex.tuning import space
from localvertex.tuning.importance import FEWEST_TRIALS, importance
from localvertex.tuning.suggest import Past

log = logging.getLogger(__name__)

_MINIMIZE = StudySpec.MetricSpec.GoalType.MINIMIZE
_UNDER_WAY = (TrialResource.State.ACTIVE, TrialResource.State.STOPPING)
_MOST_MARKS = 8
_MOST_KNOWN = 64


@dataclass(frozen=True)
class Trial:
    """One trial.

    Args:
        id: its number.
        state: as the API names it; `STOPPED` for one that was stopped early and counts nevertheless.
        values: of its parameters.
        scores: its final metrics, in the order of the study's; none while it runs or when it failed.
        curve: step and objective, in the order of the steps.
        started: in seconds since 1970, as `ended`; 0 for not yet.
        ended: see above.
        problem: why it failed.
        job: resource name of the custom job that ran it.
        best: whether no other is better.
    """

    id: str
    state: str
    values: space.Values
    scores: tuple[float, ...]
    curve: Sequence[tuple[float, float]]
    started: float
    ended: float
    problem: str
    job: str
    best: bool = False


@dataclass(frozen=True)
class Study:
    """A tuning job.

    Args:
        job: as the API has it.
        metrics: ids of what is optimized; the first is the objective.
        minimize: whether less of it is better.
        parameters: ids of all parameters, conditional ones behind what they depend on.
        trials: in the order in which they began.
    """

    job: HyperparameterTuningJob
    metrics: Sequence[str]
    minimize: bool
    parameters: Sequence[str]
    trials: Sequence[Trial]

    @property
    def best(self) -> Trial | None:
        """The best trial so far."""
        return next((trial for trial in self.trials if trial.best), None)


def read(store: Store, job: HyperparameterTuningJob) -> Study:
    """A tuning job with its trials.

    Args:
        store: where the trials' jobs are, which tell who was stopped early.
    """
    study = job.study_spec
    metrics = [metric.metric_id for metric in study.metrics]
    minimize = study.metrics[0].goal == _MINIMIZE
    jobs = store.find_all(CustomJob, [trial.custom_job for trial in job.trials])
    cancelled = {str(each.name) for each in jobs if each.state == JobState.JOB_STATE_CANCELLED}
    trials = [_trial(trial, metrics, trial.custom_job in cancelled) for trial in job.trials]
    scored = [trial.scores[0] for trial in trials if trial.scores]
    best = (min(scored) if minimize else max(scored)) if scored else None
    first = next((trial.id for trial in trials if trial.scores and trial.scores[0] == best), "")
    return Study(
        job=job,
        metrics=metrics,
        minimize=minimize,
        parameters=list(dict.fromkeys(spec.parameter_id for spec in _specs(study.parameters))),
        trials=[Trial(**{**vars(trial), "best": trial.id == first}) for trial in trials],
    )


def objective_over_time(study: Study, chosen: str = "") -> Markup:
    """Each trial's result at the time when it ended, and the best so far."""
    ended = sorted((trial for trial in study.trials if trial.scores and trial.ended), key=lambda trial: trial.ended)
    if not ended:
        return Markup("")
    start = min(trial.started for trial in study.trials)
    length = max(trial.ended for trial in ended) - start
    unit, name = (60.0, "minutes") if length >= 300 else (1.0, "seconds")
    points = [((trial.ended - start) / unit, trial.scores[0]) for trial in ended]
    best = math.inf if study.minimize else -math.inf
    record = []
    for when, score in points:
        best = min(best, score) if study.minimize else max(best, score)
        record.append((when, best))
    return charts.lines(
        f"{study.metrics[0]} of each trial when it ended, and the best so far",
        [
            charts.Series("Best so far", record, colour=0, steps=True),
            *(
                charts.Series(
                    f"Trial {trial.id}: {trial.scores[0]:.6g}",
                    [point],
                    colour=1,
                    line=False,
                    dots=trial.state != "STOPPED",
                    end="x" if trial.state == "STOPPED" else "o" if trial.id == chosen else "",
                    notes=[f"Trial {trial.id}: {trial.scores[0]:.6g}"],
                )
                for trial, point in zip(ended, points, strict=True)
            ),
        ],
        x=f"{name} since the first trial began",
        y=study.metrics[0],
    )


def learning_curves(study: Study, chosen: str, link: Mapping[str, str]) -> Markup:
    """The objective step by step, a line for each trial; a cross where one was stopped.

    Args:
        chosen: id of a trial that stands out; '' for the best.
        link: the address that each trial's line leads to.
    """
    shown = [trial for trial in study.trials if trial.curve]
    if not shown:
        return Markup("")
    chosen = chosen or (study.best.id if study.best else "")
    return charts.lines(
        f"{study.metrics[0]} of each trial, step by step",
        [
            charts.Series(
                f"Trial {trial.id}, {trial.state.lower()}"
                + (f" after step {trial.curve[-1][0]:g}" if trial.state == "STOPPED" else ""),
                trial.curve,
                colour=0 if trial.id == chosen else 1,
                dots=len(trial.curve) == 1 and trial.state != "STOPPED",
                end="x" if trial.state == "STOPPED" else "" if trial.state in ("ACTIVE", "STOPPING") else "o",
                link=link.get(trial.id, ""),
                faint=trial.id != chosen,
            )
            for trial in shown
        ],
        x="step",
        y=study.metrics[0],
    )


def parallel_coordinates(study: Study, chosen: str, link: Mapping[str, str]) -> Markup:
    """An axis for each parameter and for the objective, a line for each trial that has a result."""
    done = [trial for trial in study.trials if trial.scores]
    if not done:
        return Markup("")
    scores = [trial.scores[0] for trial in done]
    low, high = min(scores), max(scores)
    specs = {spec.parameter_id: spec for spec in _specs(study.job.study_spec.parameters)}
    ordered = sorted(done, key=lambda trial: trial.scores[0], reverse=not study.minimize)
    rank = {trial.id: place / max(1, len(ordered) - 1) for place, trial in enumerate(ordered)}
    return charts.parallel(
        f"Parameters and {study.metrics[0]} of each trial",
        [
            *(_axis(specs[name]) for name in study.parameters),
            charts.Axis(study.metrics[0], f"{low:.4g}", f"{high:.4g}"),
        ],
        [
            charts.Strand(
                f"Trial {trial.id}: {study.metrics[0]} {trial.scores[0]:.6g}",
                [
                    *(_place(specs[name], trial.values.get(name)) for name in study.parameters),
                    (trial.scores[0] - low) / (high - low) if high > low else 0.5,
                ],
                rank=rank[trial.id],
                link=link.get(trial.id, ""),
                chosen=trial.id == chosen,
            )
            for trial in done
        ],
    )


class Importances:
    """How much each parameter of a study mattered (see `tuning.importance`): found aside, once for the same results."""

    def __init__(self) -> None:
        self._looking = threading.Lock()
        self._known: dict[tuple[str, int], dict[str, float] | None] = {}

    def of(self, study: Study) -> dict[str, float] | None:
        """By parameter id, the largest first; empty where there are too few results to tell, None while it is found."""
        past = [Past(trial.values, trial.scores) for trial in study.trials if trial.scores]
        if len(past) < FEWEST_TRIALS:
            return {}
        key = study.job.name, len(past)
        with self._looking:
            if key not in self._known:
                if len(self._known) >= _MOST_KNOWN:
                    self._known = {other: found for other, found in self._known.items() if found is None}
                self._known[key] = None
                threading.Thread(target=self._find, args=(key, study.job.study_spec, past), daemon=True).start()
            return self._known[key]

    def _find(self, key: tuple[str, int], spec: StudySpec, past: list[Past]) -> None:
        found: dict[str, float] = {}
        try:
            found = importance(spec, past)
        except Exception:
            log.exception("importance of the parameters of %s", key[0])
        with self._looking:
            self._known[key] = found


def _trial(trial: TrialResource, metrics: Sequence[str], cancelled: bool) -> Trial:
    state = TrialResource.State(trial.state)
    values: list[tuple[str, Any]] = [(parameter.parameter_id, parameter.value) for parameter in trial.parameters]
    name = state.name
    if state == TrialResource.State.SUCCEEDED and cancelled:
        name = "STOPPED"
    final = _scores(trial.final_measurement, metrics) if state not in _UNDER_WAY else ()
    curve = [
        (float(measurement.step_count), scores[0])
        for measurement in trial.measurements
        if (scores := _scores(measurement, metrics))
    ]
    return Trial(
        id=trial.id,
        state=name,
        values=dict(values),
        scores=final if state == TrialResource.State.SUCCEEDED else (),
        curve=curve,
        started=seconds(trial, "start_time"),
        ended=seconds(trial, "end_time"),
        problem=trial.infeasible_reason,
        job=trial.custom_job,
    )


def _scores(measurement: Measurement, metrics: Sequence[str]) -> tuple[float, ...]:
    values = {metric.metric_id: float(metric.value) for metric in measurement.metrics}
    return tuple(values[name] for name in metrics) if values.keys() >= set(metrics) else ()


def _specs(specs: Sequence[space.Spec]) -> Iterator[space.Spec]:
    for spec in specs:
        yield spec
        yield from _specs([child.parameter_spec for child in spec.conditional_parameter_specs])


def _axis(spec: space.Spec) -> charts.Axis:
    if space.kind(spec) == "categorical_value_spec":
        values = list(map(str, space.points(spec)))
        middle = values[1:-1] if len(values) <= _MOST_MARKS else []
        marks = [(value, (number + 1) / (len(values) - 1)) for number, value in enumerate(middle)]
        return charts.Axis(spec.parameter_id, values[0], values[-1] if len(values) > 1 else "", marks)
    low, high = _bounds(spec)
    return charts.Axis(spec.parameter_id, f"{low:.4g}", f"{high:.4g}" + (" (log)" if _is_log(spec) else ""))


def _place(spec: space.Spec, value: space.Value | None) -> float | None:
    if value is None:
        return None
    if space.kind(spec) == "categorical_value_spec":
        values = list(space.points(spec))
        return values.index(value) / max(1, len(values) - 1) if value in values else None
    low, high, number = *_bounds(spec), float(value)
    if _is_log(spec) and low > 0 and number > 0:
        low, high, number = math.log(low), math.log(high), math.log(number)
    return (number - low) / (high - low) if high > low else 0.5


def _bounds(spec: space.Spec) -> tuple[float, float]:
    if space.kind(spec) == "discrete_value_spec":
        values = list(spec.discrete_value_spec.values)
        return float(values[0]), float(values[-1])
    bounds = getattr(spec, space.kind(spec))
    return float(bounds.min_value), float(bounds.max_value)


def _is_log(spec: space.Spec) -> bool:
    return spec.scale_type == space.Scale.UNIT_LOG_SCALE
