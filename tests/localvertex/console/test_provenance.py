"""Protects the lineage that is shown: real makers and users across runs, what is alike folded, endpoints at its end."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import Artifact, Context, Event, Execution

from localvertex.console.provenance import ARTIFACT, ENDPOINT, EXECUTION, GROUP, Lineage, Provenance, neighbours_by_side
from localvertex.graph import Graph
from localvertex.home import Home
from localvertex.store import Store
from tests.localvertex.serving.support import PARENT, Service

METADATA = f"{PARENT}/metadataStores/default"


class World:
    """A metadata graph that is made step by step."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.store: Store = service.store
        self.graph = Graph(self.store)
        self.provenance = Provenance(self.store, service.models)

    def artifact(self, id: str, schema: str = "system.Dataset", title: str = "", **fields: Any) -> str:
        made = Artifact(name=f"{METADATA}/artifacts/{id}", display_name=title or id, schema_title=schema, **fields)
        return str(self.store.create(made).name)

    def task(
        self, id: str, reads: list[str], makes: list[str], title: str = "", state: int = 3, schema: str = ""
    ) -> str:
        made = Execution(
            name=f"{METADATA}/executions/{id}",
            display_name=title or id,
            state=Execution.State(state),
            schema_title=schema or "system.ContainerExecution",
        )
        name = str(self.store.create(made).name)
        events = [Event(artifact=each, type_=Event.Type.INPUT) for each in reads]
        self.graph.add_events(name, events + [Event(artifact=each, type_=Event.Type.OUTPUT) for each in makes])
        return name

    def of(self, start: str, *opened: str, **limits: int) -> Lineage:
        return self.provenance.of(start, opened, **limits)


@pytest.fixture
def world(tmp_path) -> Iterator[World]:
    service = Service(Home(tmp_path / "state").create())
    yield World(service)
    service.close()


def shown(found: Lineage) -> Counter[str]:
    return Counter(node.title for node in found.nodes.values())


def edges(found: Lineage) -> set[tuple[str, str]]:
    return {(found.nodes[a].title, found.nodes[b].title) for a, b in found.edges}


def one(found: Lineage, title: str) -> Any:
    return next(node for node in found.nodes.values() if node.title == title)


def test_both_ways_to_the_end(world: World) -> None:
    source, data, model, stray = (world.artifact(each) for each in ("source", "data", "model", "stray"))
    world.task("ingest", [source], [data, stray])
    world.task("train", [data], [model])
    world.task("evaluate", [model, stray], [])
    found = world.of(data)
    assert shown(found) == Counter(["source", "ingest", "data", "train", "model", "evaluate"])
    assert edges(found) == {
        ("source", "ingest"),
        ("ingest", "data"),
        ("data", "train"),
        ("train", "model"),
        ("model", "evaluate"),
    }
    assert one(found, "ingest").hidden == one(found, "evaluate").hidden == 1, "the stray, which has no part in it"
    before, after = neighbours_by_side(found)[one(found, "train").name]
    assert [found.nodes[name].title for name in (*before, *after)] == ["data", "model"]
    opened = world.of(data, one(found, "ingest").token)
    assert shown(opened) - shown(found) == Counter(["stray"]) and one(opened, "ingest").hidden == 0
    assert one(opened, "stray").hidden == 1, "opened, its own neighbours are not"


def test_cached_executions_and_whole_runs_are_no_makers(world: World) -> None:
    data, metrics = world.artifact("data"), world.artifact("metrics", "system.Metrics")
    world.task("ingest", [], [data], title="ingest")
    world.task("ingest-again", [], [data], title="ingest again", state=int(Execution.State.CACHED))
    world.task("evaluate", [data], [metrics])
    world.task("run", [], [metrics], schema="system.Run")
    assert shown(world.of(metrics)) == Counter(["ingest", "data", "evaluate", "metrics"])
    assert one(world.of(metrics), "data").hidden == 1
    assert world.provenance.maker(metrics).title == "evaluate"


def test_what_is_alike_is_folded_and_unfolds_step_by_step(world: World) -> None:
    data = world.artifact("data")
    for number in range(120):
        model = world.artifact(f"model-{number}", "system.Model", title="model")
        world.task(f"train-{number}", [data], [model], title="train")
    world.task("count", [data], [], title="count")
    found = world.of(data)
    assert shown(found) == Counter(["data", "train", "count"])
    group = one(found, "train")
    assert (group.kind, group.members, group.detail) == (GROUP, 120, "120 executions")
    assert one(found, "data").hidden == 0, "what a group stands for is not hidden"
    found = world.of(data, group.token)
    assert shown(found) == Counter({"data": 1, "count": 1, "train": 51, "model": 50})
    (rest,) = (node for node in found.nodes.values() if node.kind == GROUP)
    assert rest.members == 70
    assert f"{METADATA}/executions/train-119" in found.nodes, "the newest first"
    last = next(node for node in world.of(data, group.token, rest.token).nodes.values() if node.kind == GROUP)
    assert last.members == 20
    assert shown(world.of(data, group.token, rest.token, last.token))["train"] == 120


def test_many_neighbours_of_one_do_not_hide_those_of_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localvertex.console.provenance._MOST_NEIGHBOURS", 10)
    source, busy, quiet = (world.artifact(each) for each in ("source", "busy", "quiet"))
    world.task("split", [source], [busy, quiet])
    world.task("look", [quiet], [])
    for number in range(30):
        world.task(f"train-{number}", [busy], [], title="train")
    found = world.of(source)
    assert shown(found) == Counter(["source", "split", "busy", "quiet", "look", "train"])
    assert one(found, "train").detail == "more than 10 executions"


def test_no_more_is_shown_than_can_be(world: World) -> None:
    parts = [world.artifact(f"part-{number}") for number in range(40)]
    for number, (before, after) in enumerate(itertools.pairwise(parts)):
        world.task(f"step-{number}", [before], [after])
    found = world.of(parts[0], most=21)
    assert len(found.nodes) == 21 and found.cut and "part-10" in shown(found) and "part-11" not in shown(found)
    assert not world.of(parts[0]).cut


def test_metadata_that_goes_in_circles_ends(world: World) -> None:
    a, b = world.artifact("a"), world.artifact("b")
    world.task("there", [a], [b])
    world.task("back", [b], [a])
    found = world.of(a)
    assert shown(found) == Counter(["a", "b", "there", "back"])
    assert len(found.edges) == 3, "one leads back, and is left out"


def test_runs_are_named_and_strangers_are_not_found(world: World) -> None:
    data = world.artifact("data")
    task = world.task("ingest", [], [data])
    for id, schema in (("pipe", "system.Pipeline"), ("run-1", "system.PipelineRun")):
        context = world.store.create(Context(name=f"{METADATA}/contexts/{id}", schema_title=schema))
        world.graph.add_members(context.name, [task])
    assert world.of(data).nodes[task].run == f"{METADATA}/contexts/run-1"
    with pytest.raises(exceptions.NotFound):
        world.of(f"{METADATA}/artifacts/none")


@pytest.mark.parametrize("by", ["name", "files"])
def test_models_lead_to_the_endpoints_that_serve_them(world: World, by: str) -> None:
    service = world.service
    uploaded = service.upload("reader", artifact_uri="gs://bucket/saved_model/")
    endpoint = service.endpoint()
    service.deploy(endpoint, uploaded)
    saved = world.artifact("saved", "system.Model", uri="gs://bucket/saved_model")
    model, version = uploaded.split("@")
    if by == "name":
        start = world.artifact("registered", "google.VertexModel", metadata={"resourceName": uploaded})
        world.task("deploy", [saved], [start])
    else:
        start = saved
    assert world.provenance.of_model(model, version) == start
    found = world.of(start)
    node = found.nodes[endpoint]
    assert (node.kind, node.title) == (ENDPOINT, "words")
    (edge,) = (edge for edge in found.edges.values() if edge.target == endpoint)
    assert (edge.source, edge.label) == (start, "100 %")
    made = world.artifact("served", "google.VertexEndpoint", metadata={"resourceName": endpoint})
    world.task("announce", [start], [made])
    found = world.of(start)
    assert endpoint not in found.nodes and (start, made) in found.edges, "it need not stand there twice"
    assert {node.kind for node in found.nodes.values()} == {ARTIFACT, EXECUTION}


def test_a_model_that_nobody_made_has_no_lineage(world: World) -> None:
    model, version = world.service.upload("reader").split("@")
    assert world.provenance.of_model(model, version) == ""
    assert world.provenance.of_model(model, "17") == ""
