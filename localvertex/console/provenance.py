"""Where an artifact comes from and where it went, across runs: from the source data to the endpoint that serves it.

What is shown is a part of the metadata graph, chosen so that a person can read it. Of what is alike (the hundred
trainings that read one dataset) a few stand for all until they are asked for; executions that the cache answered made
nothing and are left out; so is what has nothing to do with the artifact, until its neighbour is opened.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import Artifact, Endpoint, Event, Execution

from localvertex import names, schemas
from localvertex.graph import events, memberships
from localvertex.lineage import PIPELINE_RUN, RUN
from localvertex.services.models import ModelService
from localvertex.store import CHUNK, Store, facets, resources

ARTIFACT, EXECUTION, GROUP, ENDPOINT = "artifact", "execution", "group", "endpoint"

MOST_NODES = 1500
"""More are not drawn at once: what lies further away is reached by going on from one of them."""

_ALIKE = 4
_STEP = 50
_MOST_NEIGHBOURS = 5000
_INPUT, _OUTPUT = int(Event.Type.INPUT), int(Event.Type.OUTPUT)
_CACHED = int(Execution.State.CACHED)
_CONTEXT = "context"
_KINDS = {ARTIFACT: "Artifact", EXECUTION: "Execution", _CONTEXT: "Context"}
_OTHER = {ARTIFACT: EXECUTION, EXECUTION: ARTIFACT}
_RESOURCE = "metadata.resourceName.string_value"


@dataclass
class Node:
    """One thing in the picture.

    Args:
        name: resource name; of a group, its token.
        kind: ARTIFACT, EXECUTION, GROUP or ENDPOINT.
        title: what a person calls it.
        detail: schema of an artifact, state of an execution, what a group holds.
        uri: of an artifact.
        resource: what an artifact stands for in another service, such as a model: a resource name.
        run: resource name of the run that an execution belongs to.
        members: how many a group holds.
        hidden: how many neighbours are not shown.
        token: opens it, in `opened`.
    """

    name: str
    kind: str
    title: str
    detail: str = ""
    uri: str = ""
    resource: str = ""
    run: str = ""
    members: int = 0
    hidden: int = 0
    token: str = ""


@dataclass(frozen=True)
class Edge:
    """From what was read to what read it, from what was made to what was made of it."""

    source: str
    target: str
    label: str = ""


@dataclass
class Lineage:
    """A part of the graph around one artifact.

    Args:
        start: its name.
        nodes: by name, the nearest first.
        edges: among them.
        cut: whether there is more than could be shown.
    """

    start: str
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: dict[tuple[str, str], Edge] = field(default_factory=dict)
    cut: bool = False

    def join(self, source: str, target: str, label: str = "") -> None:
        """Connect two nodes."""
        self.edges.setdefault((source, target), Edge(source, target, label))

    def straighten(self) -> None:
        """Leave out what leads back: metadata may say of a thing that it was made of itself."""
        onward: dict[str, list[str]] = defaultdict(list)
        for source, target in self.edges:
            onward[source].append(target)
        done: set[str] = set()
        for first in self.nodes:
            path, trail = {first}, [(first, iter(onward[first]))]
            while trail and first not in done:
                name, rest = trail[-1]
                for following in rest:
                    if following in path:
                        del self.edges[name, following]
                    elif following not in done:
                        path.add(following)
                        trail.append((following, iter(onward[following])))
                        break
                else:
                    trail.pop()
                    path.discard(name)
                    done.add(name)


@dataclass(frozen=True)
class _Neighbour:
    """What is at the other end of an event."""

    name: str
    title: str
    schema: str
    state: int
    uri: str
    created: float

    @property
    def alike(self) -> tuple[str, str, int]:
        return self.title, self.schema, self.state


class Provenance:
    """Finds what an artifact was made of and what was made of it.

    Args:
        store: the metadata graph.
        models: the registry, which knows what a deployed model was uploaded from.
    """

    def __init__(self, store: Store, models: ModelService) -> None:
        self._store = store
        self._models = models

    def of(self, start: str, opened: Collection[str] = (), most: int = MOST_NODES) -> Lineage:
        """The graph around an artifact.

        Args:
            start: resource name of the artifact.
            opened: tokens of nodes: a group's members are shown, or all neighbours of an artifact or execution.
            most: how many nodes at most.

        Raises:
            google.api_core.exceptions.NotFound: there is no such artifact.
        """
        self._store.get(Artifact, start)
        with self._store.read() as connection:
            walk = _Walk(connection, start, frozenset(opened), most)
            walk.follow(_OUTPUT, _INPUT)
            walk.follow(_INPUT, _OUTPUT)
            walk.open_nodes()
            walk.name_resources()
            self._serve(walk.found)
            walk.found.straighten()
            walk.name_runs()
            walk.count_hidden()
        return walk.found

    def maker(self, artifact: str) -> Node | None:
        """The execution that made an artifact; None where none is known."""
        with self._store.read() as connection:
            walk = _Walk(connection, artifact, frozenset(), 2)
            walk.step([artifact], ARTIFACT, _OUTPUT)
            walk.name_runs()
        return next((node for node in walk.found.nodes.values() if node.kind == EXECUTION), None)

    def run_of(self, execution: str) -> str:
        """The run's context that an execution belongs to; '' where it belongs to none."""
        with self._store.read() as connection:
            return _runs_of(connection, [execution]).get(execution, "")

    def of_model(self, model: str, version: str) -> str:
        """The artifact that a version of a model was made as, or uploaded from; '' where there is none.

        Args:
            model: resource name.
            version: its number.
        """
        if found := self._standing_for(f"{model}@{version}"):
            return found
        uri = self._uploaded_from(model, version)
        if not uri:
            return ""
        parent = schemas.default_store(names.location_parent(model))
        of_uri = self._store.select(Artifact, resources.c.uri == uri, parent=parent, limit=1)
        return str(of_uri[0].name) if of_uri else ""

    def _standing_for(self, resource: str) -> str:
        """The newest artifact that stands for a resource of another service; '' where there is none."""
        named = facets.c.kind == "Artifact", facets.c.path == _RESOURCE, facets.c.text == resource
        newest = sa.select(sa.func.max(facets.c.resource)).where(*named).scalar_subquery()
        with self._store.read() as connection:
            return str(connection.execute(sa.select(resources.c.name).where(resources.c.id == newest)).scalar() or "")

    def _uploaded_from(self, model: str, version: str) -> str:
        try:
            return str(self._models.resolve(f"{model}@{version}").artifact_uri).rstrip("/")
        except exceptions.NotFound:
            return ""

    def _serve(self, found: Lineage) -> None:
        """Lead from models to the endpoints that serve them now, whoever has deployed them."""
        shown = [node for node in found.nodes.values() if node.kind == ARTIFACT]
        by_resource = {node.resource: node for node in shown if node.resource}
        by_uri = {node.uri.rstrip("/"): node for node in shown if node.uri}
        for endpoint in self._store.select(Endpoint):
            for deployed in endpoint.deployed_models:
                model = by_resource.get(f"{deployed.model}@{deployed.model_version_id}")
                model = model or by_uri.get(self._uploaded_from(deployed.model, deployed.model_version_id))
                if model is None:
                    continue
                share = endpoint.traffic_split.get(deployed.id, 0)
                # A task that made the endpoint has left an artifact of it, which need not stand there twice.
                same = by_resource.get(endpoint.name)
                if same is None:
                    node = Node(endpoint.name, ENDPOINT, endpoint.display_name, "Endpoint", resource=endpoint.name)
                    same = found.nodes.setdefault(endpoint.name, node)
                found.join(model.name, same.name, f"{share} %")


class _Walk:
    """One way through the graph, level by level: each level is a query or two, however many nodes it has."""

    def __init__(self, connection: sa.Connection, start: str, opened: frozenset[str], most: int) -> None:
        self._connection = connection
        self._opened = opened
        self._most = most
        self.found = Lineage(start)
        self._show(_rows(connection, ARTIFACT, [start])[start], ARTIFACT)

    def follow(self, arrives: int, leaves: int) -> None:
        """Go from the start to the executions on one side of it, to the artifacts beyond them, and so on.

        Args:
            arrives: the type of the events between an artifact and the executions that come next.
            leaves: the type of the events between those and the artifacts beyond them.
        """
        frontier = [self.found.start]
        while frontier:
            executions = self.step(frontier, ARTIFACT, arrives)
            frontier = self.step(executions, EXECUTION, leaves)

    def step(self, frontier: Sequence[str], kind: str, type_: int) -> list[str]:
        """Show what the nodes of a level are connected with by events of one type; returns what is new."""
        new: list[str] = []
        for node, neighbours in self._neighbours(frontier, kind, type_).items():
            new += self._show_all(node, kind, type_, _real(neighbours) if kind == ARTIFACT else neighbours)
        return new

    def open_nodes(self) -> None:
        """Show all neighbours of the artifacts and executions that are opened."""
        done: set[str] = set()
        while waiting := [
            node
            for node in self.found.nodes.values()
            if node.token in self._opened and node.name not in done and node.kind in (ARTIFACT, EXECUTION)
        ]:
            for node in waiting:
                done.add(node.name)
                for type_ in (_INPUT, _OUTPUT):
                    neighbours = self._neighbours([node.name], node.kind, type_).get(node.name, [])
                    self._show_all(node.name, node.kind, type_, neighbours)

    def _show_all(self, node: str, kind: str, type_: int, neighbours: Sequence[_Neighbour]) -> list[str]:
        other = _OTHER[kind]
        new = []
        alike: dict[tuple[str, str, int], list[_Neighbour]] = defaultdict(list)
        for neighbour in neighbours:
            alike[neighbour.alike].append(neighbour)
        for of_one_kind in alike.values():
            for neighbour in self._unfolded(node, kind, type_, of_one_kind):
                if self._show(neighbour, other):
                    new.append(neighbour.name)
                if neighbour.name in self.found.nodes:
                    self._join(node, kind, type_, neighbour.name)
        return new

    def _unfolded(self, node: str, kind: str, type_: int, alike: Sequence[_Neighbour]) -> Sequence[_Neighbour]:
        """Those of some neighbours that are shown one by one; a group stands for the others."""
        shown = [each for each in alike if each.name in self.found.nodes]
        rest = [each for each in alike if each.name not in self.found.nodes]
        offset = 0
        while len(rest) > _ALIKE or (offset and rest):
            token = _token(node, str(type_), *map(str, alike[0].alike), str(offset))
            if token not in self._opened:
                first, count = rest[0], len(rest)
                detail = f"{'more than ' if count >= _MOST_NEIGHBOURS else ''}{count} {_OTHER[kind]}s"
                if self._has_room(token):
                    self.found.nodes[token] = Node(token, GROUP, first.title, detail, members=count, token=token)
                    self._join(node, kind, type_, token)
                return shown
            shown, rest, offset = [*shown, *rest[:_STEP]], rest[_STEP:], offset + _STEP
            if not rest:
                return shown
        return [*shown, *rest]

    def _has_room(self, name: str) -> bool:
        if name in self.found.nodes:
            return True
        if len(self.found.nodes) >= self._most:
            self.found.cut = True
            return False
        return True

    def _show(self, row: _Neighbour, kind: str) -> bool:
        """Add a node; returns whether it is new."""
        if row.name in self.found.nodes or not self._has_room(row.name):
            return False
        detail = row.schema.rpartition(".")[2]
        if kind == EXECUTION:
            detail = Execution.State(row.state).name.lower().replace("_", " ")
        title = row.title or names.id_of(row.name)
        node = Node(row.name, kind, title, detail, uri=row.uri, token=_token(row.name))
        self.found.nodes[row.name] = node
        return True

    def _join(self, node: str, kind: str, type_: int, other: str) -> None:
        artifact, execution = (node, other) if kind == ARTIFACT else (other, node)
        source, target = (artifact, execution) if type_ == _INPUT else (execution, artifact)
        self.found.join(source, target)

    def _neighbours(self, nodes: Sequence[str], kind: str, type_: int) -> dict[str, list[_Neighbour]]:
        """What these nodes are connected with, the newest first."""
        # Events first and then what they name: a join of the two would tempt a database to look through all there is.
        pairs = [pair for some in _chunks(nodes) for pair in self._pairs(some, kind, type_)]
        rows = _rows(self._connection, _OTHER[kind], list(dict.fromkeys(there for _, there in pairs)))
        found: dict[str, list[_Neighbour]] = defaultdict(list)
        for here, there in pairs:
            if there in rows:
                found[here].append(rows[there])
        return {node: found[node] for node in nodes if node in found}

    def _pairs(self, nodes: Sequence[str], kind: str, type_: int) -> Iterator[tuple[str, str]]:
        here, there = events.c.artifact, events.c.execution
        if kind == EXECUTION:
            here, there = there, here
        query = sa.select(here, there).where(here.in_(nodes), events.c.type == type_)
        rows = self._connection.execute(query.order_by(events.c.id.desc()).limit(_MOST_NEIGHBOURS)).all()
        if len(rows) == _MOST_NEIGHBOURS and len(nodes) > 1:
            # One of them has very many: it must not take the others' places.
            for half in (nodes[: len(nodes) // 2], nodes[len(nodes) // 2 :]):
                yield from self._pairs(half, kind, type_)
        else:
            yield from ((row[0], row[1]) for row in rows)

    def name_resources(self) -> None:
        """Find what the artifacts shown stand for in other services."""
        for some in _chunks(self._shown(ARTIFACT)):
            query = sa.select(resources.c.name, facets.c.text).join_from(
                resources,
                facets,
                sa.and_(facets.c.resource == resources.c.id, facets.c.path == _RESOURCE),
            )
            query = query.where(resources.c.kind == "Artifact", resources.c.name.in_(some))
            for name, text in self._connection.execute(query):
                self.found.nodes[name].resource = text or ""

    def name_runs(self) -> None:
        """Find the runs of the executions shown."""
        for name, run in _runs_of(self._connection, self._shown(EXECUTION)).items():
            self.found.nodes[name].run = run

    def count_hidden(self) -> None:
        """Count the neighbours that are not shown."""
        drawn: dict[str, int] = defaultdict(int)
        for edge in self.found.edges.values():
            for end, other in ((edge.source, edge.target), (edge.target, edge.source)):
                drawn[end] += self.found.nodes[other].members or (self.found.nodes[other].kind != ENDPOINT)
        for kind, column in ((ARTIFACT, events.c.artifact), (EXECUTION, events.c.execution)):
            for some in _chunks(self._shown(kind)):
                query = sa.select(column, sa.func.count()).where(column.in_(some)).group_by(column)
                for name, count in self._connection.execute(query):
                    self.found.nodes[name].hidden = max(0, count - drawn[name])

    def _shown(self, kind: str) -> list[str]:
        return [node.name for node in self.found.nodes.values() if node.kind == kind]


_COLUMNS = (
    resources.c.name,
    resources.c.display_name,
    resources.c.schema_title,
    resources.c.state,
    resources.c.uri,
    resources.c.created,
)


def _rows(connection: sa.Connection, kind: str, wanted: Sequence[str]) -> dict[str, _Neighbour]:
    found: dict[str, _Neighbour] = {}
    for some in _chunks(wanted):
        query = sa.select(*_COLUMNS).where(resources.c.kind == _KINDS[kind], resources.c.name.in_(some))
        found.update((row.name, _Neighbour(*row)) for row in connection.execute(query))
    return found


def _runs_of(connection: sa.Connection, executions: Sequence[str]) -> dict[str, str]:
    pairs = []
    for some in _chunks(executions):
        query = sa.select(memberships.c.node, memberships.c.context).where(memberships.c.node.in_(some))
        pairs += [(row[0], row[1]) for row in connection.execute(query)]
    contexts = _rows(connection, _CONTEXT, list(dict.fromkeys(context for _, context in pairs)))
    return {node: run for node, run in pairs if run in contexts and contexts[run].schema == PIPELINE_RUN}


def _real(neighbours: Sequence[_Neighbour]) -> Sequence[_Neighbour]:
    """Without what only notes that an artifact was there: a cached task, the execution of a run as a whole."""
    real = [each for each in neighbours if each.state != _CACHED and each.schema != RUN]
    return real or [each for each in neighbours if each.schema != RUN] or neighbours


def _token(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:10]


def _chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))


def neighbours_by_side(lineage: Lineage) -> Mapping[str, tuple[list[str], list[str]]]:
    """Of each node, the names of what is before it and of what comes after it."""
    sides: dict[str, tuple[list[str], list[str]]] = {name: ([], []) for name in lineage.nodes}
    for edge in lineage.edges.values():
        sides[edge.source][1].append(edge.target)
        sides[edge.target][0].append(edge.source)
    return sides
