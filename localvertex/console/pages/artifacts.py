"""Artifacts: what is in one, as far as it can be shown, and its files to take away."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import Artifact, MetadataStore
from google.protobuf import json_format
from starlette.responses import StreamingResponse

from localvertex import names
from localvertex.console import contents, evaluation, queries, records
from localvertex.console.contents import Contents, File, Listing
from localvertex.console.provenance import Provenance
from localvertex.console.services import ConsoleServices
from localvertex.console.web import Answer, Page, Redirect, Route, Visit, address, foreign
from localvertex.services.moments import seconds
from localvertex.store import resources

SCHEMAS = (
    *("system.Dataset", "system.Model", "system.Metrics", "system.ClassificationMetrics", "system.HTML"),
    *("system.Markdown", "system.Artifact", "google.VertexModel", "google.VertexEndpoint"),
)
"""Types offered in the list's filter; any other can be typed."""

_SHOWN_RESOURCES = ("models", "endpoints", "hyperparameterTuningJobs", "customJobs", "batchPredictionJobs")
_PATH = "projects/{project}/locations/{location}/metadataStores/{store}/artifacts/{id}"
_MOST_PICTURES, _MOST_TABLES, _MOST_TEXTS, _MOST_REPORTS = 24, 4, 4, 2
_MOST_SHARDS, _MOST_COUNTED = 40, 2_000_000
_SAMPLES = 8
_LONGEST_METADATA = 20_000


@dataclass(frozen=True)
class Preview:
    """One file as it is shown: one of the three is there.

    Args:
        file: which.
        source: address of what a picture or a frame shows.
        text: its first lines.
        table: its first rows.
        more: whether it goes on.
    """

    file: File
    source: str = ""
    text: str = ""
    table: contents.Table | None = None
    more: bool = False


@dataclass(frozen=True)
class Recorded:
    """TFRecord files: how many records each has, and what the first ones hold."""

    shards: Sequence[records.Shard]
    hidden: int
    samples: Sequence[records.Sample]
    source: str

    @property
    def count(self) -> int:
        """Records in all that were counted."""
        return sum(shard.records for shard in self.shards)


class ArtifactPages:
    """The list, the page of one artifact, and its files.

    Args:
        services: the metadata graph and the buckets.
    """

    def __init__(self, services: ConsoleServices) -> None:
        self._store = services.store
        self._contents = Contents(services.buckets)
        self._provenance = Provenance(services.store, services.models)

    def routes(self) -> Sequence[Route]:
        """Their addresses."""
        return (
            Route("GET", "artifacts", self._list),
            Route("GET", f"{_PATH}:file", self._download),
            Route("GET", f"{_PATH}:show", self._content),
            Route("GET", _PATH, self._show),
        )

    def _list(self, visit: Visit) -> Answer:
        schema, name = visit.query.get("schema", "").strip(), visit.query.get("name", "").strip()
        where = [resources.c.schema_title == schema] if schema else []
        where += [resources.c.display_name == name] if name else []
        within = resources.c.parent.in_([str(store.name) for store in self._store.select(MetadataStore)])
        found, older = queries.read_page(self._store, Artifact, visit.query.get("before", ""), within, *where)
        return Page(
            "artifacts.html",
            "Artifacts",
            {
                "found": [(artifact, seconds(artifact, "create_time")) for artifact in found],
                "schema": schema,
                "name": name,
                "schemas": SCHEMAS,
                "newest": visit.address(before=None) if visit.query.get("before") else "",
                "older": visit.address(before=older) if older else "",
            },
        )

    def _show(self, visit: Visit) -> Answer:
        artifact = self._artifact(visit)
        name, uri = str(artifact.name), str(artifact.uri)
        metadata = _metadata(artifact)
        listing = self._contents.list(uri)
        kinds = self._kinds(artifact, listing)
        begin = _whole(visit.query.get("from", ""))
        part = listing.files[begin : begin + contents.PAGE_FILES]
        after = begin + contents.PAGE_FILES
        confusion = evaluation.confusion(metadata)
        return Page(
            "artifact.html",
            str(artifact.display_name) or names.id_of(name),
            {
                "section": "artifacts",
                "artifact": artifact,
                "created": seconds(artifact, "create_time"),
                "kind": str(artifact.schema_title).rpartition(".")[2],
                "maker": self._provenance.maker(name),
                "resource": _resource(metadata),
                "scalars": evaluation.scalars(metadata),
                "other": _laid_out({key: value for key, value in metadata.items() if not _is_shown(key, value)}),
                "confusion": confusion,
                "curves": evaluation.drawn_curves(metadata),
                "listing": listing,
                "files": [(file, _at(name, "file", file)) for file in part],
                "pages": (
                    visit.address(**{"from": None}) if begin else "",
                    visit.address(**{"from": str(after)}) if after < len(listing.files) else "",
                ),
                "reports": self._previews(artifact, kinds, contents.REPORT, _MOST_REPORTS),
                "pictures": self._previews(artifact, kinds, contents.PICTURE, _MOST_PICTURES),
                "picture_count": sum(kind == contents.PICTURE for kind in kinds.values()),
                "tables": self._previews(artifact, kinds, contents.TABLE, _MOST_TABLES),
                "texts": self._previews(artifact, kinds, contents.TEXT, _MOST_TEXTS),
                "recorded": self._recorded(uri, kinds),
            },
        )

    def _artifact(self, visit: Visit) -> Artifact:
        return self._store.get(Artifact, visit.name)

    def _kinds(self, artifact: Artifact, listing: Listing) -> dict[File, str]:
        """What the files are; where a name does not tell, only some are looked into."""
        found: dict[File, str] = {}
        looks = contents.PAGE_FILES
        for file in listing.files:
            if kind := contents.kind_by_name(file.name):
                found[file] = kind
            elif looks:
                looks -= 1
                with suppress(exceptions.NotFound, OSError):
                    path = self._contents.path(str(artifact.uri), file.path)
                    found[file] = contents.kind_of(path, str(artifact.schema_title))
        return found

    def _previews(self, artifact: Artifact, kinds: Mapping[File, str], kind: str, most: int) -> list[Preview]:
        uri = str(artifact.uri)
        found: list[Preview] = []
        for file in (file for file, of_kind in kinds.items() if of_kind == kind):
            if len(found) == most:
                break
            with suppress(exceptions.NotFound, OSError):
                found.append(self._preview(str(artifact.name), self._contents.path(uri, file.path), file, kind))
        return found

    def _preview(self, name: str, path: Path, file: File, kind: str) -> Preview:
        if kind in (contents.PICTURE, contents.REPORT):
            return Preview(file, source=_at(name, "show", file))
        if kind == contents.TABLE and (table := contents.table_head(path)):
            return Preview(file, table=table, more=table.more)
        text, more = contents.text_head(path)
        return Preview(file, text=text, more=more)

    def _recorded(self, uri: str, kinds: Mapping[File, str]) -> Recorded | None:
        files = [file for file, kind in kinds.items() if kind == contents.RECORDS]
        if not files:
            return None
        shards, room = [], _MOST_COUNTED
        for file in files[:_MOST_SHARDS]:
            number, whole = records.count(self._contents.path(uri, file.path), room)
            room -= number
            shards.append(records.Shard(file.path or file.name, file.size, number, whole))
        schema: Mapping[str, Any] = {}
        if described := next((file for file in kinds if file.path == "schema.json"), None):
            schema = records.read_schema(self._contents.path(uri, described.path))
        first = next((file for file, shard in zip(files, shards, strict=False) if shard.records), files[0])
        found = records.samples(self._contents.path(uri, first.path), schema, _SAMPLES)
        return Recorded(shards, len(files) - len(shards), found, first.path or first.name)

    def _download(self, visit: Visit) -> Answer:
        """One file to be saved, as it is: whatever it is, the browser does not show it."""
        wanted = visit.query.get("path", "")
        path = self._contents.path(str(self._artifact(visit).uri), wanted)
        name = PurePosixPath(wanted).name or path.name
        answer = foreign(b"", "application/octet-stream", download=name)
        headers = {**answer.headers, "content-length": str(path.stat().st_size)}
        return StreamingResponse(contents.pieces(path), headers=headers)

    def _content(self, visit: Visit) -> Answer:
        """One picture or report to be shown within a page."""
        artifact = self._artifact(visit)
        path = self._contents.path(str(artifact.uri), visit.query.get("path", ""))
        if path.stat().st_size > contents.MOST_SHOWN_BYTES:
            return Redirect(_at(str(artifact.name), "file", File(visit.query.get("path", ""), path.name, 0)))
        kind = contents.kind_of(path, str(artifact.schema_title))
        return foreign(path.read_bytes(), contents.shown_type(path, kind))


def _at(name: str, verb: str, file: File) -> str:
    return address(f"{name}:{verb}", **({"path": file.path} if file.path else {}))


def _metadata(artifact: Artifact) -> dict[str, Any]:
    try:
        return dict(json_format.MessageToDict(Artifact.pb(artifact).metadata))
    except json_format.Error:
        return {}  # with an infinity in it, which JSON has not


def _laid_out(metadata: Mapping[str, Any]) -> str:
    return json.dumps(metadata, indent=2, ensure_ascii=False)[:_LONGEST_METADATA] if metadata else ""


def _is_shown(key: str, value: Any) -> bool:
    return key in ("confusionMatrix", "confidenceMetrics") or isinstance(value, str | int | float | bool)


def _resource(metadata: Mapping[str, Any]) -> tuple[str, str]:
    """Address and name of what an artifact stands for in another service; empty where it is only itself."""
    name = metadata.get("resourceName")
    if not isinstance(name, str) or not name.startswith("projects/"):
        return "", ""
    bare, _, version = name.partition("@")
    if bare.split("/")[-2] not in _SHOWN_RESOURCES:
        return "", name
    return address(bare) + (f"#version-{quote(version)}" if version else ""), name


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0
