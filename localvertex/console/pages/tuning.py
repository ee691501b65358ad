"""Tuning jobs: what was tried, how it went, what mattered."""

from __future__ import annotations

from collections.abc import Sequence

from google.cloud.aiplatform_v1.types import (
    CancelHyperparameterTuningJobRequest,
    HyperparameterTuningJob,
    JobState,
    StudySpec,
)

from localvertex.console import charts, queries, studies
from localvertex.console.services import ConsoleServices
from localvertex.console.studies import Study
from localvertex.console.web import Answer, Page, Redirect, Route, Visit, address
from localvertex.services.jobs import FINISHED
from localvertex.services.moments import seconds

_PATH = "projects/{project}/locations/{location}/hyperparameterTuningJobs/{id}"


class TuningPages:
    """The list, and the page of one job.

    Args:
        services: the jobs.
    """

    def __init__(self, services: ConsoleServices) -> None:
        self._store = services.store
        self._jobs = services.jobs
        self._importances = studies.Importances()

    def routes(self) -> Sequence[Route]:
        """Their addresses."""
        return (
            Route("GET", "tuning", self._list),
            Route("POST", f"{_PATH}:cancel", self._cancel),
            Route("GET", _PATH, self._show),
        )

    def _list(self, visit: Visit) -> Answer:
        found, older = queries.read_page(self._store, HyperparameterTuningJob, visit.query.get("before", ""))
        return Page(
            "tunings.html",
            "Tuning jobs",
            {
                "found": [self._summary(job) for job in found],
                "newest": visit.address(before=None) if visit.query.get("before") else "",
                "older": visit.address(before=older) if older else "",
            },
        )

    def _summary(self, job: HyperparameterTuningJob) -> dict[str, object]:
        study = studies.read(self._store, job)
        return {"job": job, "state": _state(job), "study": study, "created": seconds(job, "create_time")}

    def _show(self, visit: Visit) -> Answer:
        job = self._store.get(HyperparameterTuningJob, visit.name)
        study = studies.read(self._store, job)
        chosen = visit.query.get("trial", "")
        link = {trial.id: visit.address(trial=None if trial.id == chosen else trial.id) for trial in study.trials}
        order = visit.query.get("order", "")
        # While trials run, the cores are theirs.
        importances = self._importances.of(study) if job.state in FINISHED else {}
        return Page(
            "tuning.html",
            str(job.display_name),
            {
                "section": "tuning",
                "job": job,
                "state": _state(job),
                "ended": job.state in FINISHED,
                "created": seconds(job, "create_time"),
                "seconds": seconds(job, "end_time") - seconds(job, "start_time") if "end_time" in job else None,
                "study": study,
                "goal": "least" if study.minimize else "greatest",
                "algorithm": _words(StudySpec.Algorithm(job.study_spec.algorithm).name) or "default (Bayesian)",
                "stopping": _stopping(job),
                "counts": _counts(study),
                "rows": _ordered(study, order),
                "orders": [
                    (visit.address(order=value or None), label, order == value)
                    for value, label in (("", "As begun"), ("result", "Best first"))
                ],
                "chosen": chosen,
                "link": link,
                "over_time": studies.objective_over_time(study, chosen),
                "learning": studies.learning_curves(study, chosen, link),
                "parallel": studies.parallel_coordinates(study, chosen, link),
                "looking": importances is None,
                "importances": [(name, share, charts.bar(share)) for name, share in (importances or {}).items()],
            },
            live=("summary", "charts", "trials"),
            ended=job.state in FINISHED and importances is not None,
        )

    def _cancel(self, visit: Visit) -> Answer:
        self._jobs.cancel_hyperparameter_tuning_job(CancelHyperparameterTuningJobRequest(name=visit.name))
        return Redirect(address(visit.name))


def _state(job: HyperparameterTuningJob) -> str:
    return str(JobState(job.state).name).removeprefix("JOB_STATE_")


def _words(name: str) -> str:
    return "" if name.endswith("UNSPECIFIED") else name.lower().replace("_", " ")


def _stopping(job: HyperparameterTuningJob) -> str:
    if "median_automated_stopping_spec" in job.study_spec:
        return "below the median of completed trials"
    if "decay_curve_stopping_spec" in job.study_spec:
        return "when the curve's forecast is hopeless"
    return "never"


def _counts(study: Study) -> str:
    """How many trials are in which state."""
    states = [trial.state for trial in study.trials]
    shown = [f"{states.count(state)} {_words(state)}" for state in dict.fromkeys(states)]
    return f"{len(states)} of {study.job.max_trial_count} begun" + (f": {', '.join(shown)}" if shown else "")


def _ordered(study: Study, order: str) -> Sequence[studies.Trial]:
    if order != "result":
        return study.trials
    worst = float("inf") if study.minimize else float("-inf")
    return sorted(
        study.trials, key=lambda trial: trial.scores[0] if trial.scores else worst, reverse=not study.minimize
    )
