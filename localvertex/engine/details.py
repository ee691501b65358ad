"""A run's tasks as the API shows them.

In plain protocol buffers: a run has many tasks, clients ask for them again and again, and proto-plus takes several
times as long to fill a message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.cloud.aiplatform_v1.types import Artifact as ArtifactResource
from google.cloud.aiplatform_v1.types import Execution, PipelineJob, PipelineTaskDetail
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2

from localvertex import names as names_of
from localvertex.engine.journal import Record
from localvertex.engine.values import Artifact, Outputs, State
from localvertex.store import Store


def show_tasks(job: PipelineJob, records: Mapping[str, Record], store: Store) -> None:
    """Set a job's task details: one a task, in the order in which the run met them; the first is the pipeline itself.

    Args:
        job: whose details to set.
        records: the run's tasks by path.
        store: where their executions are.
    """
    names = [record.execution for record in records.values() if record.execution]
    executions = {str(found.name): found for found in store.find_all(Execution, names)}
    groups = {record.parent for record in records.values()}
    job_detail = PipelineJob.pb(job).job_detail
    job_detail.ClearField("task_details")
    for record in records.values():
        detail = job_detail.task_details.add()
        _describe(detail, record)
        if record.path:
            detail.parent_task_id = records[record.parent].task_id
        if record.path not in groups and record.started and record.state is not State.SKIPPED:
            # By its id, Cloud Logging finds what the task printed.
            parent = names_of.location_parent(record.job)
            detail.executor_detail.container_detail.main_job = f"{parent}/customJobs/{record.task_id}"
        if record.execution in executions:
            detail.execution.CopyFrom(Execution.pb(executions[record.execution]))


def _describe(detail: Any, record: Record) -> None:
    detail.task_id = record.task_id
    detail.task_name = record.name
    detail.state = int(PipelineTaskDetail.State(int(record.state)))
    for field, seconds in (
        (detail.create_time, record.created),
        (detail.start_time, record.started),
        (detail.end_time, record.ended),
    ):
        if seconds:
            field.CopyFrom(moment(seconds))
    for lists, text in ((detail.inputs, record.inputs), (detail.outputs, record.outputs)):
        for name, artifacts in (Outputs.from_json(text).artifacts if text else {}).items():
            found = lists[name].artifacts
            for artifact in artifacts:
                _fill(found.add(), artifact)
    if record.error and record.state is State.FAILED:
        detail.error.code, detail.error.message = code_pb2.FAILED_PRECONDITION, record.error


def _fill(resource: Any, artifact: Artifact) -> None:
    resource.name = artifact.name
    resource.display_name = artifact.display_name
    resource.uri = artifact.uri
    resource.schema_title = artifact.schema_title
    resource.schema_version = artifact.schema_version
    resource.metadata.update(artifact.metadata)
    resource.state = int(ArtifactResource.State.LIVE)


def moment(seconds: float) -> Timestamp:
    """Seconds since 1970 as a protobuf timestamp."""
    stamp = Timestamp()
    stamp.FromNanoseconds(int(seconds * 1e9))
    return stamp
