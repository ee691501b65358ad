"""The cache: outputs of earlier tasks by what went into them, trusted only while the outputs are as they were."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from google.cloud.aiplatform_v1.types import Artifact as ArtifactResource

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

_flaws = sa.Table(
    "engine_cache_flaws",
    tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("key", sa.String, nullable=False, index=True),
    sa.Column("noticed", sa.Float, nullable=False),
    sa.Column("flaw", sa.String, nullable=False),
)

Fingerprint = dict[str, Any]
CacheEntry = dict[str, Any]


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
        """Digest of an artifact's content."""
        return content_digest(artifact, self._digest)

    def find(self, fingerprint: Fingerprint) -> Outputs | None:
        """The outputs of a task with this fingerprint, if all are still there and unchanged."""
        query = sa.select(_entries).where(_entries.c.key == _hash(fingerprint))
        with self._store.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        outputs = Outputs.from_json(row.outputs)
        flaw = self._flaw(outputs, json.loads(row.digests))
        if not flaw:
            return outputs
        with self._store.write() as connection:
            connection.execute(_flaws.insert().values(key=row.key, noticed=time.time(), flaw=flaw))
        return None

    def entry(self, pipeline: str, fingerprint: Fingerprint, outputs: Outputs) -> CacheEntry:
        """What to `keep` of a task that succeeded; reads its outputs."""
        return {
            "key": _hash(fingerprint),
            "pipeline": pipeline,
            "outputs": outputs.to_json(),
            "digests": json.dumps(self._digests(outputs)),
            "created": time.time(),
        }

    def keep(self, entry: CacheEntry) -> None:
        """Remember a task's outputs, in place of those that an equal task had."""
        with self._store.write() as connection:
            connection.execute(_entries.delete().where(_entries.c.key == entry["key"]))
            connection.execute(_entries.insert().values(**entry))

    def _digests(self, outputs: Outputs) -> dict[str, list[str]]:
        return {name: [self.content(item) for item in items] for name, items in outputs.artifacts.items()}

    def _flaw(self, outputs: Outputs, digests: Mapping[str, list[str]]) -> str:
        """What is no longer as it was kept; empty if nothing."""
        names = {item.name: output for output, items in outputs.artifacts.items() for item in items}
        recorded = {str(found.name) for found in self._store.find_all(ArtifactResource, sorted(names))}
        for name in names.keys() - recorded:
            return f"the artifact of output {names[name]} was deleted from the metadata store: {name}"
        for output, items in outputs.artifacts.items():
            for item, digest in zip(items, digests[output], strict=True):
                resource = str(item.metadata.get("resourceName", ""))
                if resource and not self._exists(resource):
                    return f"the resource that output {output} names is gone: {resource}"
                if self.content(item) != digest:
                    gone = item.uri.startswith("gs://") and self._digest(item.uri) is None
                    change = "is no longer there" if gone else "was altered since"
                    return f"output {output} {change}: {item.uri}"
        return ""


def content_digest(artifact: Artifact, digest: Callable[[str], str | None]) -> str:
    """Digest of an artifact's content: its files, or its metadata where that is all its content.

    Args:
        digest: content digest of a `gs://` URI, None when nothing is there.
    """
    on_disk = digest(artifact.uri) if artifact.uri.startswith("gs://") else None
    if artifact.schema_title in _METADATA_IS_CONTENT:
        return _hash({"metadata": artifact.metadata, "files": on_disk})
    return on_disk or _hash({"uri": artifact.uri, "metadata": artifact.metadata})


def flaw_noticed(store: Store, fingerprint: Fingerprint, since: float, until: float) -> str:
    """Why a task with this fingerprint was not answered with what was kept for it; empty if nothing was kept.

    Args:
        since, until: seconds since 1970; when the task was looked for in the cache.
    """
    query = sa.select(_flaws.c.flaw).where(
        _flaws.c.key == _hash(fingerprint), _flaws.c.noticed >= since, _flaws.c.noticed <= until
    )
    with store.read() as connection:
        return connection.execute(query.order_by(_flaws.c.noticed.desc())).scalars().first() or ""


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
