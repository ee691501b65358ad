"""A run's tasks as the API shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.cloud.aiplatform_v1.types import Artifact as ArtifactResource
from google.cloud.aiplatform_v1.types import Execution, PipelineTaskDetail
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2, status_pb2

from localvertex.engine.journal import Record
from localvertex.engine.values import Artifact, Outputs, State
from localvertex.store import Store


def task_details(records: Mapping[str, Record], store: Store) -> list[PipelineTaskDetail]:
    """One entry a task, in the order in which the run met them; the first is the pipeline itself."""
    names = [record.execution for record in records.values() if record.execution]
    executions = {str(found.name): found for found in store.find_all(Execution, names)}
    return [_detail(record, records, executions) for record in records.values()]


def _detail(record: Record, records: Mapping[str, Record], executions: Mapping[str, Execution]) -> PipelineTaskDetail:
    detail = PipelineTaskDetail(
        task_id=record.task_id,
        task_name=record.name,
        state=PipelineTaskDetail.State(int(record.state)),
        create_time=moment(record.created),
        inputs=_artifact_lists(record.inputs),
        outputs=_artifact_lists(record.outputs),
        execution=executions.get(record.execution),
    )
    if record.path:
        detail.parent_task_id = records[record.parent].task_id
    if record.started:
        detail.start_time = moment(record.started)
    if record.ended:
        detail.end_time = moment(record.ended)
    if record.error and record.state is State.FAILED:
        detail.error = status_pb2.Status(code=code_pb2.FAILED_PRECONDITION, message=record.error)
    return detail


def _artifact_lists(text: str) -> dict[str, Any]:
    lists = Outputs.from_json(text).artifacts if text else {}
    return {
        name: PipelineTaskDetail.ArtifactList(artifacts=[_resource(item) for item in items])
        for name, items in lists.items()
    }


def _resource(artifact: Artifact) -> ArtifactResource:
    return ArtifactResource(
        name=artifact.name,
        display_name=artifact.display_name,
        uri=artifact.uri,
        schema_title=artifact.schema_title,
        schema_version=artifact.schema_version,
        metadata=artifact.metadata,
        state=ArtifactResource.State.LIVE,
    )


def moment(seconds: float) -> Timestamp:
    """Seconds since 1970 as a protobuf timestamp."""
    stamp = Timestamp()
    stamp.FromNanoseconds(int(seconds * 1e9))
    return stamp
