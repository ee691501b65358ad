"""Protects batch prediction with real servers: every instance is predicted or named with its problem, once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import (
    BatchPredictionJob,
    CancelBatchPredictionJobRequest,
    CreateBatchPredictionJobRequest,
    DeleteBatchPredictionJobRequest,
    GetBatchPredictionJobRequest,
    ListBatchPredictionJobsRequest,
)

from tests.localvertex.processes import workloads
from tests.localvertex.serving.support import PARENT, Service, container, until

ENDED = ("JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED")
RESOURCES = {"machine_spec": {"machine_type": "n1-standard-2"}, "starting_replica_count": 1, "max_replica_count": 1}


def write(service: Service, uri: str, *instances: Any) -> str:
    """A JSONL file in a bucket; text is a line as it is."""
    path = service.buckets.path(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in instances))
    return uri


def start(service: Service, uris: str | list[str], format: str = "jsonl", **job: Any) -> str:
    given = {
        "display_name": "batch",
        "input_config": {
            "instances_format": format,
            "gcs_source": {"uris": [uris] if isinstance(uris, str) else uris},
        },
        "output_config": {
            "predictions_format": "jsonl",
            "gcs_destination": {"output_uri_prefix": "gs://out/predictions/"},
        },
        "dedicated_resources": RESOURCES,
        **job,
    }
    if "unmanaged_container_model" not in given:
        given.setdefault("model", service.upload())
    request = CreateBatchPredictionJobRequest(parent=PARENT, batch_prediction_job=given)
    return str(service.batches.create_batch_prediction_job(request).name)


def get(service: Service, name: str) -> BatchPredictionJob:
    return service.batches.get_batch_prediction_job(GetBatchPredictionJobRequest(name=name))


def ended(service: Service, name: str) -> BatchPredictionJob:
    return until(lambda: get(service, name), lambda job: job.state.name in ENDED)


def results(service: Service, job: BatchPredictionJob, kind: str = "results") -> list[Any]:
    folder = service.buckets.path(job.output_info.gcs_output_directory)
    files = sorted(folder.glob(f"prediction.{kind}-*"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_every_instance_of_all_files_is_predicted(service: Service) -> None:
    for part in range(3):
        write(service, f"gs://inputs/day/part-{part}.jsonl", *({"n": 10 * part + n} for n in range(7)))
    write(service, "gs://inputs/day/other.txt", "not JSON")
    write(service, "gs://inputs/day/deeper/part-9.jsonl", {"n": 99})
    parameters = {"model_parameters": {"beam": 3}, "manual_batch_tuning_parameters": {"batch_size": 4}}
    resources = {**RESOURCES, "starting_replica_count": 2, "max_replica_count": 2}
    model = service.upload("reader/words")
    name = start(service, "gs://inputs/day/part-*.jsonl", model=model, dedicated_resources=resources, **parameters)
    job = ended(service, name)
    assert job.state.name == "JOB_STATE_SUCCEEDED", job.error
    found = results(service, job)
    assert sorted(row["instance"]["n"] for row in found) == [10 * part + n for part in range(3) for n in range(7)]
    assert all(json.loads(row["prediction"]["saw"]) == row["instance"] for row in found)
    assert len({row["prediction"]["pid"] for row in found}) == 2
    stats = job.completion_stats
    assert (stats.successful_count, stats.failed_count, stats.incomplete_count) == (21, 0, 0)
    folder = service.buckets.path(job.output_info.gcs_output_directory)
    assert folder.name.startswith("prediction-reader_words-20") and folder.parent.name == "predictions"
    assert sorted(file.name for file in folder.iterdir()) == [
        "prediction.errors_stats-00000-of-00001",
        "prediction.results-00000-of-00002",
        "prediction.results-00001-of-00002",
    ]
    assert (job.model_version_id, job.start_time <= job.end_time) == ("1", True)
    assert not workloads(service.home) and not list((service.home.path / "tmp").iterdir())


def test_bad_instances_are_named_with_their_problem_and_the_others_predicted(service: Service) -> None:
    uri = write(service, "gs://inputs/mixed.jsonl", {"id": 1, "a": 2}, "nonsense", {"id": 2}, [3], {"id": 4, "a": 5})
    broken = write(service, "gs://inputs/broken.jsonl", 400, 7)
    job = ended(service, start(service, uri, instance_config={"key_field": "id", "included_fields": ["a"]}))
    assert job.state.name == "JOB_STATE_SUCCEEDED", job.error
    assert [(row["key"], json.loads(row["prediction"]["saw"])) for row in results(service, job)] == [
        (1, {"a": 2}),
        (4, {"a": 5}),
    ]
    problems = [row["error"]["message"] for row in results(service, job, "errors_stats")]
    assert len(problems) == job.completion_stats.failed_count == 3
    assert "not valid JSON" in problems[0] and "no field 'a'" in problems[1] and "not a JSON object" in problems[2]
    # The server refuses a batch as a whole: only the instance at fault is.
    job = ended(service, start(service, [broken, "gs://inputs/missing.jsonl"]))
    assert [row["instance"] for row in results(service, job)] == [7]
    (error,) = results(service, job, "errors_stats")
    assert error == {"instance": 400, "error": {"code": 3, "message": "instance 0: 400 is bad"}}
    (failure,) = job.partial_failures
    assert "gs://inputs/missing.jsonl cannot be read: No such file" in failure.message


def test_an_instance_that_ends_its_server_does_not_take_the_others_with_it(service: Service) -> None:
    job = ended(service, start(service, write(service, "gs://inputs/deadly.jsonl", "1", '"die"', "3")))
    assert job.state.name == "JOB_STATE_SUCCEEDED", job.error
    assert [row["instance"] for row in results(service, job)] == [1, 3]
    (error,) = results(service, job, "errors_stats")
    assert error["instance"] == "die" and "broke off" in error["error"]["message"]


def test_unmanaged_models_need_no_registry(service: Service) -> None:
    unmanaged = {"container_spec": container("unmanaged"), "artifact_uri": "gs://b/model"}
    uri = write(service, "gs://inputs/one.csv", '"a","b"', '1,"x"')
    job = ended(service, start(service, uri, "csv", unmanaged_container_model=unmanaged))
    (row,) = results(service, job)
    assert row["prediction"]["by"] == "unmanaged" and row["instance"] == [1.0, "x"]


@pytest.mark.parametrize(
    ("uri", "model", "message"),
    [
        ("gs://inputs/nothing-*", {}, r"there is no file gs://inputs/nothing-\*"),
        ("gs://inputs/bad.jsonl", {}, "No instance was predicted: instance 0: 400 is bad.*prediction-reader"),
        ("gs://inputs/bad.jsonl", {"command": ["python", "-c", "raise SystemExit('no weights')"]}, "no weights"),
        ("gs://inputs/bad.jsonl", {"command": []}, "example.test/server:1: no command is given"),
    ],
)
def test_a_job_that_predicts_nothing_fails_and_says_why(
    service: Service, uri: str, model: dict[str, Any], message: str
) -> None:
    write(service, "gs://inputs/bad.jsonl", 400, 400)
    job = ended(service, start(service, uri, model=service.upload(container_spec=container(**model))))
    assert job.state.name == "JOB_STATE_FAILED" and not workloads(service.home)
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(job.error.message)


def test_jobs_are_listed_cancelled_and_deleted(service: Service) -> None:
    name = start(service, write(service, "gs://inputs/slow.jsonl", '"sleep"'), labels={"kind": "slow"})
    until(lambda: workloads(service.home))
    with pytest.raises(exceptions.FailedPrecondition, match="cancel it before"):
        service.batches.delete_batch_prediction_job(DeleteBatchPredictionJobRequest(name=name))
    service.batches.cancel_batch_prediction_job(CancelBatchPredictionJobRequest(name=name))
    job = ended(service, name)
    assert job.state.name == "JOB_STATE_CANCELLED" and not job.output_info.gcs_output_directory
    request = ListBatchPredictionJobsRequest(parent=PARENT, filter='labels.kind="slow"', read_mask={"paths": ["name"]})
    (listed,) = service.batches.list_batch_prediction_jobs(request).batch_prediction_jobs
    assert (listed.name, listed.display_name) == (name, "")
    service.done(service.batches.delete_batch_prediction_job(DeleteBatchPredictionJobRequest(name=name)))
    assert not workloads(service.home)
    with pytest.raises(exceptions.NotFound):
        get(service, name)


def test_a_job_begins_anew_after_a_restart(restarts: Callable[[], Service]) -> None:
    before = restarts()
    uri = write(before, "gs://inputs/slow.jsonl", '"sleep"')
    name = start(before, uri)
    until(lambda: workloads(before.home))
    before.close()
    after = restarts()
    assert get(after, name).state.name == "JOB_STATE_RUNNING" and not workloads(after.home)
    write(after, uri, {"n": 1})
    after.batches.resume()
    job = ended(after, name)
    assert job.state.name == "JOB_STATE_SUCCEEDED" and len(results(after, job)) == 1


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ({"display_name": ""}, "display_name is required"),
        ({"unmanaged_container_model": {}, "model": "m"}, "exactly one of model and unmanaged_container_model"),
        ({"unmanaged_container_model": {}}, "container_spec.image_uri is required"),
        ({"input_config": {"instances_format": "parquet"}}, "must be one of jsonl, csv, .*not 'parquet'"),
        ({"input_config": {"instances_format": "jsonl"}}, "gcs_source.uris must not be empty"),
        ({"output_config": {"predictions_format": "jsonl"}}, "output_uri_prefix: '' is not of the form"),
        ({"dedicated_resources": {}}, "machine_type is required"),
        ({"instance_config": {"included_fields": ["a"], "excluded_fields": ["b"]}}, "cannot both be set"),
        ({"model": f"{PARENT}/models/none"}, "none is not found"),
        ({"generate_explanation": True}, "generate_explanation is not supported"),
        ({"input_config": {"bigquery_source": {"input_uri": "bq://p.d.t"}}}, "input_config.bigquery_source is not"),
    ],
)
def test_jobs_that_cannot_run_are_refused(service: Service, job: dict[str, Any], message: str) -> None:
    with pytest.raises(exceptions.GoogleAPICallError, match=message) as refused:
        start(service, "gs://inputs/a.jsonl", **job)
    assert refused.value.code in (400, 404, 501)
