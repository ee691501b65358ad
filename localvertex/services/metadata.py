"""MetadataService: metadata stores; their artifacts, executions, contexts and schemas; lineage."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from typing import Any, Protocol

import proto
import sqlalchemy as sa
from google.api_core import exceptions
from google.cloud.aiplatform_v1 import types
from google.cloud.aiplatform_v1.types import (
    Artifact,
    Context,
    Execution,
    LineageSubgraph,
    MetadataSchema,
    MetadataStore,
)
from google.longrunning import operations_pb2

from localvertex import filters, graph, schemas
from localvertex.graph import Graph
from localvertex.home import Home
from localvertex.services.masks import copy_fields
from localvertex.services.operations import Operations
from localvertex.store import CHUNK, Resource, Store, kind_of, resources

MAX_METADATA_BYTES = 200 * 1024
MAX_LABELS, MAX_LABEL, MAX_DISPLAY_NAME = 64, 64, 128
PURGE_SAMPLE = 100

_COLLECTIONS: dict[type[proto.Message], str] = {
    MetadataSchema: "metadataSchemas",
    Artifact: "artifacts",
    Execution: "executions",
    Context: "contexts",
}
_OUTPUT_ONLY = ("name", "etag", "create_time", "update_time", "parent_contexts")
_STORE_NAME = re.compile(r"projects/[^/]+/locations/[^/]+/metadataStores/[^/]+")
_ID = re.compile(r"[a-z0-9-]{4,128}")
_LABEL = re.compile(rf"[\w-]{{0,{MAX_LABEL}}}")
_SCHEMA_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")

_IN_CONTEXT = filters.Relations(functions={"in_context": graph.ids_in})
_CONTEXT_TREE = filters.Relations(
    collections={"parent_contexts": graph.children_of, "child_contexts": graph.parents_of}
)
_RELATIONS: dict[type[proto.Message], filters.Relations] = {
    Artifact: _IN_CONTEXT,
    Execution: _IN_CONTEXT,
    Context: _CONTEXT_TREE,
}


class _ListRequest(Protocol):
    parent: str
    filter: str
    order_by: str
    page_size: int
    page_token: str


class _PurgeRequest(Protocol):
    parent: str
    filter: str
    force: bool


class MetadataService:
    """Vertex ML Metadata (https://cloud.google.com/vertex-ai/docs/ml-metadata/introduction).

    A region's `default` metadata store comes into being with the first thing written to or listed from it;
    before that, asking for it finds nothing, and creating it is an operation like any other.

    Args:
        store: where everything is kept.
        home: the state folder.
        operations: runs what the API answers with a long-running operation.
    """

    SERVICE = "google.cloud.aiplatform.v1.MetadataService"

    def __init__(self, store: Store, home: Home, operations: Operations) -> None:
        self._store = store
        self._graph = Graph(store)
        self._operations = operations

    # Metadata stores and schemas

    def create_metadata_store(self, request: types.CreateMetadataStoreRequest) -> operations_pb2.Operation:
        """Begin to create a metadata store with its built-in schemas."""
        id = request.metadata_store_id or str(uuid.uuid4())
        _check_id("metadata_store_id", id)
        name = f"{request.parent}/metadataStores/{id}"
        if not _STORE_NAME.fullmatch(name):
            raise _malformed("parent", request.parent, "projects/{project}/locations/{location}")
        if self._store.find(MetadataStore, name) is not None:
            raise exceptions.AlreadyExists(f"MetadataStore {name} already exists.")
        made = MetadataStore(request.metadata_store, name=name)
        return self._operations.start(
            name,
            lambda: schemas.found_store(self._store, made),
            metadata=types.CreateMetadataStoreOperationMetadata(),
        )

    def get_metadata_store(self, request: types.GetMetadataStoreRequest) -> MetadataStore:
        """A metadata store."""
        return self._store.get(MetadataStore, request.name)

    def list_metadata_stores(self, request: types.ListMetadataStoresRequest) -> types.ListMetadataStoresResponse:
        """The metadata stores of a location, newest first."""
        found, token = filters.listing(
            self._store,
            MetadataStore,
            request.parent,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return types.ListMetadataStoresResponse(metadata_stores=found, next_page_token=token)

    def delete_metadata_store(self, request: types.DeleteMetadataStoreRequest) -> operations_pb2.Operation:
        """Begin to delete a metadata store and everything in it."""
        self._store.get(MetadataStore, request.name)

        def work() -> None:
            kinds = [kind_of(kind) for kind in _COLLECTIONS]
            inside = sa.and_(resources.c.kind.in_(kinds), resources.c.parent == request.name)
            with self._store.write() as connection:
                connection.execute(resources.delete().where(inside))
                self._graph.forget_store(request.name)
                self._store.delete(MetadataStore, request.name)

        return self._operations.start(request.name, work, metadata=types.DeleteMetadataStoreOperationMetadata())

    def create_metadata_schema(self, request: types.CreateMetadataSchemaRequest) -> MetadataSchema:
        """Register a schema, whose title artifacts, executions and contexts may then have."""
        schema = MetadataSchema(request.metadata_schema)
        title = schemas.title_of(schema)
        if not title:
            raise exceptions.InvalidArgument("metadata_schema.schema must be YAML with a title at its top level.")
        if not _SCHEMA_VERSION.fullmatch(schema.schema_version):
            raise exceptions.InvalidArgument(
                f'metadata_schema.schema_version must look like 1.0.0, not "{schema.schema_version}".'
            )
        with self._store.write():
            schema.name = self._new_name(MetadataSchema, request.parent, request.metadata_schema_id)
            for other in self._store.select(MetadataSchema, parent=request.parent):
                if (schemas.title_of(other), other.schema_version) == (title, schema.schema_version):
                    raise exceptions.AlreadyExists(
                        f"MetadataSchema {title} {schema.schema_version} already exists: {other.name}."
                    )
            return self._store.create(schema)

    def get_metadata_schema(self, request: types.GetMetadataSchemaRequest) -> MetadataSchema:
        """A schema."""
        return self._store.get(MetadataSchema, request.name)

    def list_metadata_schemas(self, request: types.ListMetadataSchemasRequest) -> types.ListMetadataSchemasResponse:
        """The schemas of a metadata store that pass a filter."""
        self._require_store(request.parent)
        found, token = filters.listing(
            self._store,
            MetadataSchema,
            request.parent,
            request.filter,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return types.ListMetadataSchemasResponse(metadata_schemas=found, next_page_token=token)

    # Artifacts

    def create_artifact(self, request: types.CreateArtifactRequest) -> Artifact:
        """Create an artifact, under the given id or a fresh one."""
        return self._create(request.parent, request.artifact, request.artifact_id)

    def get_artifact(self, request: types.GetArtifactRequest) -> Artifact:
        """An artifact."""
        return self._store.get(Artifact, request.name)

    def list_artifacts(self, request: types.ListArtifactsRequest) -> types.ListArtifactsResponse:
        """Artifacts that pass a filter, newest first unless ordered otherwise."""
        found, token = self._list(Artifact, request)
        return types.ListArtifactsResponse(artifacts=found, next_page_token=token)

    def update_artifact(self, request: types.UpdateArtifactRequest) -> Artifact:
        """Change the fields in the mask; without a mask, those that are set in the request."""
        return self._update(request.artifact, request.update_mask.paths, request.allow_missing)

    def delete_artifact(self, request: types.DeleteArtifactRequest) -> operations_pb2.Operation:
        """Begin to delete an artifact and its events."""
        return self._delete(Artifact, request.name, request.etag)

    def purge_artifacts(self, request: types.PurgeArtifactsRequest) -> operations_pb2.Operation:
        """Begin to delete the artifacts that pass a filter, or to count them."""
        return self._purge(Artifact, request, types.PurgeArtifactsResponse, types.PurgeArtifactsMetadata())

    def query_artifact_lineage_subgraph(self, request: types.QueryArtifactLineageSubgraphRequest) -> LineageSubgraph:
        """What an artifact was made from and what was made from it.

        `max_hops` 0 means no limit: on the wire it cannot be told from a request that says nothing.
        """
        if request.max_hops < 0:
            raise exceptions.InvalidArgument(f"max_hops must not be negative: {request.max_hops}.")
        filters.parse_filter(Artifact, request.filter)

        def keep(names: Sequence[str]) -> set[str]:
            return {
                artifact.name
                for start in range(0, len(names), CHUNK)
                for artifact in filters.matching(
                    self._store,
                    Artifact,
                    None,
                    request.filter,
                    where=[resources.c.name.in_(names[start : start + CHUNK])],
                )
            }

        return self._graph.of_artifact(request.artifact, request.max_hops or None, keep if request.filter else None)

    # Executions

    def create_execution(self, request: types.CreateExecutionRequest) -> Execution:
        """Create an execution, under the given id or a fresh one."""
        return self._create(request.parent, request.execution, request.execution_id)

    def get_execution(self, request: types.GetExecutionRequest) -> Execution:
        """An execution."""
        return self._store.get(Execution, request.name)

    def list_executions(self, request: types.ListExecutionsRequest) -> types.ListExecutionsResponse:
        """Executions that pass a filter, newest first unless ordered otherwise."""
        found, token = self._list(Execution, request)
        return types.ListExecutionsResponse(executions=found, next_page_token=token)

    def update_execution(self, request: types.UpdateExecutionRequest) -> Execution:
        """Change the fields in the mask; without a mask, those that are set in the request."""
        return self._update(request.execution, request.update_mask.paths, request.allow_missing)

    def delete_execution(self, request: types.DeleteExecutionRequest) -> operations_pb2.Operation:
        """Begin to delete an execution and its events."""
        return self._delete(Execution, request.name, request.etag)

    def purge_executions(self, request: types.PurgeExecutionsRequest) -> operations_pb2.Operation:
        """Begin to delete the executions that pass a filter, or to count them."""
        return self._purge(Execution, request, types.PurgeExecutionsResponse, types.PurgeExecutionsMetadata())

    def add_execution_events(self, request: types.AddExecutionEventsRequest) -> types.AddExecutionEventsResponse:
        """Connect artifacts with an execution; those that are connected already are skipped."""
        self._graph.add_events(request.execution, request.events)
        return types.AddExecutionEventsResponse()

    def query_execution_inputs_and_outputs(
        self, request: types.QueryExecutionInputsAndOutputsRequest
    ) -> LineageSubgraph:
        """An execution with its inputs and outputs."""
        return self._graph.of_execution(request.execution)

    # Contexts

    def create_context(self, request: types.CreateContextRequest) -> Context:
        """Create a context, under the given id or a fresh one."""
        return self._create(request.parent, request.context, request.context_id)

    def get_context(self, request: types.GetContextRequest) -> Context:
        """A context with the names of its parents."""
        return self._with_parents([self._store.get(Context, request.name)])[0]

    def list_contexts(self, request: types.ListContextsRequest) -> types.ListContextsResponse:
        """Contexts that pass a filter, newest first unless ordered otherwise."""
        found, token = self._list(Context, request)
        return types.ListContextsResponse(contexts=self._with_parents(found), next_page_token=token)

    def update_context(self, request: types.UpdateContextRequest) -> Context:
        """Change the fields in the mask; without a mask, those that are set in the request."""
        changed = self._update(request.context, request.update_mask.paths, request.allow_missing)
        return self._with_parents([changed])[0]

    def delete_context(self, request: types.DeleteContextRequest) -> operations_pb2.Operation:
        """Begin to delete a context; what is in it stays."""
        return self._delete(Context, request.name, request.etag)

    def purge_contexts(self, request: types.PurgeContextsRequest) -> operations_pb2.Operation:
        """Begin to delete the contexts that pass a filter, or to count them."""
        return self._purge(Context, request, types.PurgeContextsResponse, types.PurgeContextsMetadata())

    def add_context_artifacts_and_executions(
        self, request: types.AddContextArtifactsAndExecutionsRequest
    ) -> types.AddContextArtifactsAndExecutionsResponse:
        """Put artifacts and executions into a context; those in it already are skipped."""
        self._graph.add_members(request.context, [*request.artifacts, *request.executions])
        return types.AddContextArtifactsAndExecutionsResponse()

    def add_context_children(self, request: types.AddContextChildrenRequest) -> types.AddContextChildrenResponse:
        """Make contexts the children of another; those that are already are skipped."""
        self._graph.add_children(request.context, request.child_contexts)
        return types.AddContextChildrenResponse()

    def remove_context_children(
        self, request: types.RemoveContextChildrenRequest
    ) -> types.RemoveContextChildrenResponse:
        """Undo `add_context_children`; contexts that are no children are skipped."""
        self._graph.remove_children(request.context, list(request.child_contexts))
        return types.RemoveContextChildrenResponse()

    def query_context_lineage_subgraph(self, request: types.QueryContextLineageSubgraphRequest) -> LineageSubgraph:
        """The artifacts and executions of a context, and the events between them."""
        return self._graph.of_context(request.context)

    # What artifacts, executions and contexts have in common

    def _create(self, parent: str, resource: Resource, id: str) -> Resource:
        made: Resource = type(resource)(resource)
        with self._store.write():
            made.name = self._new_name(type(made), parent, id)
            _check(made)
            self._fill_schema(made)
            return self._store.create(made)

    def _list(self, kind: type[Resource], request: _ListRequest) -> tuple[list[Resource], str]:
        self._require_store(request.parent)
        return filters.listing(
            self._store,
            kind,
            request.parent,
            request.filter,
            request.order_by,
            request.page_size,
            request.page_token,
            relations=_RELATIONS[kind],
        )

    def _update(self, resource: Resource, paths: Sequence[str], allow_missing: bool) -> Resource:
        kind, name = type(resource), str(resource.name)
        with self._store.write():
            if allow_missing and self._store.find(kind, name) is None:
                parent, _, id = name.rsplit("/", 2)
                return self._create(parent, resource, id)

            def change(stored: Resource) -> None:
                if resource.etag and resource.etag != stored.etag:
                    # The SDK reads these words to see that it must fetch the resource and try again.
                    raise exceptions.Aborted(
                        f"Specified {kind_of(kind)} `etag`: `{resource.etag}` "
                        f"does not match server `etag`: `{stored.etag}`"
                    )
                title = stored.schema_title
                copy_fields(kind.pb(resource), kind.pb(stored), paths, _OUTPUT_ONLY)
                _check(stored)
                # A pipeline may have recorded a type of its own: clients answer for what they change.
                if stored.schema_title != title:
                    self._fill_schema(stored)

            return self._store.update(kind, name, change)

    def _delete(self, kind: type[Resource], name: str, etag: str) -> operations_pb2.Operation:
        found = self._store.get(kind, name)
        if etag and etag != found.etag:
            raise exceptions.FailedPrecondition(
                f"Specified {kind_of(kind)} `etag`: `{etag}` does not match server `etag`: `{found.etag}`"
            )
        return self._operations.start(
            name, lambda: self._remove(kind, [name]), metadata=types.DeleteOperationMetadata()
        )

    def _purge(
        self,
        kind: type[Resource],
        request: _PurgeRequest,
        response: type[proto.Message],
        metadata: proto.Message,
    ) -> operations_pb2.Operation:
        self._require_store(request.parent)
        if not request.filter.strip():
            raise exceptions.InvalidArgument(f"A filter is required to purge {_COLLECTIONS[kind]}.")
        filters.parse_filter(kind, request.filter, _RELATIONS[kind])
        parent, filter, force = request.parent, request.filter, request.force

        def work() -> proto.Message:
            doomed = [
                str(resource.name)
                for resource in filters.matching(self._store, kind, parent, filter, relations=_RELATIONS[kind])
            ]
            if not force:
                return response(purge_count=len(doomed), purge_sample=doomed[:PURGE_SAMPLE])
            self._remove(kind, doomed)
            return response(purge_count=len(doomed))

        return self._operations.start(parent, work, metadata=metadata)

    def _remove(self, kind: type[Resource], names: Sequence[str]) -> None:
        with self._store.write():
            for name in names:
                self._store.delete(kind, name)
                self._graph.forget(name)

    def _with_parents(self, contexts: list[Context]) -> list[Context]:
        parents = self._graph.parents([context.name for context in contexts])
        for context in contexts:
            context.parent_contexts = parents[context.name]
        return contexts

    def _require_store(self, name: str) -> None:
        if not _STORE_NAME.fullmatch(name):
            form = "projects/{project}/locations/{location}/metadataStores/{metadatastore}"
            raise _malformed("parent", name, form)
        if name.endswith("/metadataStores/default"):
            schemas.ensure_store(self._store, name)
        else:
            self._store.get(MetadataStore, name)

    def _new_name(self, kind: type[proto.Message], parent: str, id: str) -> str:
        self._require_store(parent)
        id = id or str(uuid.uuid4())
        _check_id(f"{kind_of(kind)} id", id)
        return f"{parent}/{_COLLECTIONS[kind]}/{id}"

    def _fill_schema(self, resource: Any) -> None:
        """Check that the schema exists, and fill in its latest version when the client names none."""
        if not resource.schema_title:
            return
        metadata_store = resource.name.rsplit("/", 2)[0]
        latest = schemas.version_of(self._store, metadata_store, resource.schema_title)
        if latest is None:
            raise exceptions.InvalidArgument(
                f"{resource.name}: there is no metadata schema {resource.schema_title} in {metadata_store}; "
                "create it first, or use a system. or google. one."
            )
        resource.schema_version = resource.schema_version or latest


def _check(resource: Any) -> None:
    """Check what a client wrote against the limits that the reference documents."""
    message = type(resource).pb(resource)
    _trim(message.metadata)
    if message.metadata.ByteSize() > MAX_METADATA_BYTES:
        raise exceptions.InvalidArgument(f"{resource.name}: metadata is larger than {MAX_METADATA_BYTES // 1024} KB.")
    if len(resource.display_name) > MAX_DISPLAY_NAME:
        raise exceptions.InvalidArgument(f"{resource.name}: display_name is longer than {MAX_DISPLAY_NAME} characters.")
    _check_labels(resource.name, message.labels)


def _trim(metadata: Any) -> None:
    for key in [key for key in metadata.fields if key != key.strip()]:
        metadata.fields[key.strip()].CopyFrom(metadata.fields[key])
        del metadata.fields[key]


def _check_id(what: str, id: str) -> None:
    if not _ID.fullmatch(id):
        raise exceptions.InvalidArgument(
            f'{what} "{id}" must have 4 to 128 characters, each a lower-case letter, a digit or a hyphen.'
        )


def _check_labels(name: str, labels: Any) -> None:
    if len(labels) > MAX_LABELS:
        raise exceptions.InvalidArgument(f"{name}: more than {MAX_LABELS} labels.")
    for text in (*labels.keys(), *labels.values()):
        if not _LABEL.fullmatch(text) or text != text.lower():
            raise exceptions.InvalidArgument(
                f'{name}: label "{text}" must have at most {MAX_LABEL} characters, each a lower-case letter, '
                "a digit, an underscore or a hyphen."
            )


def _malformed(field: str, value: str, form: str) -> exceptions.InvalidArgument:
    return exceptions.InvalidArgument(f'{field} "{value}" must have the form {form}.')
