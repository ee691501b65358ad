"""Protects the metadata service: what the reference promises of each call, and what it refuses."""

from __future__ import annotations

import inspect
import itertools
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1 import types
from google.cloud.aiplatform_v1.services.metadata_service import MetadataServiceClient
from google.cloud.aiplatform_v1.types import Artifact, Context, Event, Execution, MetadataSchema
from google.longrunning import operations_pb2
from google.protobuf import field_mask_pb2

from localvertex.home import Home
from localvertex.lineage import Lineage
from localvertex.services.metadata import MetadataService
from localvertex.services.operations import Operations
from localvertex.store import Store

LOCATION = "projects/100000000001/locations/us-central1"
STORE = f"{LOCATION}/metadataStores/default"


class Service:
    """The service, with long-running operations waited for."""

    def __init__(self, folder: Path, url: str) -> None:
        self.store = Store(url)
        self.operations = Operations(self.store)
        self.api = MetadataService(self.store, Home(folder), self.operations)

    def done(self, operation: operations_pb2.Operation, response: Any = None) -> Any:
        """What an operation answered, as a `response`."""
        while not operation.done:
            time.sleep(0.01)
            operation = self.operations.get_operation(operations_pb2.GetOperationRequest(name=operation.name))
        assert not operation.HasField("error"), operation.error
        if response is not None:
            answer = response()
            operation.response.Unpack(response.pb(answer))
            return answer
        return None

    def artifact(self, id: str, **fields: Any) -> Artifact:
        return self.api.create_artifact(
            types.CreateArtifactRequest(parent=STORE, artifact=Artifact(**fields), artifact_id=id)
        )

    def execution(self, id: str, **fields: Any) -> Execution:
        return self.api.create_execution(
            types.CreateExecutionRequest(parent=STORE, execution=Execution(**fields), execution_id=id)
        )

    def context(self, id: str, **fields: Any) -> Context:
        return self.api.create_context(
            types.CreateContextRequest(parent=STORE, context=Context(**fields), context_id=id)
        )

    def contexts(self, filter: str = "") -> set[str]:
        found = self.api.list_contexts(types.ListContextsRequest(parent=STORE, filter=filter))
        return {item.name.rsplit("/", 1)[1] for item in found.contexts}


@pytest.fixture
def service(tmp_path: Path, new_database: Callable[[], str]) -> Iterator[Service]:
    service = Service(tmp_path, new_database())
    yield service
    service.store.close()


def mask(*paths: str) -> field_mask_pb2.FieldMask:
    return field_mask_pb2.FieldMask(paths=paths)


def test_every_call_of_the_api_is_answered() -> None:
    calls = {
        name
        for name, _ in inspect.getmembers(MetadataServiceClient, inspect.isfunction)
        if name.split("_")[0] in ("create", "get", "list", "update", "delete", "purge", "query", "add", "remove")
    }
    elsewhere = {"get_location", "list_locations", "get_operation", "list_operations", "delete_operation"}
    mixins = elsewhere | {"get_iam_policy", "get_mtls_endpoint_and_cert_source"}
    missing = {name for name in calls - mixins if not hasattr(MetadataService, name)}
    assert missing == set()


def test_the_default_store_is_made_by_asking_or_by_use(service: Service) -> None:
    ask = types.GetMetadataStoreRequest(name=STORE)
    with pytest.raises(exceptions.NotFound, match=r"MetadataStore .*/default is not found"):
        service.api.get_metadata_store(ask)
    create = types.CreateMetadataStoreRequest(parent=LOCATION, metadata_store_id="default")
    made = service.done(service.api.create_metadata_store(create), types.MetadataStore)
    assert service.api.get_metadata_store(ask) == made
    with pytest.raises(exceptions.AlreadyExists):
        service.api.create_metadata_store(create)
    elsewhere = STORE.replace("us-central1", "europe-west4")
    assert not service.api.list_artifacts(types.ListArtifactsRequest(parent=elsewhere)).artifacts
    assert service.api.get_metadata_store(types.GetMetadataStoreRequest(name=elsewhere))


def test_deleting_a_store_deletes_what_is_in_it(service: Service) -> None:
    execution = service.execution("exec")
    artifact, context = service.artifact("artifact"), service.context("context")
    service.api.add_execution_events(
        types.AddExecutionEventsRequest(
            execution=execution.name, events=[Event(artifact=artifact.name, type_=Event.Type.INPUT)]
        )
    )
    service.api.add_context_artifacts_and_executions(
        types.AddContextArtifactsAndExecutionsRequest(
            context=context.name, artifacts=[artifact.name], executions=[execution.name]
        )
    )
    service.done(service.api.delete_metadata_store(types.DeleteMetadataStoreRequest(name=STORE)))
    assert not service.api.list_metadata_stores(types.ListMetadataStoresRequest(parent=LOCATION)).metadata_stores
    again = service.execution("exec"), service.context("context")
    assert not service.api.query_execution_inputs_and_outputs(
        types.QueryExecutionInputsAndOutputsRequest(execution=again[0].name)
    ).events
    assert not service.api.query_context_lineage_subgraph(
        types.QueryContextLineageSubgraphRequest(context=again[1].name)
    ).executions


def test_what_has_no_id_gets_one(service: Service) -> None:
    one, other = service.artifact(""), service.artifact("")
    assert one.name != other.name and one.name.startswith(f"{STORE}/artifacts/")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"id": "abc"}, "4 to 128 characters"),
        ({"id": "Upper"}, "lower-case"),
        ({"id": "good", "schema_title": "mine.Thing"}, "no metadata schema mine.Thing"),
        ({"id": "good", "labels": {"Env": "x"}}, 'label "Env"'),
        ({"id": "good", "labels": {"env": "x" * 65}}, "at most 64"),
        ({"id": "good", "display_name": "x" * 129}, "longer than 128"),
        ({"id": "good", "metadata": {"x": "y" * 210_000}}, "larger than 200 KB"),
    ],
)
def test_what_the_reference_forbids_is_refused(service: Service, fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match=problem):
        service.artifact(**fields)
    assert not service.store.select(Artifact)


def test_a_store_must_exist_and_be_named_properly(service: Service) -> None:
    with pytest.raises(exceptions.NotFound, match="metadataStores/other"):
        service.api.list_artifacts(types.ListArtifactsRequest(parent=f"{LOCATION}/metadataStores/other"))
    with pytest.raises(exceptions.InvalidArgument, match="must have the form"):
        service.api.list_artifacts(types.ListArtifactsRequest(parent=LOCATION))


def test_schemas_are_built_in_or_registered_first(service: Service) -> None:
    assert service.artifact("", schema_title="google.VertexModel").schema_version == "0.0.1"

    def register(schema: str, version: str) -> MetadataSchema:
        return service.api.create_metadata_schema(
            types.CreateMetadataSchemaRequest(
                parent=STORE,
                metadata_schema=MetadataSchema(schema=schema, schema_version=version, schema_type=1),
            )
        )

    register("type: object\ntitle: mine.Thing\n", "1.9.0")
    newest = register("title: mine.Thing\n", "1.10.0")
    assert service.artifact("", schema_title="mine.Thing").schema_version == "1.10.0"
    assert service.artifact("", schema_title="mine.Thing", schema_version="1.9.0").schema_version == "1.9.0"
    with pytest.raises(exceptions.AlreadyExists, match=newest.name):
        register("title: mine.Thing", "1.10.0")
    with pytest.raises(exceptions.InvalidArgument, match="title"):
        register("type: object", "1.0.0")
    with pytest.raises(exceptions.InvalidArgument, match="schema_version"):
        register("title: x", "1")
    listed = service.api.list_metadata_schemas(
        types.ListMetadataSchemasRequest(parent=STORE, filter='schema_type="CONTEXT_TYPE"')
    ).metadata_schemas
    assert {schema.schema.split()[1] for schema in listed} == {
        *("system.Experiment", "system.ExperimentRun", "system.Pipeline", "system.PipelineRun")
    }
    assert service.api.get_metadata_schema(types.GetMetadataSchemaRequest(name=newest.name)) == newest


def test_an_update_without_a_mask_changes_what_is_set(service: Service) -> None:
    made = service.artifact("thing", display_name="old", uri="gs://b/x", metadata={" a ": 1, "b": 2})
    assert dict(made.metadata) == {"a": 1, "b": 2}
    changed = service.api.update_artifact(
        types.UpdateArtifactRequest(artifact=Artifact(name=made.name, metadata={"c": 3}, state=2))
    )
    assert (changed.display_name, changed.uri, changed.state) == ("old", "gs://b/x", Artifact.State.LIVE)
    assert dict(changed.metadata) == {"c": 3}
    assert changed.create_time == made.create_time and changed.update_time > made.update_time


def test_an_update_with_a_mask_changes_just_that(service: Service) -> None:
    made = service.context("thing", display_name="old", labels={"a": "1"}, metadata={"a": 1, "b": 2})

    def update(*paths: str, **fields: Any) -> Context:
        return service.api.update_context(
            types.UpdateContextRequest(context=Context(name=made.name, **fields), update_mask=mask(*paths))
        )

    new = {"display_name": "new", "metadata": {"a": 5, "c": 6}, "labels": {"z": "9"}}
    changed = update("metadata.a", "metadata.b", "name", **new)
    assert (changed.display_name, dict(changed.metadata)) == ("old", {"a": 5})
    assert dict(update("labels").labels) == {}
    everything = update("*", **new)
    assert (everything.display_name, dict(everything.labels)) == ("new", {"z": "9"})
    for path in ("nonsense", "display_name.x"):
        with pytest.raises(exceptions.InvalidArgument, match=f'no field "{path}"'):
            update(path)


def test_a_stale_etag_is_refused_in_the_words_that_the_sdk_understands(service: Service) -> None:
    made = service.context("thing")
    fresh = service.api.update_context(types.UpdateContextRequest(context=Context(made, description="1")))
    with pytest.raises(exceptions.Aborted) as refused:
        service.api.update_context(types.UpdateContextRequest(context=Context(made, description="2")))
    # As in google/cloud/aiplatform/metadata/context.py; tests/contract sees the SDK itself try again.
    found = re.match(r"Specified Context `etag`: `(\d+)` does not match server `etag`: `(\d+)`", refused.value.message)
    assert found is not None and found.groups() == (made.etag, fresh.etag) and made.etag < fresh.etag
    with pytest.raises(exceptions.FailedPrecondition):
        service.api.delete_context(types.DeleteContextRequest(name=made.name, etag=made.etag))
    service.done(service.api.delete_context(types.DeleteContextRequest(name=made.name, etag=fresh.etag)))


def test_an_update_may_create(service: Service) -> None:
    execution = Execution(name=f"{STORE}/executions/fresh", schema_title="system.Run")
    with pytest.raises(exceptions.NotFound):
        service.api.update_execution(types.UpdateExecutionRequest(execution=execution))
    made = service.api.update_execution(types.UpdateExecutionRequest(execution=execution, allow_missing=True))
    assert made.schema_version == "0.0.1"
    assert service.api.get_execution(types.GetExecutionRequest(name=made.name)) == made


def test_a_custom_type_that_a_pipeline_recorded_can_be_updated(service: Service, tmp_path: Path) -> None:
    made = Lineage(service.store, Home(tmp_path)).new_artifact(None, schema_title="mine.Thing", uri="gs://b/x")
    changed = service.api.update_artifact(types.UpdateArtifactRequest(artifact=Artifact(made, description="looked at")))
    assert changed.description == "looked at"


def test_contexts_know_their_parents_and_are_found_by_them(service: Service) -> None:
    parent, child, other = (service.context(id) for id in ("parent", "child", "other"))
    service.api.add_context_children(types.AddContextChildrenRequest(context=parent.name, child_contexts=[child.name]))
    asked = service.api.get_context(types.GetContextRequest(name=child.name))
    assert list(asked.parent_contexts) == [parent.name]
    # Linking is no change of the child: an etag read before still serves for an update.
    service.api.update_context(types.UpdateContextRequest(context=Context(child, description="x")))
    assert service.contexts(f'parent_contexts:"{parent.name}"') == {"child"}
    assert service.contexts(f'child_contexts:"{child.name}"') == {"parent"}
    assert service.contexts(f'NOT parent_contexts:"{parent.name}" AND display_name=""') == {"parent", "other"}
    assert service.contexts(f'parent_contexts:"{parent.name}","{other.name}"') == set()
    with pytest.raises(exceptions.InvalidArgument, match="supports only ':'"):
        service.contexts(f'parent_contexts="{parent.name}"')
    service.api.remove_context_children(
        types.RemoveContextChildrenRequest(context=parent.name, child_contexts=[child.name])
    )
    assert service.contexts(f'parent_contexts:"{parent.name}"') == set()


def test_deleting_a_node_takes_its_edges_along(service: Service) -> None:
    execution, artifact = service.execution("exec"), service.artifact("artifact")
    service.api.add_execution_events(
        types.AddExecutionEventsRequest(
            execution=execution.name, events=[Event(artifact=artifact.name, type_=Event.Type.OUTPUT)]
        )
    )
    service.done(service.api.delete_artifact(types.DeleteArtifactRequest(name=artifact.name)))
    rest = service.api.query_execution_inputs_and_outputs(
        types.QueryExecutionInputsAndOutputsRequest(execution=execution.name)
    )
    assert not rest.events and not rest.artifacts and len(rest.executions) == 1
    with pytest.raises(exceptions.NotFound):
        service.api.delete_artifact(types.DeleteArtifactRequest(name=artifact.name))


def test_a_purge_counts_before_it_deletes(service: Service) -> None:
    for i in range(5):
        service.artifact(f"artifact-{i}", display_name="old" if i % 2 else "new")

    def purge(filter: str, force: bool) -> types.PurgeArtifactsResponse:
        request = types.PurgeArtifactsRequest(parent=STORE, filter=filter, force=force)
        return service.done(service.api.purge_artifacts(request), types.PurgeArtifactsResponse)

    counted = purge("display_name=old", force=False)
    assert counted.purge_count == len(counted.purge_sample) == 2
    assert len(service.store.select(Artifact)) == 5
    assert purge("display_name=old", force=True).purge_count == 2
    assert {item.display_name for item in service.store.select(Artifact)} == {"new"}
    with pytest.raises(exceptions.InvalidArgument, match="filter is required"):
        purge(" ", force=True)
    with pytest.raises(exceptions.InvalidArgument, match="position 1"):
        purge("nonsense=1", force=True)
    service.execution("exec")
    service.context("context")
    done = service.done(
        service.api.purge_executions(
            types.PurgeExecutionsRequest(parent=STORE, filter="update_time>2020-01-01T00:00:00Z", force=True)
        ),
        types.PurgeExecutionsResponse,
    )
    assert done.purge_count == 1
    done = service.done(
        service.api.purge_contexts(types.PurgeContextsRequest(parent=STORE, filter="name:*", force=True)),
        types.PurgeContextsResponse,
    )
    assert done.purge_count == 1 and not service.contexts()


def test_lineage_can_be_filtered_and_limited(service: Service) -> None:
    names = [service.artifact(f"artifact-{i}", metadata={"n": i}).name for i in range(3)]
    for i, (source, product) in enumerate(itertools.pairwise(names)):
        service.api.add_execution_events(
            types.AddExecutionEventsRequest(
                execution=service.execution(f"exec-{i}").name,
                events=[
                    Event(artifact=source, type_=Event.Type.INPUT, labels={"role": "x"}),
                    Event(artifact=product, type_=Event.Type.OUTPUT),
                ],
            )
        )

    def ask(**fields: Any) -> types.LineageSubgraph:
        return service.api.query_artifact_lineage_subgraph(
            types.QueryArtifactLineageSubgraphRequest(artifact=names[2], **fields)
        )

    whole = ask()
    assert len(whole.artifacts) == 3 and len(whole.executions) == 2 and len(whole.events) == 4
    assert {event.labels.get("role") for event in whole.events} == {"x", None}
    assert all(event.event_time and event.execution for event in whole.events)
    assert len(ask(max_hops=2).artifacts) == 2
    assert [a.metadata["n"] for a in ask(filter="metadata.n.number_value<1").artifacts] == [2, 0]
    with pytest.raises(exceptions.InvalidArgument, match="negative"):
        ask(max_hops=-1)
    with pytest.raises(exceptions.InvalidArgument, match="position 1"):
        ask(filter="nonsense=1")
    with pytest.raises(exceptions.NotFound):
        service.api.query_artifact_lineage_subgraph(
            types.QueryArtifactLineageSubgraphRequest(artifact=f"{STORE}/artifacts/missing")
        )
