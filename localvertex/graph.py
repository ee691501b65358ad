"""The edges of the metadata graph: what belongs to which context, which context to which, what made what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import Artifact, Context, Event, Execution, LineageSubgraph

from localvertex.store import CHUNK, Resource, Store, kind_of, resources, tables

MAX_PARENTS = 10
MAX_SUBGRAPH = 1000
"""No query answers with more artifacts, executions or events than this, as the API documents."""

memberships = sa.Table(
    "memberships",
    tables,
    sa.Column("context", sa.String, primary_key=True),
    sa.Column("node", sa.String, primary_key=True),
    sa.Column("resource", sa.ForeignKey(resources.c.id, ondelete="CASCADE"), nullable=False, index=True),
    sa.Index("memberships_by_node", "node"),
    sa.Index("memberships_newest_first", "context", "resource"),
)

context_children = sa.Table(
    "context_children",
    tables,
    sa.Column("parent", sa.String, primary_key=True),
    sa.Column("child", sa.String, primary_key=True),
    sa.Column("parent_resource", sa.ForeignKey(resources.c.id, ondelete="CASCADE"), nullable=False),
    sa.Column("child_resource", sa.ForeignKey(resources.c.id, ondelete="CASCADE"), nullable=False, index=True),
    sa.Index("context_children_by_child", "child", "parent_resource"),
    sa.Index("context_children_newest_first", "parent", "child_resource"),
    sa.Index("context_children_by_parent", "parent_resource"),
)

events = sa.Table(
    "events",
    tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("execution", sa.String, nullable=False),
    sa.Column("artifact", sa.String, nullable=False),
    sa.Column("type", sa.Integer, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("execution", "artifact"),
    sa.Index("events_by_artifact", "artifact", "type", "execution"),
)

Item = TypeVar("Item")


class Graph:
    """Edges between artifacts, executions and contexts; adding one that is there already does nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add_members(self, context: str, nodes: Iterable[str]) -> None:
        """Put artifacts and executions into a context.

        Raises:
            google.api_core.exceptions.NotFound: one of them, or the context, does not exist.
        """
        nodes = list(dict.fromkeys(nodes))
        with self._store.write() as connection:
            self._require(Context, [context])
            ids = self._require(Artifact, [node for node in nodes if "/artifacts/" in node])
            ids |= self._require(Execution, [node for node in nodes if "/artifacts/" not in node])
            there = _select_in(connection, memberships.c.node, nodes, memberships.c.context == context)
            rows = [{"context": context, "node": node, "resource": ids[node]} for node in nodes if node not in there]
            if rows:
                connection.execute(memberships.insert(), rows)

    def add_children(self, parent: str, children: Iterable[str]) -> None:
        """Make contexts the children of another.

        Raises:
            google.api_core.exceptions.NotFound: one of them does not exist.
            google.api_core.exceptions.InvalidArgument: a cycle, or a child with more than ten parents.
        """
        children = list(dict.fromkeys(children))
        with self._store.write() as connection:
            ids = self._require(Context, [parent, *children])
            ancestors = self._ancestors(connection, parent)
            for child in children:
                if child in ancestors:
                    raise exceptions.InvalidArgument(
                        f"Adding Context {child} as a child of {parent} would create a cycle."
                    )
                parents = self.parents([child])[child]
                if parent in parents:
                    continue
                if len(parents) >= MAX_PARENTS:
                    raise exceptions.InvalidArgument(
                        f"Context {child} already has {MAX_PARENTS} parent contexts, the most it may have."
                    )
                connection.execute(
                    context_children.insert().values(
                        parent=parent, child=child, parent_resource=ids[parent], child_resource=ids[child]
                    )
                )

    def remove_children(self, parent: str, children: Sequence[str]) -> None:
        """Undo `add_children`; contexts that are no children of it are skipped."""
        with self._store.write() as connection:
            self._require(Context, [parent])
            connection.execute(
                context_children.delete().where(
                    context_children.c.parent == parent, context_children.c.child.in_(children)
                )
            )

    def parents(self, contexts: Sequence[str]) -> dict[str, list[str]]:
        """The parent contexts of each of these contexts."""
        found: dict[str, list[str]] = {context: [] for context in contexts}
        with self._store.read() as connection:
            for some in _chunks(contexts):
                edges = sa.select(context_children.c.parent, context_children.c.child)
                edges = edges.where(context_children.c.child.in_(some))
                for parent, child in connection.execute(edges.order_by(context_children.c.parent)):
                    found[child].append(parent)
        return found

    def contexts_of(self, node: str) -> list[str]:
        """The contexts that an artifact or an execution is in."""
        query = sa.select(memberships.c.context).where(memberships.c.node == node)
        with self._store.read() as connection:
            return list(connection.execute(query.order_by(memberships.c.context)).scalars())

    def add_events(self, execution: str, added: Iterable[Event]) -> None:
        """Connect artifacts with an execution; an artifact that is connected with it already is skipped.

        Raises:
            google.api_core.exceptions.NotFound: the execution or an artifact does not exist.
            google.api_core.exceptions.InvalidArgument: an event is neither input nor output.
        """
        added = list({event.artifact: event for event in added}.values())
        for event in added:
            if event.type_ not in (Event.Type.INPUT, Event.Type.OUTPUT):
                raise exceptions.InvalidArgument(
                    f"The event of Artifact {event.artifact} needs a type: INPUT or OUTPUT."
                )
        names = [event.artifact for event in added]
        with self._store.write() as connection:
            self._require(Execution, [execution])
            self._require(Artifact, names)
            there = _select_in(connection, events.c.artifact, names, events.c.execution == execution)
            rows = [_event_row(execution, event) for event in added if event.artifact not in there]
            if rows:
                connection.execute(events.insert(), rows)

    def gather(self, contexts: Sequence[str], nodes: Sequence[str]) -> set[str]:
        """Put artifacts and executions into contexts; what somebody has deleted meanwhile is left out.

        Returns:
            The names of those that exist.
        """
        with self._store.write() as connection:
            there = _ids(connection, [*contexts, *nodes])
            joined = _memberships(connection, contexts, nodes)
            wanted = {(context, node) for context in contexts for node in nodes if {context, node} <= there.keys()}
            if rows := [
                {"context": context, "node": node, "resource": there[node]} for context, node in sorted(wanted - joined)
            ]:
                connection.execute(memberships.insert(), rows)
        return set(there)

    def attach(
        self, contexts: Sequence[str], execution: str, inputs: Sequence[str] = (), outputs: Sequence[str] = ()
    ) -> None:
        """Connect an execution with the artifacts it read and wrote, and put all of them into contexts.

        What is connected already stays as it is; what somebody has deleted meanwhile is left out.
        """
        types = dict.fromkeys(inputs, Event.Type.INPUT)
        types.update({name: Event.Type.OUTPUT for name in outputs if name not in types})
        with self._store.write() as connection:
            there = self.gather(contexts, [execution, *types])
            if not types or execution not in there:
                return
            there -= _select_in(connection, events.c.artifact, list(types), events.c.execution == execution)
            added = [Event(artifact=name, type_=kind) for name, kind in types.items() if name in there]
            if added:
                connection.execute(events.insert(), [_event_row(execution, event) for event in added])

    def forget(self, name: str) -> None:
        """Remove every edge of a node that is being deleted."""
        ends = (
            *(memberships.c.context, memberships.c.node),
            *(context_children.c.parent, context_children.c.child),
            *(events.c.execution, events.c.artifact),
        )
        with self._store.write() as connection:
            for end in ends:
                connection.execute(sa.delete(end.table).where(end == name))

    def forget_store(self, metadata_store: str) -> None:
        """Remove the edges of everything in a metadata store that is being deleted."""
        with self._store.write() as connection:
            for end in (memberships.c.context, context_children.c.parent, events.c.execution):
                inside = end.startswith(f"{metadata_store}/", autoescape=True)
                connection.execute(sa.delete(end.table).where(inside))

    def of_execution(self, execution: str) -> LineageSubgraph:
        """An execution with its inputs and outputs.

        Raises:
            google.api_core.exceptions.NotFound: there is no such execution.
        """
        self._store.get(Execution, execution)
        with self._store.read() as connection:
            found = _events(connection, events.c.execution == execution)
        return self._subgraph([event.artifact for event in found], [execution], found)

    def of_context(self, context: str) -> LineageSubgraph:
        """The artifacts and executions in a context, and the events between them.

        Raises:
            google.api_core.exceptions.NotFound: there is no such context.
            google.api_core.exceptions.FailedPrecondition: it holds too many of them.
        """
        self._store.get(Context, context)
        members = members_of(context)
        with self._store.read() as connection:
            nodes = list(connection.execute(members.limit(2 * MAX_SUBGRAPH + 1)).scalars())
            artifacts = [node for node in nodes if "/artifacts/" in node]
            executions = [node for node in nodes if "/artifacts/" not in node]
            _check_size(context, artifacts, executions)
            found = _events(connection, events.c.execution.in_(members), events.c.artifact.in_(members))
        return self._subgraph(artifacts, executions, found)

    def of_artifact(
        self,
        artifact: str,
        max_hops: int | None = None,
        keep: Callable[[Sequence[str]], set[str]] | None = None,
    ) -> LineageSubgraph:
        """What an artifact was made from and what was made from it.

        Each execution on the way is there with all that it read and wrote.

        Args:
            max_hops: how far to go, artifact to execution being one hop; None for as far as it goes.
            keep: picks from the names of artifacts those to keep; executions that only others connect are
                left out with them.

        Raises:
            google.api_core.exceptions.NotFound: there is no such artifact.
            google.api_core.exceptions.FailedPrecondition: the subgraph is too large.
        """
        self._store.get(Artifact, artifact)
        with self._store.read() as connection:
            upstream = _reach(connection, artifact, Event.Type.OUTPUT, Event.Type.INPUT, max_hops)
            downstream = _reach(connection, artifact, Event.Type.INPUT, Event.Type.OUTPUT, max_hops)
            hops = {**upstream, **downstream}
            executions = [name for name in hops if "/artifacts/" not in name]
            found = [
                event
                for some in _chunks(executions)
                for event in _events(connection, events.c.execution.in_(some))
                if max_hops is None or hops[event.execution] < max_hops or event.artifact in hops
            ]
            artifacts = list(
                dict.fromkeys([artifact, *(name for name in hops if "/artifacts/" in name)])
                | dict.fromkeys(event.artifact for event in found)
            )
            _check_size(artifact, artifacts, executions)
        if keep is not None:
            kept = keep(artifacts) | {artifact}
            artifacts = [name for name in artifacts if name in kept]
            found = [event for event in found if event.artifact in kept]
            joined = {event.execution for event in found}
            executions = [name for name in executions if name in joined]
        return self._subgraph(artifacts, executions, found)

    def _subgraph(self, artifacts: Sequence[str], executions: Sequence[str], found: Sequence[Event]) -> LineageSubgraph:
        if len(found) > MAX_SUBGRAPH:
            raise exceptions.FailedPrecondition(_too_large("events"))
        return LineageSubgraph(
            artifacts=self._store.find_all(Artifact, artifacts),
            executions=self._store.find_all(Execution, executions),
            events=found,
        )

    def _require(self, kind: type[Resource], names: Sequence[str]) -> dict[str, int]:
        with self._store.read() as connection:
            there = _ids(connection, names, resources.c.kind == kind_of(kind))
        for name in names:
            if name not in there:
                raise exceptions.NotFound(f"{kind_of(kind)} {name} is not found.")
        return there

    def _ancestors(self, connection: sa.Connection, context: str) -> set[str]:
        """A context, its parents, their parents and so on."""
        found = frontier = {context}
        while frontier:
            frontier = _select_in(
                connection, context_children.c.child, sorted(frontier), wanted=context_children.c.parent
            )
            frontier -= found
            found = found | frontier
        return found


def members_of(context: str) -> sa.Select[str]:
    """A query of the names of the artifacts and executions in a context."""
    return sa.select(memberships.c.node).where(memberships.c.context == context)


def ids_in(context: str) -> sa.Select[int]:
    """A query of the ids of the artifacts and executions in a context."""
    return sa.select(memberships.c.resource).where(memberships.c.context == context)


def children_of(context: str) -> sa.Select[int]:
    """A query of the ids of a context's children."""
    return sa.select(context_children.c.child_resource).where(context_children.c.parent == context)


def parents_of(context: str) -> sa.Select[int]:
    """A query of the ids of a context's parents."""
    return sa.select(context_children.c.parent_resource).where(context_children.c.child == context)


def _reach(connection: sa.Connection, artifact: str, arrives: int, leaves: int, max_hops: int | None) -> dict[str, int]:
    """The hops from an artifact to every artifact and execution in one direction.

    Args:
        arrives: the type of the events by which one goes from an artifact to an execution.
        leaves: the type of the events by which one goes on from that execution to artifacts.
    """
    hops = {artifact: 0}
    frontier, hop = {artifact}, 0
    while frontier and hop != max_hops:
        on_artifacts = hop % 2 == 0
        ends, kind = (events.c.artifact, events.c.execution), arrives
        if not on_artifacts:
            ends, kind = ends[::-1], leaves
        reached = _select_in(connection, ends[0], sorted(frontier), events.c.type == kind, wanted=ends[1])
        hop += 1
        frontier = reached - hops.keys()
        hops.update(dict.fromkeys(sorted(frontier), hop))
        if len(frontier) > MAX_SUBGRAPH:
            raise exceptions.FailedPrecondition(_too_large("executions" if on_artifacts else "artifacts"))
    return hops


def _events(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> list[Event]:
    query = sa.select(events.c.body).where(*where).order_by(events.c.id).limit(MAX_SUBGRAPH + 1)
    return [Event.deserialize(body) for body in connection.execute(query).scalars()]


def _event_row(execution: str, event: Event) -> dict[str, Any]:
    stored = Event(event, execution=execution)
    Event.pb(stored).event_time.GetCurrentTime()
    return {
        "execution": execution,
        "artifact": event.artifact,
        "type": int(event.type_),
        "body": Event.serialize(stored),
    }


def _memberships(connection: sa.Connection, contexts: Sequence[str], nodes: Sequence[str]) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for some in _chunks(nodes):
        query = sa.select(memberships.c.context, memberships.c.node)
        query = query.where(memberships.c.node.in_(some), memberships.c.context.in_(contexts))
        found.update((context, node) for context, node in connection.execute(query))
    return found


def _ids(connection: sa.Connection, names: Sequence[str], *where: sa.ColumnElement[bool]) -> dict[str, int]:
    """The ids of what exists of these names."""
    found: dict[str, int] = {}
    for some in _chunks(names):
        query = sa.select(resources.c.name, resources.c.id).where(resources.c.name.in_(some), *where)
        found.update((name, id) for name, id in connection.execute(query))
    return found


def _select_in(
    connection: sa.Connection,
    column: sa.Column[str],
    values: Sequence[str],
    *where: sa.ColumnElement[bool],
    wanted: sa.Column[str] | None = None,
) -> set[str]:
    """What `wanted` (default: the column itself) holds in the rows whose column has one of these values."""
    found: set[str] = set()
    for some in _chunks(values):
        query = sa.select(column if wanted is None else wanted).where(column.in_(some), *where)
        found.update(connection.execute(query).scalars())
    return found


def _chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))


def _check_size(name: str, artifacts: Sequence[str], executions: Sequence[str]) -> None:
    for what, members in (("artifacts", artifacts), ("executions", executions)):
        if len(members) > MAX_SUBGRAPH:
            raise exceptions.FailedPrecondition(f"{_too_large(what)} Asked for: {name}.")


def _too_large(what: str) -> str:
    return f"The lineage subgraph has more than {MAX_SUBGRAPH} {what}; ask for a smaller part of it."
