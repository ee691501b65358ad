"""Protects metadata as the SDK uses it: its own classes against a real server."""

import uuid
from types import ModuleType

import pytest
from google.api_core import exceptions

# Over REST the SDK knows an InvalidArgument only as the BadRequest that it is a kind of.


def fresh(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def test_artifacts_executions_and_contexts(aiplatform: ModuleType) -> None:
    uri = f"gs://contract-tests/{fresh('data')}"
    source = aiplatform.Artifact.create(
        "system.Dataset", uri=uri, display_name="source", metadata={"rows": 100, "loss": 0.5}
    )
    assert aiplatform.Artifact.get(source.name).metadata == {"rows": 100, "loss": 0.5}
    assert aiplatform.Artifact.get_with_uri(uri).resource_name == source.resource_name
    source.update(metadata={"rows": 200}, description="counted again")
    source.sync_resource()
    assert source.metadata == {"rows": 200, "loss": 0.5} and source.description == "counted again"
    model = aiplatform.Artifact.create("system.Model", uri=f"{uri}/model", display_name="model")
    with aiplatform.start_execution(schema_title="system.ContainerExecution", display_name="train") as execution:
        execution.assign_input_artifacts([source])
        execution.assign_output_artifacts([model])
    assert execution.state.name == "COMPLETE"
    assert [item.name for item in execution.get_input_artifacts()] == [source.name]
    assert [item.name for item in execution.get_output_artifacts()] == [model.name]
    context = aiplatform.Context.create("system.Experiment", resource_id=fresh("ctx"))
    context.add_artifacts_and_executions([source.resource_name, model.resource_name], [execution.resource_name])
    assert {item.name for item in context.get_artifacts()} == {source.name, model.name}
    subgraph = context.query_lineage_subgraph()
    assert len(subgraph.events) == 2 and len(subgraph.executions) == 1
    lineage = model.api_client.query_artifact_lineage_subgraph(artifact=model.resource_name)
    assert {item.display_name for item in lineage.artifacts} == {"source", "model"}
    where = f'in_context("{context.resource_name}") AND metadata.rows.number_value>=200'
    assert [item.name for item in aiplatform.Artifact.list(filter=where)] == [source.name]
    ordered = aiplatform.Artifact.list(filter=f'in_context("{context.resource_name}")', order_by="display_name")
    assert [item.display_name for item in ordered] == ["model", "source"]
    source.delete()
    assert aiplatform.Artifact.get(source.name) is None
    assert len(context.query_lineage_subgraph().events) == 1
    execution.update(metadata={"output:cer": 0.25})
    assert aiplatform.Execution.get(execution.name).metadata == {"output:cer": 0.25}
    where = f'in_context("{context.resource_name}") AND state=COMPLETE AND metadata."output:cer".number_value<0.5'
    assert [item.name for item in aiplatform.Execution.list(filter=where)] == [execution.name]
    execution.delete()
    assert aiplatform.Execution.get(execution.name) is None


def test_lists_go_on_over_pages(aiplatform: ModuleType) -> None:
    context = aiplatform.Context.create("system.Experiment", resource_id=fresh("ctx"))
    names = [aiplatform.Artifact.create("system.Artifact").resource_name for _ in range(7)]
    context.add_artifacts_and_executions(artifact_resource_names=names)
    request = {
        "parent": context.resource_name.rsplit("/contexts/", 1)[0],
        "filter": f'in_context("{context.resource_name}")',
        "page_size": 3,
    }
    found = [item.name for item in context.api_client.list_artifacts(request=request)]
    assert found == names[::-1]


def test_the_sdk_tries_again_when_a_context_changed_meanwhile(aiplatform: ModuleType) -> None:
    mine = aiplatform.Context.create("system.Experiment", resource_id=fresh("ctx"))
    theirs = aiplatform.Context.get(mine.name)
    theirs.update(metadata={"theirs": 1})
    if aiplatform.initializer.global_config._api_transport == "rest":
        # Over REST an Aborted arrives as a Conflict, which the SDK does not try again.
        with pytest.raises(exceptions.Conflict, match="does not match server"):
            mine.update(metadata={"mine": 2})
    else:
        mine.update(metadata={"mine": 2})
        assert mine.metadata == {"theirs": 1, "mine": 2}


def test_contexts_form_a_tree(aiplatform: ModuleType) -> None:
    parent, child = (aiplatform.Context.create("system.Experiment", resource_id=fresh("ctx")) for _ in range(2))
    parent.add_context_children([child])
    child.sync_resource()
    assert list(child.parent_contexts) == [parent.resource_name]
    found = aiplatform.Context.list(filter=f'parent_contexts:"{parent.resource_name}"')
    assert [item.name for item in found] == [child.name]
    with pytest.raises(exceptions.BadRequest, match="cycle"):
        child.add_context_children([parent])
    parent.api_client.remove_context_children(context=parent.resource_name, child_contexts=[child.resource_name])
    child.sync_resource()
    assert list(child.parent_contexts) == []
    child.delete()
    assert aiplatform.Context.get(child.name) is None


def test_mistakes_are_answered_as_by_the_api(aiplatform: ModuleType) -> None:
    with pytest.raises(exceptions.BadRequest, match="position 1 "):
        aiplatform.Artifact.list(filter="nonsense=1")
    with pytest.raises(exceptions.BadRequest, match=r"mine\.Thing"):
        aiplatform.Artifact.create("mine.Thing")
    assert aiplatform.Context.get("missing") is None


def test_stores_schemas_and_purges(aiplatform: ModuleType) -> None:
    from google.cloud.aiplatform_v1.types import MetadataSchema, MetadataStore

    artifact = aiplatform.Artifact.create("system.Artifact")
    client, parent = artifact.api_client, artifact.resource_name.rsplit("/artifacts/", 1)[0]
    location = parent.rsplit("/metadataStores/", 1)[0]
    made = client.create_metadata_store(
        parent=location, metadata_store=MetadataStore(), metadata_store_id=fresh("store")
    ).result()
    assert made.name in {store.name for store in client.list_metadata_stores(parent=location)}
    schema = client.create_metadata_schema(
        parent=made.name,
        metadata_schema=MetadataSchema(schema="title: mine.Thing", schema_version="1.0.0", schema_type=1),
    )
    assert client.get_metadata_schema(name=schema.name).schema == "title: mine.Thing"
    assert schema.name in {item.name for item in client.list_metadata_schemas(parent=made.name)}
    client.create_artifact(parent=made.name, artifact={"schema_title": "mine.Thing"})
    purge = {"parent": made.name, "filter": "schema_title=mine.Thing", "force": True}
    assert client.purge_artifacts(request=purge).result().purge_count == 1
    assert client.purge_executions(request={**purge, "force": False}).result().purge_count == 0
    assert client.purge_contexts(request={**purge, "force": False}).result().purge_count == 0
    client.delete_metadata_store(name=made.name).result()
    with pytest.raises(exceptions.NotFound):
        client.get_metadata_store(name=made.name)
