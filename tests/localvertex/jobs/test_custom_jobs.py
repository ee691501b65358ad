"""Protects custom jobs: their states, what replicas are told, and that none is lost or left running."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import (
    CancelCustomJobRequest,
    CustomJob,
    DeleteCustomJobRequest,
    JobState,
    ListCustomJobsRequest,
)
from google.rpc import code_pb2

from tests.localvertex.jobs.support import PARENT, Service, pool, until
from tests.localvertex.processes import workloads

SHOW = "import json, os; print(json.dumps(dict(os.environ)))"
FOREVER = "import time; print('begun', flush=True); time.sleep(3600)"


def package(**spec: object) -> dict[str, object]:
    """A worker pool that runs a module of a Python package in a pre-built image."""
    given = {"executor_image_uri": "image:1", "python_module": "trainer", "package_uris": ["gs://b/t.tar.gz"], **spec}
    return {"python_package_spec": given, "machine_spec": {"machine_type": "n1-standard-4"}, "replica_count": 1}


def environment(service: Service, job: CustomJob, worker: str = "workerpool0-0") -> dict[str, str]:
    found: dict[str, str] = json.loads(service.log(job, worker))
    return found


def running(service: Service, job: CustomJob) -> CustomJob:
    until(lambda: service.log(job))
    return service.get(job)


def test_a_job_succeeds_and_its_times_are_in_order(service: Service) -> None:
    job = service.custom("print('hello')")
    assert job.state == JobState.JOB_STATE_SUCCEEDED
    assert job.create_time <= job.start_time <= job.end_time <= job.update_time
    assert service.log(job) == "hello\n"


def test_a_failing_replica_fails_the_job_and_says_where_to_look(service: Service) -> None:
    job = service.custom("import sys; print('no such column'); sys.exit(3)")
    assert job.state == JobState.JOB_STATE_FAILED
    assert "workerpool0-0 exited with a non-zero status of 3" in job.error.message
    assert "no such column" in job.error.message and "workerpool0-0.log" in job.error.message


def test_replicas_learn_of_each_other(service: Service) -> None:
    job = service.custom("", worker_pool_specs=[pool(SHOW), pool(SHOW, replicas=2)])
    assert job.state == JobState.JOB_STATE_SUCCEEDED
    told = [environment(service, job, worker) for worker in ("workerpool0-0", "workerpool1-0", "workerpool1-1")]
    clusters = [json.loads(one["CLUSTER_SPEC"]) for one in told]
    assert [one["task"] for one in clusters] == [
        {"type": "workerpool0", "index": 0},
        {"type": "workerpool1", "index": 0},
        {"type": "workerpool1", "index": 1},
    ]
    assert clusters[0]["cluster"] == clusters[2]["cluster"]
    addresses = clusters[0]["cluster"]["workerpool0"] + clusters[0]["cluster"]["workerpool1"]
    assert len(set(addresses)) == 3
    tensorflow = json.loads(told[2]["TF_CONFIG"])
    assert tensorflow["task"] == {"type": "worker", "index": 1}
    assert tensorflow["cluster"] == {"chief": addresses[:1], "worker": addresses[1:]}


def test_evaluators_stand_outside_the_tensorflow_cluster(service: Service) -> None:
    job = service.custom("", worker_pool_specs=[pool(SHOW), pool(SHOW), {}, pool(SHOW)])
    told = environment(service, job, "workerpool3-0")
    tensorflow, cluster = json.loads(told["TF_CONFIG"]), json.loads(told["CLUSTER_SPEC"])
    assert tensorflow["task"] == {"type": "evaluator", "index": 0} and tensorflow["environment"] == "cloud"
    assert sorted(tensorflow["cluster"]) == ["chief", "worker"]
    assert sorted(cluster["cluster"]) == ["workerpool0", "workerpool1", "workerpool3"]
    assert cluster["job"]["worker_pool_specs"][3]["container_spec"]["image_uri"] == "example.test/job:1"


def test_a_single_replica_has_no_tf_config_and_its_own_variables_win(service: Service) -> None:
    job = service.custom("", worker_pool_specs=[pool(SHOW, env={"CLOUD_ML_JOB_ID": "mine", "COLOUR": "red"})])
    told = environment(service, job)
    assert "TF_CONFIG" not in told and "AIP_MODEL_DIR" not in told
    assert (told["CLOUD_ML_JOB_ID"], told["COLOUR"]) == ("mine", "red")


def test_output_folders_are_uris_in_a_bucket_that_is_there(service: Service) -> None:
    job = service.custom(
        "", worker_pool_specs=[pool(SHOW)], base_output_directory={"output_uri_prefix": "gs://bucket/run"}
    )
    told = environment(service, job)
    assert told["AIP_MODEL_DIR"] == "gs://bucket/run/model/"
    assert told["AIP_CHECKPOINT_DIR"] == "gs://bucket/run/checkpoints/"
    assert told["AIP_TENSORBOARD_LOG_DIR"] == "gs://bucket/run/logs/"
    assert (service.home.gcs / "bucket").is_dir()


def test_a_job_is_told_of_its_experiment(service: Service) -> None:
    contexts = f"{PARENT}/metadataStores/default/contexts"
    job = service.custom(
        "",
        worker_pool_specs=[pool(SHOW)],
        tensorboard=f"{PARENT}/tensorboards/1",
        experiment=f"{contexts}/words",
        experiment_run=f"{contexts}/words-first",
    )
    told = environment(service, job)
    assert (told["AIP_EXPERIMENT_NAME"], told["AIP_EXPERIMENT_RUN_NAME"]) == ("words", "first")
    assert told["AIP_TENSORBOARD_RESOURCE_NAME"] == f"{PARENT}/tensorboards/1"


def test_the_job_ends_with_its_chief(service: Service) -> None:
    waits_for_the_server = "import time; time.sleep(0.2)"
    job = service.custom("", worker_pool_specs=[pool(waits_for_the_server), pool("import sys; sys.exit(0)")])
    assert job.state == JobState.JOB_STATE_SUCCEEDED


def test_cancelling_ends_the_process(service: Service) -> None:
    job = service.custom(FOREVER, wait=False)
    assert running(service, job).state == JobState.JOB_STATE_RUNNING
    service.jobs.cancel_custom_job(CancelCustomJobRequest(name=job.name))
    assert service.get(job).state in (JobState.JOB_STATE_CANCELLING, JobState.JOB_STATE_CANCELLED)
    ended = service.finished(job)
    assert ended.state == JobState.JOB_STATE_CANCELLED and ended.error.code == code_pb2.CANCELLED
    assert not workloads(service.home)
    with pytest.raises(exceptions.FailedPrecondition, match="cannot be cancelled"):
        service.jobs.cancel_custom_job(CancelCustomJobRequest(name=job.name))


def test_the_timeout_fails_the_job(service: Service) -> None:
    job = service.custom(FOREVER, scheduling={"timeout": "1s"})
    assert job.state == JobState.JOB_STATE_FAILED and job.error.code == code_pb2.DEADLINE_EXCEEDED
    assert "timeout of 1 s" in job.error.message


@pytest.mark.parametrize("restart", [False, True])
def test_a_killed_worker_restarts_the_job_only_when_asked_to(service: Service, restart: bool) -> None:
    once = (
        "import os, signal, pathlib\n"
        "mark = pathlib.Path(os.environ['MARK']); again = mark.exists(); mark.touch()\n"
        "again or os.kill(os.getpid(), signal.SIGKILL)"
    )
    job = service.custom(
        "",
        worker_pool_specs=[pool(once, env={"MARK": service.mark()})],
        scheduling={"restart_job_on_worker_restart": restart},
    )
    assert job.state == (JobState.JOB_STATE_SUCCEEDED if restart else JobState.JOB_STATE_FAILED)
    assert restart or "status of 137" in job.error.message


def test_disabled_retries_keep_a_job_from_beginning_again(restarts: Callable[[], Service]) -> None:
    before = restarts()
    retrying = {"restart_job_on_worker_restart": True, "disable_retries": True}
    killed = before.custom("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", scheduling=retrying)
    assert killed.state == JobState.JOB_STATE_FAILED
    job = before.custom(FOREVER, wait=False, scheduling=retrying)
    running(before, job)
    before.close()
    after = restarts()
    after.jobs.resume()
    ended = after.finished(job)
    assert ended.state == JobState.JOB_STATE_FAILED and "retries are disabled" in ended.error.message


def test_a_job_goes_on_after_a_restart_of_the_server(restarts: Callable[[], Service]) -> None:
    code = "import pathlib, sys\nmark = pathlib.Path(sys.argv[1])\nmark.exists() and sys.exit(0)\nmark.touch()\n"
    before = restarts()
    job = before.custom("", wait=False, worker_pool_specs=[pool(code + FOREVER, before.mark())])
    running(before, job)
    before.jobs.close()
    assert not workloads(before.home)
    assert before.get(job).state == JobState.JOB_STATE_RUNNING
    after = restarts()
    after.jobs.resume()
    ended = after.finished(job)
    assert ended.state == JobState.JOB_STATE_SUCCEEDED
    assert ended.start_time == before.get(job).start_time


def test_a_cancelled_job_stays_cancelled_after_a_kill(restarts: Callable[[], Service]) -> None:
    before = restarts()
    job = before.store.create(CustomJob(name=f"{PARENT}/customJobs/1", state=JobState.JOB_STATE_CANCELLING))
    after = restarts()
    after.jobs.resume()
    assert after.get(job).state == JobState.JOB_STATE_CANCELLED


def test_jobs_beyond_the_places_wait_in_the_queue(service: Service) -> None:
    places = max(4, 2 * (os.cpu_count() or 1))
    jobs = [service.custom(FOREVER, wait=False) for _ in range(places)]
    for job in jobs:
        running(service, job)
    hasty = service.custom("", scheduling={"max_wait_duration": "0.3s"})
    assert hasty.state == JobState.JOB_STATE_FAILED and "longer than 0.3 s" in hasty.error.message
    late = service.custom("", wait=False)
    assert service.get(late).state == JobState.JOB_STATE_QUEUED
    service.jobs.cancel_custom_job(CancelCustomJobRequest(name=jobs[0].name))
    assert service.finished(late).state == JobState.JOB_STATE_SUCCEEDED


def test_lists_are_filtered_and_deletion_needs_an_ended_job(service: Service) -> None:
    good, bad = service.custom(""), service.custom("raise SystemExit(1)")
    listed = service.jobs.list_custom_jobs(ListCustomJobsRequest(parent=PARENT, filter='state="JOB_STATE_FAILED"'))
    assert [job.name for job in listed.custom_jobs] == [bad.name]
    forever = service.custom(FOREVER, wait=False)
    running(service, forever)
    with pytest.raises(exceptions.FailedPrecondition, match="cancel it before"):
        service.jobs.delete_custom_job(DeleteCustomJobRequest(name=forever.name))
    service.jobs.delete_custom_job(DeleteCustomJobRequest(name=good.name))
    with pytest.raises(exceptions.NotFound):
        until(lambda: service.get(good), lambda job: False)


def test_a_command_that_does_not_exist_fails_the_job(service: Service) -> None:
    spec = pool("")
    spec["container_spec"]["command"] = ["no-such-command"]
    job = service.custom("", worker_pool_specs=[spec])
    assert job.state == JobState.JOB_STATE_FAILED and "no-such-command" in job.error.message


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ({"worker_pool_specs": []}, exceptions.InvalidArgument, "must not be empty"),
        ({"worker_pool_specs": [package(python_module="")]}, exceptions.InvalidArgument, "python_module is required"),
        ({"worker_pool_specs": [package(package_uris=[])]}, exceptions.InvalidArgument, "between 1 and 100 packages"),
        (
            {"worker_pool_specs": [package(package_uris=["/tmp/trainer.tar.gz"])]},
            exceptions.InvalidArgument,
            "is not a gs:// URI",
        ),
        (
            {"worker_pool_specs": [pool("")], "persistent_resource_id": "cluster"},
            exceptions.MethodNotImplemented,
            "persistent_resource_id is not supported",
        ),
        (
            {"worker_pool_specs": [pool("", replicas=2)]},
            exceptions.InvalidArgument,
            "replica_count must be 1",
        ),
        ({"worker_pool_specs": [{"replica_count": 1}]}, exceptions.InvalidArgument, "image_uri is required"),
        (
            {"worker_pool_specs": [pool("")], "base_output_directory": {"output_uri_prefix": "gs://b/../x"}},
            exceptions.InvalidArgument,
            "must be a gs:// URI",
        ),
    ],
)
def test_a_job_that_cannot_run_is_refused(
    service: Service, spec: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        service.custom("", **spec)


def test_a_killed_process_tree_leaves_nothing_behind(service: Service) -> None:
    code = (
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3600)'])\n" + FOREVER
    )
    job = service.custom(code, wait=False)
    running(service, job)
    chief = workloads(service.home)[0]
    os.kill(chief.pid, signal.SIGKILL)
    assert service.finished(job).state == JobState.JOB_STATE_FAILED
    until(lambda: not workloads(service.home))
