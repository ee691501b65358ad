"""Hyperparameter tuning jobs: trials begun, followed through their metric files, stopped early, ranked."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import (
    CustomJob,
    CustomJobSpec,
    EnvVar,
    HyperparameterTuningJob,
    JobState,
    Measurement,
    StudySpec,
    Trial,
)
from google.rpc import code_pb2, status_pb2

from localvertex import labels, names
from localvertex.home import Home
from localvertex.services import workers
from localvertex.services.jobs import FINISHED, CustomJobs, begin, begin_cancel, finish, unfinished
from localvertex.services.moments import seconds, stamp
from localvertex.services.supervision import Order, Supervisor
from localvertex.store import Store
from localvertex.tuning import space
from localvertex.tuning.stopping import Curve, decay_curve_rule, median_rule
from localvertex.tuning.suggest import Past, suggest

_POLL_SECONDS = 0.2
# Without max_failed_trial_count, so many failures before any success show that the job itself is broken.
_HOPELESS_FAILURES = 3
_UNDER_WAY = (Trial.State.ACTIVE, Trial.State.STOPPING)
_MINIMIZE = StudySpec.MetricSpec.GoalType.MINIMIZE
_BEST = StudySpec.MeasurementSelectionType.BEST_MEASUREMENT


class TuningJobs:
    """Runs tuning jobs; each of their trials is a custom job.

    Args:
        store: where jobs are kept.
        home: for the folder of the trials' metric files.
        custom: runs the trials.
    """

    def __init__(self, store: Store, home: Home, custom: CustomJobs) -> None:
        self._store = store
        self._metrics = home.path / "trials"
        self._custom = custom
        self._supervisor = Supervisor(self._run, self._fail)

    def create(self, parent: str, job: HyperparameterTuningJob) -> HyperparameterTuningJob:
        """Store a tuning job and begin it.

        Raises:
            google.api_core.exceptions.InvalidArgument: the job cannot run.
        """
        _check(job)
        accepted = HyperparameterTuningJob(
            name=f"{parent}/hyperparameterTuningJobs/{names.new_id()}",
            display_name=job.display_name,
            study_spec=job.study_spec,
            max_trial_count=job.max_trial_count,
            parallel_trial_count=job.parallel_trial_count,
            max_failed_trial_count=job.max_failed_trial_count,
            trial_job_spec=job.trial_job_spec,
            labels=job.labels,
            encryption_spec=job.encryption_spec,
            state=JobState.JOB_STATE_PENDING,
        )
        self._store.create(accepted)
        self._supervisor.start(accepted.name)
        return accepted

    def cancel(self, name: str) -> None:
        """Order a job and its trials to end.

        Raises:
            google.api_core.exceptions.FailedPrecondition: it has ended.
        """
        self._store.update(HyperparameterTuningJob, name, begin_cancel)
        self._supervisor.cancel(name)

    def delete(self, name: str) -> None:
        """Forget a job that has ended, and its metric files."""
        self._supervisor.join(name)
        self._store.delete(HyperparameterTuningJob, name)
        shutil.rmtree(self._metrics / names.id_of(name), ignore_errors=True)

    def resume(self) -> None:
        """Go on with the jobs that were under way when the server was killed."""
        for job in unfinished(self._store, HyperparameterTuningJob):
            self._supervisor.start(job.name)
            if job.state == JobState.JOB_STATE_CANCELLING:
                self._supervisor.cancel(job.name)

    def close(self) -> None:
        """Stop following trials; jobs go on with the next `resume`."""
        self._supervisor.close()

    def _run(self, name: str, order: Order) -> None:
        search = _Search(self._store.update(HyperparameterTuningJob, name, begin), self)
        while not order.stopped and search.goes_on():
            if search.step():
                self._save(search.job)
            order.wait(_POLL_SECONDS)
        if order.stopped and not order.cancelled:
            return
        search.end_trials()
        self._save(search.job)
        if order.cancelled:
            finish(self._store, HyperparameterTuningJob, name, JobState.JOB_STATE_CANCELLED)
        elif message := search.failure():
            self._fail(name, message, code_pb2.INVALID_ARGUMENT)
        else:
            finish(self._store, HyperparameterTuningJob, name, JobState.JOB_STATE_SUCCEEDED)

    def _save(self, job: HyperparameterTuningJob) -> None:
        # Only the trials are this thread's: the state may have become CANCELLING meanwhile.
        self._store.update(HyperparameterTuningJob, job.name, lambda stored: setattr(stored, "trials", job.trials))

    def _fail(self, name: str, message: str, code: int = code_pb2.INTERNAL) -> None:
        error = status_pb2.Status(code=code, message=message)
        finish(self._store, HyperparameterTuningJob, name, JobState.JOB_STATE_FAILED, error)


class _Search:
    """One tuning job under way: `job` is this thread's copy, whose trials it moves on step by step.

    Several metrics are optimized together; which measurement is the best, and which trial is hopeless, is decided by
    the first of them.
    """

    def __init__(self, job: HyperparameterTuningJob, jobs: TuningJobs) -> None:
        self.job = job
        self._jobs = jobs
        self._wanted = [metric.metric_id for metric in job.study_spec.metrics]
        self._sign = 1.0 if job.study_spec.metrics[0].goal == _MINIMIZE else -1.0
        self._exhausted = False
        self._files: dict[str, tuple[int, int]] = {}

    def goes_on(self) -> bool:
        """Whether there is anything left to try or to wait for."""
        if self.failure():
            return False
        return self._may_begin() or any(trial.state in _UNDER_WAY for trial in self.job.trials)

    def failure(self) -> str:
        """Why the job fails; empty when it does not."""
        failed = [trial for trial in self.job.trials if trial.state == Trial.State.INFEASIBLE]
        succeeded = any(trial.state == Trial.State.SUCCEEDED for trial in self.job.trials)
        limit = self.job.max_failed_trial_count
        ended = len(failed) == len(self.job.trials) and not self._may_begin()
        if not failed or not (
            len(failed) >= limit if limit else not succeeded and (ended or len(failed) >= _HOPELESS_FAILURES)
        ):
            return ""
        last = failed[-1]
        return f"{len(failed)} trials failed; the last one, trial {last.id}: {last.infeasible_reason}"

    def step(self) -> bool:
        """Follow the running trials and begin new ones; returns whether anything changed."""
        changed = False
        for trial in self.job.trials:
            if trial.state in _UNDER_WAY:
                changed |= self._follow(trial)
        while self._may_begin() and not self.failure():
            under_way = sum(trial.state in _UNDER_WAY for trial in self.job.trials)
            if under_way >= self.job.parallel_trial_count:
                break
            changed |= self._begin()
        return changed

    def end_trials(self) -> None:
        """Cancel what still runs, and wait until it has ended."""
        under_way = [trial for trial in self.job.trials if trial.state in _UNDER_WAY]
        for trial in under_way:
            self._stop(trial)
        for trial in under_way:
            self._jobs._custom.join(trial.custom_job)
            self._read_metrics(trial)
            self._end(trial, Trial.State.INFEASIBLE, "The tuning job ended before the trial did.")

    def _may_begin(self) -> bool:
        return not self._exhausted and len(self.job.trials) < self.job.max_trial_count

    def _begin(self) -> bool:
        values = suggest(self.job.study_spec, self._seed(), [self._past(trial) for trial in self.job.trials])
        if values is None:
            self._exhausted = True
            return False
        number = str(len(self.job.trials) + 1)
        self.job.trials.append(
            Trial(
                name=f"{self.job.name}/trials/{number}",
                id=number,
                state=Trial.State.ACTIVE,
                parameters=[Trial.Parameter(parameter_id=name, value=value) for name, value in values.items()],
                custom_job=f"{names.location_parent(self.job.name)}/customJobs/{names.new_id()}",
            )
        )
        stamp(self.job.trials[-1], "start_time")
        # Stored before it is begun: after a kill in between, `_follow` finds the trial without its job.
        self._jobs._save(self.job)
        self._launch(self.job.trials[-1])
        return True

    def _launch(self, trial: Trial) -> None:
        metrics = self._metric_file(trial)
        metrics.parent.mkdir(parents=True, exist_ok=True)
        job = CustomJob(
            display_name=f"{self.job.display_name}-trial-{trial.id}",
            job_spec=_trial_spec(self.job, trial, metrics),
            labels=self.job.labels,
        )
        self._jobs._custom.create(names.location_parent(self.job.name), job, trial.custom_job)

    def _follow(self, trial: Trial) -> bool:
        running = self._jobs._store.find(CustomJob, trial.custom_job)
        if running is None:
            self._launch(trial)
            return False
        reported = self._read_metrics(trial)
        if running.state not in FINISHED:
            if reported and trial.state == Trial.State.ACTIVE and self._is_hopeless(trial):
                self._stop(trial)
                trial.state = Trial.State(Trial.State.STOPPING)
            return reported
        if running.state == JobState.JOB_STATE_FAILED and trial.state != Trial.State.STOPPING:
            self._end(trial, Trial.State.INFEASIBLE, running.error.message)
        elif running.state == JobState.JOB_STATE_CANCELLED and trial.state != Trial.State.STOPPING:
            self._end(trial, Trial.State.INFEASIBLE, "The trial's job was cancelled.")
        elif not self._curve(trial):
            missing = " and ".join(map(repr, self._wanted))
            self._end(trial, Trial.State.INFEASIBLE, f"The trial reported no value of {missing}.")
        else:
            self._end(trial, Trial.State.SUCCEEDED)
        return True

    def _end(self, trial: Trial, state: int, reason: str = "") -> None:
        trial.state = Trial.State(state)
        trial.infeasible_reason = reason
        stamp(trial, "end_time")
        reported = [measurement for measurement in trial.measurements if self._scores(measurement)]
        if reported:
            if self.job.study_spec.measurement_selection_type == _BEST:
                trial.final_measurement = min(reported, key=self._cost)
            else:
                trial.final_measurement = reported[-1]

    def _stop(self, trial: Trial) -> None:
        # It may have ended by itself meanwhile, or never have begun.
        with suppress(exceptions.FailedPrecondition, exceptions.NotFound):
            self._jobs._custom.cancel(trial.custom_job)

    def _is_hopeless(self, trial: Trial) -> bool:
        study = self.job.study_spec
        if "median_automated_stopping_spec" in study:
            rule, by_time = median_rule, study.median_automated_stopping_spec.use_elapsed_duration
        elif "decay_curve_stopping_spec" in study:
            rule, by_time = decay_curve_rule, study.decay_curve_stopping_spec.use_elapsed_duration
        else:
            return False
        completed = [other for other in self.job.trials if other.state == Trial.State.SUCCEEDED]
        return rule(self._curve(trial, by_time), [self._curve(other, by_time) for other in completed])

    def _curve(self, trial: Trial, by_time: bool = False) -> Curve:
        return [
            (
                seconds(measurement, "elapsed_duration") if by_time else float(measurement.step_count),
                self._cost(measurement),
            )
            for measurement in trial.measurements
            if self._scores(measurement)
        ]

    def _scores(self, measurement: Measurement) -> tuple[float, ...]:
        """The study's metrics in order; nothing unless all of them were reported."""
        values = {metric.metric_id: float(metric.value) for metric in measurement.metrics}
        return tuple(values[name] for name in self._wanted) if values.keys() >= set(self._wanted) else ()

    def _cost(self, measurement: Measurement) -> float:
        return self._sign * self._scores(measurement)[0]

    def _past(self, trial: Trial) -> Past:
        if trial.state in _UNDER_WAY:
            return Past(_values(trial))
        return Past(_values(trial), self._scores(trial.final_measurement), trial.state == Trial.State.SUCCEEDED)

    def _seed(self) -> str:
        """What is searched decides the search: the same job, begun again, takes the same path."""
        searched = StudySpec(
            parameters=self.job.study_spec.parameters,
            metrics=self.job.study_spec.metrics,
            algorithm=self.job.study_spec.algorithm,
        )
        pools = CustomJobSpec(worker_pool_specs=self.job.trial_job_spec.worker_pool_specs)
        return str(StudySpec.to_json(searched) + CustomJobSpec.to_json(pools))

    def _metric_file(self, trial: Trial) -> Path:
        return self._jobs._metrics / names.id_of(self.job.name) / trial.id / "output.metric"

    def _read_metrics(self, trial: Trial) -> bool:
        """Take over what the trial has reported; returns whether there was anything new."""
        file = self._metric_file(trial)
        try:
            found = file.stat()
        except FileNotFoundError:
            return False
        seen = (found.st_mtime_ns, found.st_size)
        if self._files.get(trial.id) == seen:
            return False
        self._files[trial.id] = seen
        # A trial begun anew after a kill reports its first steps again: the latest report of a step counts.
        by_step = {measurement.step_count: measurement for measurement in trial.measurements}
        by_step.update(read_measurements(file, seconds(trial, "start_time")))
        measurements = [by_step[step] for step in sorted(by_step)]
        if measurements == list(trial.measurements):
            return False
        trial.measurements = measurements
        return True


def read_measurements(file: Path, started: float) -> dict[int, Measurement]:
    """What a trial has reported so far, by step.

    Each line is a JSON object as `cloudml-hypertune` writes it: metrics by name beside `global_step`,
    `timestamp`, `trial` and `checkpoint_path`. Lines without a step are numbered; a line being written is left for
    later.

    Args:
        started: when the trial began, in seconds since the epoch.
    """
    metrics: dict[int, dict[str, float]] = {}
    elapsed: dict[int, float] = {}
    for number, line in enumerate(file.read_text(errors="replace").splitlines(), start=1):
        try:
            entry = json.loads(line)
            step = int(float(entry.get("global_step") or number))
            moment = float(entry.get("timestamp") or file.stat().st_mtime)
        except (ValueError, AttributeError, TypeError):
            continue
        metrics.setdefault(step, {}).update(_metrics(entry))
        elapsed[step] = max(0.0, moment - started)
    return {
        step: Measurement(
            step_count=step,
            elapsed_duration={"seconds": int(elapsed[step]), "nanos": int(elapsed[step] % 1 * 1e9)},
            metrics=[Measurement.Metric(metric_id=name, value=value) for name, value in values.items()],
        )
        for step, values in metrics.items()
        if values
    }


def _metrics(entry: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, text in entry.items():
        if name in ("timestamp", "trial", "global_step", "checkpoint_path"):
            continue
        try:
            value = float(text)
        except (ValueError, TypeError):
            continue
        if math.isfinite(value):
            yield name, value


def _values(trial: Trial) -> space.Values:
    plain: list[tuple[str, Any]] = [(parameter.parameter_id, parameter.value) for parameter in trial.parameters]
    return dict(plain)


def flag_value(value: space.Value) -> str:
    """A parameter's value as a trial's argument: whole numbers without a decimal point."""
    if isinstance(value, str):
        return value
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _trial_spec(job: HyperparameterTuningJob, trial: Trial, metrics: Path) -> CustomJobSpec:
    """The job of a trial: parameters as `--name=value` behind the given arguments, Vertex AI's variables."""
    spec = CustomJobSpec(job.trial_job_spec)
    threads = str(max(1, (os.cpu_count() or 1) // job.parallel_trial_count))
    variables = {
        "CLOUD_ML_TRIAL_ID": trial.id,
        "CLOUD_ML_HP_METRIC_FILE": str(metrics),
        # Trials side by side that each use all cores would only slow each other down.
        "OMP_NUM_THREADS": threads,
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": threads,
    }
    for pool in spec.worker_pool_specs:
        program = workers.program(pool)
        given = {variable.name for variable in program.env}
        program.args.extend(f"--{name}={flag_value(value)}" for name, value in _values(trial).items())
        program.env.extend(EnvVar(name=name, value=value) for name, value in variables.items() if name not in given)
    return spec


def _check(job: HyperparameterTuningJob) -> None:
    if not job.display_name:
        raise exceptions.InvalidArgument("hyperparameter_tuning_job.display_name is required.")
    labels.check(job, "hyperparameter_tuning_job")
    if job.max_trial_count < 1:
        raise exceptions.InvalidArgument(f"max_trial_count must be at least 1, not {job.max_trial_count}.")
    if not 1 <= job.parallel_trial_count <= job.max_trial_count:
        raise exceptions.InvalidArgument(
            f"parallel_trial_count must be from 1 to max_trial_count ({job.max_trial_count}), "
            f"not {job.parallel_trial_count}."
        )
    if not 0 <= job.max_failed_trial_count <= job.max_trial_count:
        raise exceptions.InvalidArgument(
            f"max_failed_trial_count must be from 0 to max_trial_count ({job.max_trial_count}), "
            f"not {job.max_failed_trial_count}."
        )
    space.check(job.study_spec)
    workers.check(job.trial_job_spec, "trial_job_spec")
