"""The cache: outputs of earlier tasks by what went into them, trusted only while the outputs are as they were."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from localvertex.engine.spec import Component, Container, Task
from localvertex.engine.values import Artifact, Inputs, Outputs
from localvertex.store import Store, tables

_METADATA_IS_CONTENT = ("system.Metrics", "system.ClassificationMetrics", "system.SlicedClassificationMetrics")

_entries = sa.Table(
    "engine_cache",
    tables,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("pipeline", sa.String, nullable=False),
    sa.Column("outputs", sa.String, nullable=False),
    sa.Column("digests", sa.String, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
)

Fingerprint = dict[str, Any]


class Cache:
    """Outputs by fingerprint.

    Args:
        store: where entries are kept.
        digest: content digest of a `gs://` URI, None when nothing is there.
        exists: whether an API resource of that name exists.
    """

    def __init__(self, store: Store, digest: Callable[[str], str | None], exists: Callable[[str], bool]) -> None:
        self._store = store
        self._digest = digest
        self._exists = exists

    def fingerprint(self, task: Task, component: Component, container: Container, inputs: Inputs) -> Fingerprint:
        """What decides whether a task may be answered from the cache, part by part.

        Templates count as they are written: a job's name in a display name must not make every run a new one.
        """
        parts: Fingerprint = {"component": asdict(component)}
        parts["component"].pop("name")
        parts["component"].pop("executor")
        if task.cache_key:
            return {**parts, "cache_key": task.cache_key}
        return {
            **parts,
            "image": container.image,
            "command": container.command,
            "arguments": container.args,
            "environment": dict(container.env),
            "parameters": inputs.parameters,
            "artifacts": {name: [self.content(item) for item in items] for name, items in inputs.artifacts.items()},
        }

    def content(self, artifact: Artifact) -> str:
        """Digest of an artifact's content: its files, or its metadata where that is all its content."""
        on_disk = self._digest(artifact.uri) if artifact.uri.startswith("gs://") else None
        if artifact.schema_title in _METADATA_IS_CONTENT:
            return _hash({"metadata": artifact.metadata, "files": on_disk})
        return on_disk or _hash({"uri": artifact.uri, "metadata": artifact.metadata})

    def find(self, fingerprint: Fingerprint) -> Outputs | None:
        """The outputs of a task with this fingerprint, if all are still there and unchanged."""
        query = sa.select(_entries).where(_entries.c.key == _hash(fingerprint))
        with self._store.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        outputs = Outputs.from_json(row.outputs)
        return outputs if self._intact(outputs, json.loads(row.digests)) else None

    def keep(self, pipeline: str, fingerprint: Fingerprint, outputs: Outputs) -> None:
        """Remember the outputs of a task that succeeded."""
        row = {
            "key": _hash(fingerprint),
            "pipeline": pipeline,
            "outputs": outputs.to_json(),
            "digests": json.dumps(self._digests(outputs)),
            "created": time.time(),
        }
        with self._store.write() as connection:
            connection.execute(_entries.delete().where(_entries.c.key == row["key"]))
            connection.execute(_entries.insert().values(**row))

    def _digests(self, outputs: Outputs) -> dict[str, list[str]]:
        return {name: [self.content(item) for item in items] for name, items in outputs.artifacts.items()}

    def _intact(self, outputs: Outputs, digests: Mapping[str, list[str]]) -> bool:
        artifacts = [item for items in outputs.artifacts.values() for item in items]
        named = [str(item.metadata.get("resourceName", "")) for item in artifacts]
        return all(self._exists(name) for name in named if name) and self._digests(outputs) == digests


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
