"""Lineage: from any artifact back to the source data and forward to the endpoint that serves it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import Artifact, Event, Execution, PipelineJob
from google.protobuf import json_format
from starlette.responses import JSONResponse

from localvertex import names
from localvertex.buckets import Buckets
from localvertex.console import provenance
from localvertex.console.layout import Area, Box, layered
from localvertex.console.provenance import ARTIFACT, GROUP, Node, Provenance
from localvertex.console.services import ConsoleServices
from localvertex.console.web import Answer, Page, Redirect, Route, Visit, address
from localvertex.engine import values
from localvertex.engine.cache import content_digest
from localvertex.engine.journal import Journal
from localvertex.graph import Graph
from localvertex.services.moments import seconds
from localvertex.services.prediction import plain

MOST_DIGESTS = 50
"""So many are asked for at once; a page asks again for the others."""

_EXECUTION = "projects/{project}/locations/{location}/metadataStores/{store}/executions/{id}"
_MOST_LISTED = 150
_TITLE, _DETAIL, _SCHEMA = 24, 29, 15
_ZOOMS = {"50": 0.5, "100": 1.0}


@dataclass(frozen=True)
class Shown:
    """A node with what the template writes on it.

    Args:
        node: what it is.
        area: where it is drawn.
        target: the address of its own page; '' for none.
        toggle: the address of this page with the node opened or closed; '' where nothing is hidden.
        opened: whether its neighbours, or a group's first members, are shown.
        chosen: whether the page is about it.
        serves: the share of an endpoint's requests that a model gets, in words.
    """

    node: Node
    area: Area
    target: str
    toggle: str
    opened: bool
    chosen: bool
    serves: str = ""

    @property
    def title(self) -> str:
        """Its title as far as there is room."""
        return _short(self.node.title, _TITLE)

    @property
    def detail(self) -> str:
        """What it is, as far as there is room."""
        run = f" in {names.id_of(self.node.run)}" if self.node.run else ""
        serves = f", {self.serves}" if self.serves else ""
        if self.node.kind == ARTIFACT:
            return _short(self.node.detail, _SCHEMA if not serves else _SCHEMA - 8) + serves  # and there is a digest
        return _short(f"{self.node.detail}{run}", _DETAIL - len(serves)) + serves


class LineagePage:
    """The page, and the digests that it asks for.

    Args:
        services: the metadata graph, and what serves models.
    """

    def __init__(self, services: ConsoleServices) -> None:
        self._store = services.store
        self._buckets: Buckets = services.buckets
        self._provenance = Provenance(services.store, services.models)

    def routes(self) -> Sequence[Route]:
        """Their addresses."""
        return (
            Route("GET", "lineage/{artifact:path}", self._show),
            Route("POST", "api/digests", self._digests),
            Route("GET", _EXECUTION, self._execution),
        )

    def _show(self, visit: Visit) -> Answer:
        name = visit.arguments["artifact"]
        artifact = self._store.get(Artifact, name)
        tokens = [token for token in visit.query.get("open", "").split(",") if token]
        found = self._provenance.of(name, tokens)
        zoom = visit.query.get("zoom", "100")
        layout = layered(tuple(Box(node) for node in found.nodes), tuple(found.edges))
        serves: dict[str, list[str]] = {}
        for edge in found.edges.values():
            if edge.label:
                serves.setdefault(edge.target, []).append(edge.label)
        shown = {
            node.name: Shown(
                node,
                layout.areas[node.name],
                _target(node),
                _toggle(visit, node, tokens),
                opened=node.token in tokens,
                chosen=node.name == name,
                serves=", ".join(serves.get(node.name, ())),
            )
            for node in found.nodes.values()
        }
        sides = provenance.neighbours_by_side(found)
        return Page(
            "lineage.html",
            f"Lineage of {artifact.display_name or names.id_of(name)}",
            {
                "section": "artifacts",
                "artifact": artifact,
                "found": found,
                "layout": layout,
                "scale": _ZOOMS.get(zoom, 0.0),
                "zooms": [
                    (visit.address(zoom=value if value != "100" else None), label, zoom == value)
                    for value, label in (("100", "Full size"), ("50", "Half"), ("fit", "All of it"))
                ],
                "shown": shown,
                "sides": {
                    name: tuple([shown[other] for other in side] for side in both) for name, both in sides.items()
                },
                "most": provenance.MOST_NODES,
                "as_list": len(shown) <= _MOST_LISTED or visit.query.get("list") == "on",
                "list_target": visit.address(list="on"),
            },
            live=("graph",),
            ended=True,
        )

    def _execution(self, visit: Visit) -> Answer:
        """A pipeline's task is shown with its run; what a script has noted has a page of its own."""
        execution = self._store.get(Execution, visit.name)
        if task := self._task(visit.name):
            return Redirect(task)
        subgraph = Graph(self._store).of_execution(visit.name)
        artifacts = {str(artifact.name): artifact for artifact in subgraph.artifacts}
        return Page(
            "execution.html",
            str(execution.display_name) or names.id_of(visit.name),
            {
                "section": "artifacts",
                "execution": execution,
                "state": Execution.State(execution.state).name,
                "created": seconds(execution, "create_time"),
                "metadata": _metadata(execution),
                "sides": [
                    (title, [artifacts[event.artifact] for event in subgraph.events if event.type_ == type_])
                    for title, type_ in (("Read", Event.Type.INPUT), ("Made", Event.Type.OUTPUT))
                ],
            },
        )

    def _task(self, name: str) -> str:
        """The address of the task that an execution is of; '' where it is of none."""
        run = self._provenance.run_of(name)
        job = f"{names.location_parent(run)}/pipelineJobs/{names.id_of(run)}" if run else ""
        if not run or self._store.find(PipelineJob, job) is None:
            return ""
        paths = [record.path for record in Journal(self._store).of(job).values() if record.execution == name]
        return address(job, task=paths[0]) if paths else address(job)

    def _digests(self, visit: Visit) -> Answer:
        """The digests of artifacts by name, made as those that decide whether a task is answered from the cache."""
        try:
            wanted = json.loads(visit.body)["artifacts"]
            artifacts = self._store.find_all(Artifact, [str(name) for name in wanted[:MOST_DIGESTS]])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise exceptions.InvalidArgument('The body must be {"artifacts": ["projects/…", …]}.') from None
        return JSONResponse({str(artifact.name): self.digest(artifact) for artifact in artifacts})

    def digest(self, artifact: Artifact) -> str:
        """The digest of an artifact's content; '' where it cannot be read."""
        wire = Artifact.pb(artifact)
        try:
            metadata = json_format.MessageToDict(wire.metadata)
            read = values.Artifact(wire.name, wire.uri, wire.schema_title, wire.schema_version, metadata)
            return content_digest(read, self._buckets.digest)
        except (exceptions.GoogleAPICallError, json_format.Error, OSError, ValueError):
            return ""


def _toggle(visit: Visit, node: Node, tokens: Sequence[str]) -> str:
    if not (node.members or node.hidden or node.token in tokens):
        return ""
    rest = [token for token in tokens if token != node.token]
    return visit.address(open=",".join(rest if node.token in tokens else [*rest, node.token]) or None)


def _target(node: Node) -> str:
    return "" if node.kind == GROUP else address(node.name)


def _metadata(execution: Execution) -> list[tuple[str, str]]:
    wire = Execution.pb(execution).metadata
    return [(name, value if isinstance(value, str) else str(plain(wire.fields[name]))) for name, value in wire.items()]


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
