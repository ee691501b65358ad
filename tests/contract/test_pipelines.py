"""Protects the SDK's pipeline jobs against localvertex, over gRPC and REST."""

import time
import uuid
from types import ModuleType
from typing import Any

import pytest
from google.api_core import exceptions
from kfp import compiler, dsl
from kfp.dsl import Dataset, Output

ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")


@dsl.container_component
def write(text: str, file: Output[Dataset]):
    return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", 'printf %s "$0" > "$1"'], args=[text, file.path])


@dsl.container_component
def wait(seconds: float):
    return dsl.ContainerSpec(image="alpine:3", command=["sleep"], args=[seconds])


@dsl.pipeline(name="contract")
def pipeline(text: str, seconds: float = 0.0) -> None:
    wait(seconds=seconds).after(write(text=text))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("template") / "pipeline.json"
    compiler.Compiler().compile(pipeline, str(file))
    return str(file)


@pytest.fixture
def job(aiplatform: ModuleType, template: str) -> Any:
    """Makes a job that is not submitted yet."""

    def make(caching: bool | None = None, **values: Any) -> Any:
        return aiplatform.PipelineJob(
            display_name="contract",
            template_path=template,
            job_id=f"contract-{uuid.uuid4().hex}",
            pipeline_root="gs://contract-tests/pipelines",
            parameter_values=values,
            labels={"owner": "tests"},
            enable_caching=caching,
        )

    return make


def ended(job: Any) -> str:
    """Wait for the end, more often than the SDK looks; the state it ended in."""
    while (state := job.state.name.removeprefix("PIPELINE_STATE_")) not in ENDED:
        time.sleep(0.05)
    return str(state)


def test_a_job_runs_and_shows_its_tasks(aiplatform: ModuleType, job: Any) -> None:
    submitted = job(text="a")
    submitted.submit()
    assert ended(submitted) == "SUCCEEDED", submitted.gca_resource.error
    found = aiplatform.PipelineJob.get(submitted.resource_name)
    details = {detail.task_name: detail for detail in found.task_details}
    assert set(details) == {found.name, "write", "wait"}
    assert details["write"].outputs["file"].artifacts[0].uri.startswith("gs://contract-tests/pipelines/")
    assert found.labels["owner"] == "tests"
    frame = aiplatform.get_pipeline_df("contract")
    assert submitted.name in set(frame["run_name"])
    assert "a" in set(frame["param.input:text"])


def test_a_second_run_is_cached_and_may_be_told_not_to_be(job: Any) -> None:
    text = uuid.uuid4().hex
    states = []
    for caching in (None, None, False):
        submitted = job(caching, text=text)
        submitted.submit()
        assert ended(submitted) == "SUCCEEDED"
        states.append({detail.task_name: detail.state.name for detail in submitted.task_details}["write"])
    assert states == ["SUCCEEDED", "SKIPPED", "SUCCEEDED"]


def test_jobs_are_listed_cancelled_and_deleted(aiplatform: ModuleType, job: Any) -> None:
    submitted = job(text="a", seconds=600.0)
    submitted.submit()
    while not any(detail.task_name == "wait" for detail in submitted.task_details):
        submitted._sync_gca_resource()
        time.sleep(0.05)
    submitted.cancel()
    assert ended(submitted) == "CANCELLED"
    listed = aiplatform.PipelineJob.list(filter='labels.owner="tests"', order_by="create_time desc")
    assert listed[0].resource_name == submitted.resource_name
    submitted.delete()
    with pytest.raises(exceptions.NotFound):
        aiplatform.PipelineJob.get(submitted.resource_name)


def test_jobs_are_cancelled_and_deleted_in_batches(aiplatform: ModuleType, job: Any) -> None:
    submitted = [job(text="a", seconds=600.0) for _ in range(2)]
    for one in submitted:
        one.submit()
    client, names = submitted[0].api_client, [one.resource_name for one in submitted]
    parent = names[0].rpartition("/pipelineJobs/")[0]
    with pytest.raises(exceptions.GoogleAPICallError, match="Cancel it first"):
        client.batch_delete_pipeline_jobs(parent=parent, names=names)
    cancelled = client.batch_cancel_pipeline_jobs(parent=parent, names=names).result()
    assert [one.name for one in cancelled.pipeline_jobs] == names
    assert [ended(one) for one in submitted] == ["CANCELLED"] * 2
    pages = client.list_pipeline_jobs(
        request={
            "parent": parent,
            "filter": 'state="PIPELINE_STATE_CANCELLED"',
            "order_by": "create_time desc",
            "page_size": 1,
            "read_mask": {"paths": ["name", "state"]},
        }
    ).pages
    first, second = next(pages), next(pages)
    assert [one.name for page in (first, second) for one in page.pipeline_jobs] == names[::-1]
    assert not first.pipeline_jobs[0].display_name, "the mask did not ask for it"
    client.batch_delete_pipeline_jobs(parent=parent, names=names).result()
    for name in names:
        with pytest.raises(exceptions.NotFound):
            aiplatform.PipelineJob.get(name)


def test_mistakes_are_refused_at_submit(job: Any) -> None:
    with pytest.raises((exceptions.InvalidArgument, exceptions.BadRequest), match="parameter text is required"):
        job(seconds=1.0).submit()
    with pytest.raises((exceptions.InvalidArgument, exceptions.BadRequest), match="expected STRING"):
        job(text=5).submit()
