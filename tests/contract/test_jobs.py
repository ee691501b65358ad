"""Protects the SDK's custom and tuning jobs against localvertex, over gRPC and REST."""

from __future__ import annotations

import time
from types import ModuleType
from typing import Any

import pytest
from google.api_core import exceptions

FOREVER = "import time; time.sleep(3600)"
TRIAL = """
import json, os, sys
given = dict(argument[2:].split("=") for argument in sys.argv[1:])
for epoch in range(1, 4):
    with open(os.environ["CLOUD_ML_HP_METRIC_FILE"], "a") as file:
        line = {"loss": str(float(given["rate"]) + 1 / epoch), "global_step": str(epoch)}
        file.write(json.dumps(line) + "\\n")
"""


def pool(code: str) -> dict[str, Any]:
    return {
        "machine_spec": {"machine_type": "n1-standard-4"},
        "replica_count": 1,
        "container_spec": {"image_uri": "example.test/job:1", "command": ["python", "-c", code]},
    }


def until(job: Any, state: str) -> None:
    """Wait for a state; far quicker than the SDK's own waiting, which looks every five seconds."""
    while job.state.name != f"JOB_STATE_{state}":
        assert state == "FAILED" or job.state.name != "JOB_STATE_FAILED", job.error
        time.sleep(0.05)


def tuning(aiplatform: ModuleType, code: str, **job: Any) -> Any:
    from google.cloud.aiplatform import hyperparameter_tuning as space

    trial = aiplatform.CustomJob(display_name="trial", worker_pool_specs=[pool(code)])
    return aiplatform.HyperparameterTuningJob(
        display_name="search",
        custom_job=trial,
        metric_spec={"loss": "minimize"},
        parameter_spec={
            "rate": space.DoubleParameterSpec(min=0.1, max=0.9, scale="linear"),
            "net": space.CategoricalParameterSpec(
                values=["a", "b"],
                conditional_parameter_spec={
                    "units": space.DiscreteParameterSpec(values=[8, 16], scale="linear", parent_values=["a"])
                },
            ),
        },
        **{"max_trial_count": 4, "parallel_trial_count": 2, "search_algorithm": "random", **job},
    )


def test_a_custom_job_runs_to_its_end(aiplatform: ModuleType) -> None:
    job = aiplatform.CustomJob(display_name="job", worker_pool_specs=[pool("print('done')")], labels={"a": "b"})
    job.run()
    assert job.state.name == "JOB_STATE_SUCCEEDED"
    assert job.create_time <= job.start_time <= job.end_time
    found = aiplatform.CustomJob.get(job.resource_name)
    assert found.labels["a"] == "b"
    assert job.resource_name in [one.resource_name for one in aiplatform.CustomJob.list(filter='labels.a="b"')]
    job.delete()
    with pytest.raises(exceptions.NotFound):
        aiplatform.CustomJob.get(job.resource_name)


def test_a_failing_custom_job_says_why(aiplatform: ModuleType) -> None:
    job = aiplatform.CustomJob(display_name="job", worker_pool_specs=[pool("raise SystemExit('no data')")])
    job.submit()
    until(job, "FAILED")
    assert "non-zero status of 1" in job.error.message and "no data" in job.error.message


def test_a_custom_job_can_be_cancelled(aiplatform: ModuleType) -> None:
    job = aiplatform.CustomJob(display_name="job", worker_pool_specs=[pool(FOREVER)])
    job.submit()
    until(job, "RUNNING")
    job.cancel()
    until(job, "CANCELLED")


def test_a_tuning_job_tries_measures_and_can_be_listed(aiplatform: ModuleType) -> None:
    job = tuning(aiplatform, TRIAL)
    job.run(sync=False)
    job.wait_for_resource_creation()
    until(job, "SUCCEEDED")
    assert len(job.trials) == 4
    for trial in job.trials:
        values = {parameter.parameter_id: parameter.value for parameter in trial.parameters}
        assert ("units" in values) == (values["net"] == "a")
        assert [measurement.step_count for measurement in trial.measurements] == [1, 2, 3]
        (final,) = trial.final_measurement.metrics
        assert final.value == pytest.approx(values["rate"] + 1 / 3)
    assert job.resource_name in [one.resource_name for one in aiplatform.HyperparameterTuningJob.list()]
    assert aiplatform.HyperparameterTuningJob.get(job.resource_name).trials == job.trials
    job.delete()
    with pytest.raises(exceptions.NotFound):
        aiplatform.HyperparameterTuningJob.get(job.resource_name)


def test_a_tuning_job_can_be_cancelled(aiplatform: ModuleType) -> None:
    job = tuning(aiplatform, FOREVER)
    job.run(sync=False)
    job.wait_for_resource_creation()
    until(job, "RUNNING")
    job.cancel()
    until(job, "CANCELLED")


def test_a_bad_request_is_refused(aiplatform: ModuleType) -> None:
    job = tuning(aiplatform, TRIAL, parallel_trial_count=9)
    with pytest.raises(exceptions.BadRequest, match="parallel_trial_count"):
        job.run()
