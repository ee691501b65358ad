"""The recorder of pipeline runs: what each task read and wrote, as artifacts, executions and contexts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import proto
from google.cloud.aiplatform_v1.types import Artifact, Context, Execution, PipelineJob
from google.protobuf import json_format

from localvertex import names, schemas
from localvertex.graph import Graph, ids_in
from localvertex.home import Home
from localvertex.store import Resource, Store, resources

PIPELINE, PIPELINE_RUN, RUN = "system.Pipeline", "system.PipelineRun", "system.Run"
METRICS = (
    *("system.Metrics", "system.ClassificationMetrics"),
    *("google.ClassificationMetrics", "google.RegressionMetrics", "google.ForecastingMetrics"),
)


class Lineage:
    """Records pipeline runs; each method commits as one, and may be called again with the same ids.

    A run is a `system.PipelineRun` context, child of the `system.Pipeline` context that all runs of its
    pipeline share. One `system.Run` execution, named as the run, carries its parameters (`input:<name>`) and,
    once the run has ended, its metrics: from these the SDK builds `get_pipeline_df` and experiment rows.
    """

    def __init__(self, store: Store, home: Home) -> None:
        self._store = store
        self._graph = Graph(store)
        self._home_location = names.parent(home.project_number, home.location)

    def begin_run(self, job: PipelineJob) -> tuple[Context, Context]:
        """Record that a pipeline job started, in the default metadata store of its region.

        Args:
            job: with its name, pipeline spec and parameter values.

        Returns:
            The contexts of its pipeline and of the run, to keep in `job.job_detail`.
        """
        metadata_store = schemas.default_store(names.location_parent(job.name))
        spec = json_format.MessageToDict(PipelineJob.pb(job).pipeline_spec)
        pipeline_id = spec.get("pipelineInfo", {}).get("name") or "pipeline"
        run_id = names.id_of(job.name)
        with self._store.write():
            schemas.ensure_store(self._store, metadata_store)
            pipeline = self._context(metadata_store, pipeline_id, PIPELINE)
            run = self._context(metadata_store, run_id, PIPELINE_RUN)
            run_id = names.id_of(run.name)
            self._graph.add_children(pipeline.name, [run.name])
            run.parent_contexts = [pipeline.name]
            metadata = _parameters(job, spec)
            self.begin_execution(run, id=run_id, display_name=run_id, schema_title=RUN, metadata=metadata)
        return pipeline, run

    def end_run(self, run_context: Context, *, state: int) -> None:
        """Record how a run ended; its metrics artifacts become outputs of its `system.Run` execution."""
        execution = self._store.get(Execution, _sibling(run_context.name, "executions"))
        with self._store.write():
            metrics = self._store.select(
                Artifact,
                resources.c.schema_title.in_(METRICS),
                resources.c.id.in_(ids_in(run_context.name)),
                # Without it, a database would look through all artifacts there are.
                parent=self._metadata_store(run_context),
                order_by=[resources.c.id],
            )
            self.end_execution(execution, state=state, outputs=metrics)

    def refresh_parents(self, context: Context) -> None:
        """Name a run's parents as they are now: its pipeline, and what experiments it was made part of since."""
        if context.name:
            context.parent_contexts = self._graph.parents([context.name])[context.name]

    def new_artifact(
        self,
        run_context: Context | None,
        *,
        schema_title: str,
        uri: str,
        schema_version: str = "",
        display_name: str = "",
        metadata: Mapping[str, Any] | None = None,
        state: int = Artifact.State.LIVE,
        id: str | None = None,
    ) -> Artifact:
        """Record an artifact.

        Args:
            run_context: the run it belongs to; None for none (the home's own region then).
            metadata: values that JSON can hold; numbers that are not finite become text.
            id: what to name it, so that a second call with the same id overwrites; default a fresh one.
        """
        metadata_store = self._metadata_store(run_context)
        artifact = Artifact(
            name=f"{metadata_store}/artifacts/{id or names.new_id()}",
            display_name=display_name,
            schema_title=schema_title,
            schema_version=schema_version or schemas.BUILT_IN_VERSION,
            uri=uri,
            state=state,
        )
        _merge(artifact, metadata)
        with self._store.write():
            self._put(artifact)
            if run_context is None:
                schemas.ensure_store(self._store, metadata_store)
            else:
                self._graph.gather(_contexts(run_context), [artifact.name])
        return artifact

    def find_artifact(
        self,
        uri: str,
        schema_title: str,
        *,
        run_context: Context | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Artifact | None:
        """The newest live artifact of that URI and schema in the run's metadata store (None: the home's).

        Args:
            metadata: when given, its metadata must equal this.
        """
        candidates = self._store.select(
            Artifact,
            resources.c.uri == uri,
            resources.c.schema_title == schema_title,
            resources.c.state == int(Artifact.State.LIVE),
            parent=self._metadata_store(run_context),
        )
        wanted = None if metadata is None else _plain(metadata)
        for artifact in candidates:
            if wanted is None or json_format.MessageToDict(Artifact.pb(artifact).metadata) == wanted:
                return artifact
        return None

    def update_artifact(self, artifact: Artifact) -> Artifact:
        """Save an artifact that was changed since `new_artifact`.

        Raises:
            google.api_core.exceptions.NotFound: there is none of that name.
        """
        return self._store.save(artifact)

    def record_execution(
        self,
        run_context: Context,
        *,
        id: str,
        display_name: str,
        schema_title: str,
        state: int,
        inputs: Sequence[Artifact] = (),
        outputs: Sequence[Artifact] = (),
        metadata: Mapping[str, Any] | None = None,
        schema_version: str = "",
    ) -> Execution:
        """Record a task, at whatever stage it is.

        Args:
            id: unique in the metadata store; recorded again under the same id, an execution is overwritten.
            schema_title: `system.ContainerExecution`, `system.DagExecution`, `system.ImporterExecution`…
            state: RUNNING, COMPLETE, FAILED, CACHED or CANCELLED.
            inputs: the artifacts it reads; they become part of the run.
            outputs: the artifacts it wrote, or was spared from writing; they become part of the run.
            metadata: `{"input:<parameter>": value, "output:<parameter>": value}` and whatever else describes it.
        """
        execution = Execution(
            name=f"{self._metadata_store(run_context)}/executions/{id}",
            display_name=display_name,
            state=state,
            schema_title=schema_title,
            schema_version=schema_version or schemas.BUILT_IN_VERSION,
        )
        _merge(execution, metadata)
        with self._store.write():
            self._put(execution)
            self._graph.attach(_contexts(run_context), execution.name, _names(inputs), _names(outputs))
        return execution

    def begin_execution(
        self,
        run_context: Context,
        *,
        id: str,
        display_name: str,
        schema_title: str,
        inputs: Sequence[Artifact] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Execution:
        """Record that a task started: `record_execution` in the state RUNNING."""
        return self.record_execution(
            run_context,
            id=id,
            display_name=display_name,
            schema_title=schema_title,
            state=Execution.State.RUNNING,
            inputs=inputs,
            metadata=metadata,
        )

    def end_execution(
        self,
        execution: Execution,
        *,
        state: int,
        outputs: Sequence[Artifact] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Execution:
        """Record how a task ended.

        Args:
            state: COMPLETE, FAILED or CANCELLED.
            outputs: the artifacts it wrote; they become part of its run.
            metadata: added to what the execution has: `{"output:<parameter>": value}`.
        """

        def end(stored: Execution) -> None:
            stored.state = Execution.State(state)
            _merge(stored, metadata)

        with self._store.write():
            ended = self._store.update(Execution, execution.name, end)
            if outputs:
                contexts = self._graph.contexts_of(execution.name)
                self._graph.attach(contexts, execution.name, outputs=_names(outputs))
        return ended

    def _metadata_store(self, run_context: Context | None) -> str:
        if run_context is None:
            return schemas.default_store(self._home_location)
        return run_context.name.rsplit("/", 2)[0]

    def _context(self, metadata_store: str, id: str, schema_title: str) -> Context:
        name = f"{metadata_store}/contexts/{id}"
        found = self._store.find(Context, name)
        if found is not None and found.schema_title != schema_title:
            # A run may be called as a pipeline is, or as an experiment; clients go by the names in `job_detail`.
            return self._context(metadata_store, f"{id}-{schema_title.rpartition('.')[2].lower()}", schema_title)
        return found or self._store.create(
            Context(name=name, display_name=id, schema_title=schema_title, schema_version=schemas.BUILT_IN_VERSION)
        )

    def _put(self, resource: Resource) -> None:
        found = self._store.find(type(resource), resource.name)
        if found is None:
            self._store.create(resource)
        else:
            resource.create_time = found.create_time
            self._store.save(resource)


def _contexts(run_context: Context) -> list[str]:
    """A run's and its pipeline's, as KFP has it: get_pipeline_df asks for the pipeline's executions."""
    return [run_context.name, *run_context.parent_contexts]


def _sibling(name: str, collection: str) -> str:
    metadata_store, _, id = name.rsplit("/", 2)
    return f"{metadata_store}/{collection}/{id}"


def _parameters(job: PipelineJob, spec: Mapping[str, Any]) -> dict[str, Any]:
    declared = spec.get("root", {}).get("inputDefinitions", {}).get("parameters", {})
    values = {name: what["defaultValue"] for name, what in declared.items() if "defaultValue" in what}
    given = json_format.MessageToDict(PipelineJob.pb(job).runtime_config).get("parameterValues", {})
    return {f"input:{name}": value for name, value in {**values, **given}.items()}


def _names(artifacts: Iterable[Artifact]) -> list[str]:
    return [artifact.name for artifact in artifacts]


def _merge(resource: proto.Message, metadata: Mapping[str, Any] | None) -> None:
    if metadata:
        type(resource).pb(resource).metadata.update(_plain(metadata))


def _plain(value: Any) -> Any:
    """A value as JSON can carry it: with an infinity or a NaN in it a Struct could not be printed."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
