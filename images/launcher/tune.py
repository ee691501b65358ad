"""Tune: starts a Vertex HyperparameterTuningJob, watches it, and writes down what its trials found."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from images import executor
from images.executor import ExecutorOutput, UserError
from images.launcher import api, trials
from images.launcher.trials import METRIC, Trial
from images.trainer import hyperparameters as spaces

if TYPE_CHECKING:
    from google.cloud import aiplatform_v1

KIND = "HyperparameterTuningJob"
GOING = ("JOB_STATE_QUEUED", "JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_CANCELLING")

UNDER_WAY = ("REQUESTED", "ACTIVE", "STOPPING")
BUDGET_WAIT = 5.0
"""Seconds between two looks at most where there is a budget to keep to."""


@dataclasses.dataclass(frozen=True)
class Search:
    """What to search and with what.

    Attributes:
        system: such as "crnn"; its hyperparameters are the space.
        examples: the folder that ingest wrote.
        trial_image: container image of a trial.
        trial_epochs: of a trial that is not stopped early.
        trial_examples: training examples a trial sees, at most.
        max_trials: how many.
        parallel_trials: how many at a time.
        seed: of everything random in a trial.
        machine_type: of a trial.
        accelerator_type: of a trial; empty for none.
        accelerator_count: of a trial; 0 for none.
        strategy: `STANDARD` or `SPOT`.
        tune_budget: device-hours of all trials together after which the search ends; 0: as long as it takes.
        tpu_topology: of a trial's machine if it has TPUs; empty for others.
        keras_backend: that a trial trains with.
        given: hyperparameters that are not searched, such as `flip=0.5 width=16`; see `hyperparameters.given`.
    """

    system: str
    examples: str
    trial_image: str
    trial_epochs: int
    trial_examples: int
    max_trials: int
    parallel_trials: int
    seed: int = 1
    machine_type: str = "n1-standard-4"
    accelerator_type: str = ""
    accelerator_count: int = 0
    strategy: str = "STANDARD"
    tune_budget: float = 0.0
    tpu_topology: str = ""
    keras_backend: str = "tensorflow"
    given: str = ""

    def __post_init__(self) -> None:
        """Raises UserError when a count is not at least 1, the budget is below 0, or what is given is malformed."""
        for name in ("trial_epochs", "trial_examples", "max_trials", "parallel_trials"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name}={getattr(self, name)}: give at least 1")
        if not 0 <= self.tune_budget < math.inf:
            raise UserError(f"--tune_budget={self.tune_budget}: give device-hours, or 0 for no limit")
        spaces.given(self.space, self.given)

    @property
    def space(self) -> type[Any]:
        """The system's hyperparameters."""
        return spaces.of(self.system)

    @property
    def decided(self) -> dict[str, spaces.Value]:
        """The hyperparameters that are given."""
        return spaces.given(self.space, self.given)

    def is_spent(self, found: Sequence[Trial]) -> bool:
        """Whether the trials have used up the budget."""
        return 0 < self.tune_budget <= trials.device_hours(found)


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Files to write: hyperparameters and metrics as JSON, trials as CSV, the report as HTML."""

    hyperparameters: str
    trials: str
    report: str
    metrics: str


def job(search: Search, display_name: str, shared: str) -> dict[str, Any]:
    """The tuning job as Vertex's HyperparameterTuningJob message.

    Half of the trials may fail: a search space has corners in which no network trains. Where all that could be searched
    is given, there is one trial. Trials are stopped by the service's median rule, and end by themselves where they are
    behind at a rung.

    Args:
        search: what to search.
        display_name: of the job.
        shared: the folder where its trials compare themselves, as they see it.

    Source: cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.hyperparameterTuningJobs
    """
    machine: dict[str, Any] = {"machine_type": search.machine_type}
    if search.accelerator_type:
        machine |= {
            "accelerator_type": search.accelerator_type,
            "accelerator_count": search.accelerator_count,
        }
    if search.tpu_topology:
        machine["tpu_topology"] = search.tpu_topology
    container: dict[str, Any] = {
        "image_uri": search.trial_image,
        "command": ["python", "-m", "images.trainer.trial"],
        "env": [{"name": "KERAS_BACKEND", "value": search.keras_backend}],
        "args": [
            f"--system={search.system}",
            f"--examples={search.examples}",
            f"--epochs={search.trial_epochs}",
            f"--limit={search.trial_examples}",
            f"--seed={search.seed}",
            f"--shared={shared}",
        ],
    }
    specs = spaces.parameter_specs(search.space, search.decided)
    suggested = {spec["parameter_id"] for spec in specs}
    container["args"] += [f"--{name}={value}" for name, value in search.decided.items() if name not in suggested]
    max_trials = search.max_trials if spaces.is_searched(search.space, search.decided) else 1
    return {
        "display_name": display_name,
        "max_trial_count": max_trials,
        "parallel_trial_count": min(search.parallel_trials, max_trials),
        "max_failed_trial_count": max(1, max_trials // 2),
        "study_spec": {
            "metrics": [{"metric_id": METRIC, "goal": "MINIMIZE"}],
            "parameters": specs,
            "median_automated_stopping_spec": {"use_elapsed_duration": False},
            "measurement_selection_type": "BEST_MEASUREMENT",
        },
        "trial_job_spec": {
            "worker_pool_specs": [{"machine_spec": machine, "replica_count": 1, "container_spec": container}],
            "scheduling": {"strategy": search.strategy},
        },
    }


def tune(
    search: Search, project: str, location: str, job_name: str, gcp_resources: str, outputs: Outputs
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Searches for the best hyperparameters, or goes on with a search begun under the same name.

    Args:
        search: what to search.
        project: Google Cloud project.
        location: region.
        job_name: display name of the tuning job. One that is under way or done is taken up.
        gcp_resources: file that names the job; if it is there, that job is taken up.
        outputs: files to write.

    Returns:
        The best trial's hyperparameters, and the metrics of the search.

    Raises:
        UserError: the service refused the job, the job failed, or no trial gave a usable result.
    """
    from google.cloud import aiplatform_v1

    client = api.client(aiplatform_v1.JobServiceClient, location)
    parent = f"projects/{project}/locations/{location}"
    name = (
        api.noted_job(Path(gcp_resources))
        or _begun(client, parent, search, job_name)
        or _create(client, parent, job(search, job_name, str(Path(outputs.hyperparameters).with_name("rungs"))))
    )
    print(f"tuning job {name}")
    api.note_job(Path(gcp_resources), KIND, name, location)
    with api.on_cancel(lambda: client.cancel_hyperparameter_tuning_job(name=name)):
        done, cut = _wait(client, name, search)
    found = [_stopped(trial) if trial.id in (cut or ()) else trial for trial in map(Trial.of, done.trials)]
    best = trials.winner(found)
    by_budget = done.state.name == "JOB_STATE_CANCELLED" and (cut is not None or search.is_spent(found))
    if by_budget and best is None:
        raise UserError(
            f"tuning job {name} spent its budget of {search.tune_budget:g} device-hours before a trial had a usable "
            f"{METRIC}; raise tune_budget, or lower trial_examples"
        )
    if best is None or not (by_budget or done.state.name == "JOB_STATE_SUCCEEDED"):
        raise UserError(_failure(name, done, found))
    return _write(search, found, best, outputs)


def _is_over(job: aiplatform_v1.HyperparameterTuningJob, search: Search) -> bool:
    """Whether a job came to its end, or was ended because its budget is spent."""
    spent = search.is_spent([Trial.of(trial) for trial in job.trials])
    return job.state.name == "JOB_STATE_SUCCEEDED" or (job.state.name == "JOB_STATE_CANCELLED" and spent)


def _stopped(trial: Trial) -> Trial:
    """A trial that ended with the budget counts for what it had reported, as one that is stopped early does."""
    return dataclasses.replace(trial, state="SUCCEEDED", reason="") if trial.best else trial


def _begun(client: aiplatform_v1.JobServiceClient, parent: str, search: Search, display_name: str) -> str | None:
    """The job that a launcher that is no more had started, unless it failed."""
    from google.cloud import aiplatform_v1

    request = {"parent": parent, "filter": f'display_name="{display_name}"'}
    for found in client.list_hyperparameter_tuning_jobs(aiplatform_v1.ListHyperparameterTuningJobsRequest(request)):
        if found.display_name == display_name and (found.state.name in GOING or _is_over(found, search)):
            return str(found.name)
    return None


def _create(client: aiplatform_v1.JobServiceClient, parent: str, message: dict[str, Any]) -> str:
    from google.api_core.exceptions import ClientError

    request = {"parent": parent, "hyperparameter_tuning_job": message}
    try:
        return str(client.create_hyperparameter_tuning_job(request=request).name)
    except ClientError as error:
        raise UserError(f"Vertex AI refused the tuning job: {error.message}") from error


def _wait(
    client: aiplatform_v1.JobServiceClient, name: str, search: Search
) -> tuple[aiplatform_v1.HyperparameterTuningJob, set[str] | None]:
    """Follows a job to its end, which it brings about when the budget is spent.

    Returns:
        The job in its final state, and the trials under way when it was ended so, by id; None: it was not.
    """
    from google.api_core.exceptions import FailedPrecondition
    from google.api_core.retry import Retry

    said = ""
    cut: set[str] | None = None
    for wait in api.waits():
        found = client.get_hyperparameter_tuning_job(name=name, retry=Retry(timeout=600.0))
        line = _progress(found)
        if line != said:
            print(line)
            said = line
        if found.state.name not in GOING:
            return found, cut
        known = [Trial.of(trial) for trial in found.trials]
        if search.is_spent(known) and cut is None and found.state.name != "JOB_STATE_CANCELLING":
            print(f"the budget of {search.tune_budget:g} device-hours is spent: ending the search", flush=True)
            cut = {trial.id for trial in known if trial.state in UNDER_WAY}
            with contextlib.suppress(FailedPrecondition):  # It has just ended by itself.
                client.cancel_hyperparameter_tuning_job(name=name)
        time.sleep(wait if not search.tune_budget else min(wait, BUDGET_WAIT))
    raise AssertionError("waits never end")


def _progress(found: aiplatform_v1.HyperparameterTuningJob) -> str:
    known = [Trial.of(trial) for trial in found.trials]
    ended = [trial for trial in known if trial.state in ("SUCCEEDED", "INFEASIBLE")]
    losses = [trial.best[METRIC] for trial in known if trial.best]
    best = f"  best {METRIC} {min(losses):.3f}" if losses else ""
    spent = sum(trial.epochs for trial in known)
    counts = f"{len(ended)}/{found.max_trial_count} trials done, {len(known) - len(ended)} running"
    return f"{counts}  {spent} epochs{best}"


def _failure(name: str, done: aiplatform_v1.HyperparameterTuningJob, found: Sequence[Trial]) -> str:
    state = done.state.name.removeprefix("JOB_STATE_").lower()
    why = f": {done.error.message}" if done.error.message else ""
    reasons = [f"trial {trial.id}: {trial.reason}" for trial in found if trial.reason]
    first = f"; {reasons[0]}" if reasons else ""
    usable = sum(trial.usable for trial in found)
    return f"tuning job {name} is {state}{why}; {usable} of {len(found)} trials gave a usable {METRIC}{first}"


def _write(
    search: Search, found: Sequence[Trial], best: Trial, outputs: Outputs
) -> tuple[dict[str, Any], dict[str, Any]]:
    chosen = spaces.to_dict(spaces.parse(search.space, {**best.parameters, **search.decided}))
    metrics = {
        f"best_{METRIC}": best.best[METRIC],
        **trials.cost(found, search.trial_epochs),
        "device_hours": round(trials.device_hours(found), 4),
    }
    with executor.whole(outputs.hyperparameters) as aside:
        aside.write_text(json.dumps(chosen, indent=2) + "\n")
    with executor.whole(outputs.trials) as aside:
        trials.write_table(trials.table(found, search.trial_epochs), aside)
    with executor.whole(outputs.report) as aside:
        trials.write_report(found, search.trial_epochs, search.system, aside)
    with executor.whole(outputs.metrics) as aside:
        aside.write_text(json.dumps(metrics, indent=2) + "\n")
    print(
        f"best: trial {best.id}  {METRIC} {best.best[METRIC]:.3f}  " + "  ".join(f"{k} {v}" for k, v in chosen.items())
    )
    return chosen, metrics


def main(argv: Sequence[str]) -> None:
    """The command line; `--help` lists the flags."""
    parser = argparse.ArgumentParser(prog="python -m images.launcher.tune", description=__doc__, allow_abbrev=False)
    parser.add_argument("--project", required=True)
    parser.add_argument("--location", required=True)
    parser.add_argument("--job_name", required=True, help="display name of the tuning job")
    parser.add_argument("--gcp_resources", required=True, help="file that names the job, to write or to go on from")
    for field in dataclasses.fields(Search):
        required = field.default is dataclasses.MISSING
        kind = {"int": int, "float": float}.get(str(field.type), str)
        parser.add_argument(
            f"--{field.name}", type=kind, required=required, default=None if required else field.default
        )
    for field in dataclasses.fields(Outputs):
        parser.add_argument(f"--{field.name}", required=True, help="file to write")
    parser.add_argument("--executor_input", help="KFP's ExecutorInput; leave it out by hand")
    flags = vars(parser.parse_args(argv))
    search = Search(**{field.name: flags[field.name] for field in dataclasses.fields(Search)})
    outputs = Outputs(**{field.name: flags[field.name] for field in dataclasses.fields(Outputs)})
    logged = ExecutorOutput(flags["executor_input"])
    chosen, metrics = tune(
        search, flags["project"], flags["location"], flags["job_name"], flags["gcp_resources"], outputs
    )
    logged.log("hyperparameters", digest=executor.digest(outputs.hyperparameters), **chosen)
    logged.log("trials", digest=executor.digest(outputs.trials))
    logged.log("metrics", **metrics)
    logged.write()


if __name__ == "__main__":
    executor.run(main)
