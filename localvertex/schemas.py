"""Metadata stores, and the schemas that each one is born with.

Source: https://cloud.google.com/vertex-ai/docs/ml-metadata/system-schemas
"""

from __future__ import annotations

import re

from google.cloud.aiplatform_v1.types import MetadataSchema, MetadataStore

from localvertex.store import Store

BUILT_IN_VERSION = "0.0.1"

_BUILT_IN = {
    MetadataSchema.MetadataSchemaType.ARTIFACT_TYPE: (
        *("system.Artifact", "system.Checkpoint", "system.ClassificationMetrics", "system.Dataset"),
        *("system.HTML", "system.Markdown", "system.Metrics", "system.Model"),
        *("system.SlicedClassificationMetrics", "system.Statistics"),
        *("google.BQMLModel", "google.BQTable", "google.ClassificationMetrics", "google.ExperimentModel"),
        *("google.ForecastingMetrics", "google.RegressionMetrics", "google.UnmanagedContainerModel"),
        *("google.VertexBatchPredictionJob", "google.VertexDataset", "google.VertexEndpoint"),
        *("google.VertexHyperparameterTuningJob", "google.VertexModel", "google.VertexTensorboardRun"),
    ),
    MetadataSchema.MetadataSchemaType.EXECUTION_TYPE: (
        *("system.ContainerExecution", "system.CustomJobExecution", "system.DagExecution"),
        *("system.ImporterExecution", "system.ResolverExecution", "system.Run"),
    ),
    MetadataSchema.MetadataSchemaType.CONTEXT_TYPE: (
        *("system.Experiment", "system.ExperimentRun", "system.Pipeline", "system.PipelineRun"),
    ),
}
_TITLE = re.compile(r"^title:\s*['\"]?([^'\"\s]+)", re.MULTILINE)


def default_store(location: str) -> str:
    """The name of the metadata store that a region's pipelines record in.

    Args:
        location: `projects/<number>/locations/<location>`.
    """
    return f"{location}/metadataStores/default"


def found_store(store: Store, metadata_store: MetadataStore) -> MetadataStore:
    """Create a metadata store together with its built-in schemas.

    Raises:
        google.api_core.exceptions.AlreadyExists: the name is taken.
    """
    with store.write():
        store.create(metadata_store)
        store.create_all(
            [
                _built_in(metadata_store.name, schema_type, title)
                for schema_type, titles in _BUILT_IN.items()
                for title in titles
            ]
        )
    return metadata_store


def ensure_store(store: Store, name: str) -> None:
    """Create the metadata store of that name unless there is one."""
    if store.find(MetadataStore, name) is None:
        with store.write():
            if store.find(MetadataStore, name) is None:
                found_store(store, MetadataStore(name=name))


def title_of(schema: MetadataSchema) -> str:
    """The `title` that a schema's YAML declares, or ''."""
    match = _TITLE.search(schema.schema)
    return match[1] if match else ""


def version_of(store: Store, metadata_store: str, title: str) -> str | None:
    """The latest version of the schema of that title in a metadata store; None when there is none.

    Every `system.` and `google.` title counts as built in: clients know more than the documentation lists.
    """
    if title.startswith(("system.", "google.")):
        return BUILT_IN_VERSION
    schemas = store.select(MetadataSchema, parent=metadata_store)
    versions = [schema.schema_version for schema in schemas if title_of(schema) == title]
    return max(versions, key=_version_key, default=None)


def _version_key(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def _built_in(metadata_store: str, schema_type: int, title: str) -> MetadataSchema:
    schema_id = f"{title.replace('.', '-').lower()}-v{BUILT_IN_VERSION.replace('.', '-')}"
    return MetadataSchema(
        name=f"{metadata_store}/metadataSchemas/{schema_id}",
        schema_version=BUILT_IN_VERSION,
        schema=f"title: {title}\ntype: object\n",
        schema_type=schema_type,
    )
