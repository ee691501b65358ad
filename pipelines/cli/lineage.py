"""Prints, from the metadata service, what an endpoint was made from, back to the source data."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import Any

from rich.markup import escape
from rich.tree import Tree

from pipelines import UserError
from pipelines.cli import tables
from pipelines.cli.predict import find
from pipelines.cli.targets import Target
from pipelines.cli.vertex import Vertex

CACHED = "CACHED"
WHOLE_RUN = "system.Run"
"""The run is itself an execution, which puts out what its tasks do."""


@dataclasses.dataclass(frozen=True)
class Lineage:
    """The part of the metadata graph that an artifact came from.

    Attributes:
        artifacts: by resource name.
        executions: by resource name.
        makers: names of the executions that put an artifact out, by artifact.
        inputs: names of the artifacts that an execution read, by execution.
    """

    artifacts: dict[str, dict[str, Any]]
    executions: dict[str, dict[str, Any]]
    makers: dict[str, list[str]]
    inputs: dict[str, list[str]]

    @classmethod
    def of(cls, subgraph: dict[str, Any]) -> Lineage:
        """Reads the service's LineageSubgraph."""
        makers, inputs = defaultdict(list), defaultdict(list)
        for event in subgraph.get("events", []):
            if event.get("type") == "OUTPUT":
                makers[event["artifact"]].append(event["execution"])
            else:
                inputs[event["execution"]].append(event["artifact"])
        return cls(
            {artifact["name"]: artifact for artifact in subgraph.get("artifacts", [])},
            {execution["name"]: execution for execution in subgraph.get("executions", [])},
            dict(makers),
            dict(inputs),
        )

    def maker(self, artifact: str) -> str | None:
        """The execution that made an artifact, rather than one that found it in the cache."""
        known = [
            name
            for name in self.makers.get(artifact, [])
            if name in self.executions and self.executions[name].get("schemaTitle") != WHOLE_RUN
        ]
        return min(known, key=self._age, default=None)

    def read_by(self, execution: str) -> list[str]:
        """What an execution read; models first, for they are the line that the endpoint descends from."""

        def order(name: str) -> tuple[bool, str]:
            artifact = self.artifacts.get(name, {})
            return artifact.get("schemaTitle") != "system.Model", _title(artifact)

        return sorted(set(self.inputs.get(execution, [])), key=order)

    def _age(self, execution: str) -> tuple[bool, str]:
        found = self.executions[execution]
        return found.get("state") == CACHED, str(found.get("createTime", ""))


def lineage(pipeline: str, target: Target) -> None:
    """Prints the tree from the pipeline's endpoint back to its source, with digests.

    Raises:
        UserError: no such pipeline, it is not deployed, or no run put the endpoint out.
        ServiceError: the service refused or failed a call.
    """
    vertex, endpoint = find(pipeline, target)
    artifact = newest_artifact(vertex, endpoint["name"])
    if artifact is None:
        raise UserError(f"no run has put out {endpoint['name']}; deploy it with: make run PIPELINE={pipeline}")
    graph = Lineage.of(vertex.get(f"{artifact['name']}:queryArtifactLineageSubgraph"))
    graph.artifacts.setdefault(artifact["name"], artifact)
    tree = Tree(describe(artifact))
    grow(tree, artifact["name"], graph, seen=set())
    tables.show(tree)


def ancestor(vertex: Vertex, endpoint: str, title: str) -> dict[str, Any] | None:
    """The newest artifact of this display name that an endpoint was made from; None if no run put the endpoint out.

    Args:
        vertex: to ask.
        endpoint: resource name.
        title: the artifact's display name, such as "examples".

    Raises:
        ServiceError: the service refused or failed a call.
    """
    artifact = newest_artifact(vertex, endpoint)
    if artifact is None:
        return None
    graph = Lineage.of(vertex.get(f"{artifact['name']}:queryArtifactLineageSubgraph"))
    named = [found for found in graph.artifacts.values() if found.get("displayName") == title]
    return max(named, key=lambda found: str(found.get("createTime", "")), default=None)


def newest_artifact(vertex: Vertex, resource: str) -> dict[str, Any] | None:
    """The newest google.VertexEndpoint artifact that stands for an endpoint's resource name."""
    found = vertex.pages(
        f"{vertex.parent}/metadataStores/default/artifacts", filter='schema_title="google.VertexEndpoint"'
    )
    same = [artifact for artifact in found if artifact.get("metadata", {}).get("resourceName", "") == resource]
    return max(same, key=lambda artifact: str(artifact.get("createTime", "")), default=None)


def grow(tree: Tree, artifact: str, graph: Lineage, seen: set[str]) -> None:
    """Hangs under an artifact the task that made it, and under that what it read; each past once."""
    execution = graph.maker(artifact)
    if execution is None:
        return
    found = graph.executions[execution]
    branch = tree.add(f"[cyan]made by[/] {escape(found.get('displayName') or execution.rsplit('/', 1)[-1])}")
    for name in graph.read_by(execution):
        known = graph.artifacts.get(name, {"name": name})
        if name in seen:
            branch.add(f"{describe(known)} [dim](above)[/]")
            continue
        seen.add(name)
        grow(branch.add(describe(known)), name, graph, seen)


def describe(artifact: dict[str, Any]) -> str:
    """An artifact in a line: name, kind, digest, place."""
    metadata = artifact.get("metadata", {})
    digest = f" [green]sha256 {escape(str(metadata['digest'])[:12])}[/]" if metadata.get("digest") else ""
    kind, uri = escape(artifact.get("schemaTitle", "")), escape(artifact.get("uri", ""))
    return f"[bold]{escape(_title(artifact))}[/] [dim]{kind}[/]{digest} {uri}"


def _title(artifact: dict[str, Any]) -> str:
    return str(artifact.get("displayName") or artifact.get("name", "").rsplit("/", 1)[-1])
