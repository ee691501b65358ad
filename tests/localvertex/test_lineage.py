"""Protects lineage: what a run read and wrote can be followed, also when a crash made it record twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import (
    Artifact,
    Context,
    Event,
    Execution,
    LineageSubgraph,
    MetadataSchema,
    MetadataStore,
    PipelineJob,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from localvertex import graph
from localvertex.graph import Graph
from localvertex.home import Home
from localvertex.lineage import Lineage
from localvertex.store import Store

LOCATION = "projects/100000000001/locations/europe-west4"
STORE = f"{LOCATION}/metadataStores/default"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.at(tmp_path / "store.db")
    yield store
    store.close()


@pytest.fixture
def lineage(store: Store, tmp_path: Path) -> Lineage:
    return Lineage(store, Home(tmp_path))


def job(id: str) -> PipelineJob:
    declared = {"epochs": {"defaultValue": 3}, "name": {"parameterType": "STRING"}}
    return PipelineJob(
        name=f"{LOCATION}/pipelineJobs/{id}",
        pipeline_spec={
            "pipelineInfo": {"name": "words"},
            "root": {"inputDefinitions": {"parameters": declared}},
        },
        runtime_config={"parameter_values": {"name": "x"}},
    )


def record(lineage: Lineage, id: str, *, train_state: int = Execution.State.COMPLETE) -> Context:
    """A run of two tasks: source -> ingest -> examples -> train -> model, metrics."""
    _, run = lineage.begin_run(job(id))
    source = lineage.new_artifact(run, schema_title="system.Dataset", uri="gs://b/source", id="source")
    examples = lineage.new_artifact(
        run, schema_title="system.Dataset", uri="gs://b/examples", id="examples", metadata={"digest": "12"}
    )
    ingest = lineage.begin_execution(
        run,
        id=f"{id}-ingest",
        display_name="ingest",
        schema_title="system.ContainerExecution",
        inputs=[source],
        metadata={"input:height": 32},
    )
    lineage.end_execution(ingest, state=Execution.State.COMPLETE, outputs=[examples], metadata={"output:count": 7})
    model = lineage.new_artifact(run, schema_title="system.Model", uri=f"gs://b/{id}", id=f"{id}-model")
    metrics = lineage.new_artifact(
        run,
        schema_title="system.Metrics",
        uri="",
        id=f"{id}-metrics",
        metadata={"cer": 0.5, "loss": float("nan")},
    )
    train = lineage.begin_execution(
        run,
        id=f"{id}-train",
        display_name="train",
        schema_title="system.ContainerExecution",
        inputs=[examples],
    )
    lineage.end_execution(train, state=train_state, outputs=[model, metrics])
    lineage.end_run(run, state=train_state)
    return run


def short(graph: LineageSubgraph) -> tuple[set[str], set[str], set[tuple[str, str, str]]]:
    def end(name: str) -> str:
        return name.rsplit("/", 1)[1]

    return (
        {end(item.name) for item in graph.artifacts},
        {end(item.name) for item in graph.executions},
        {(end(item.execution), end(item.artifact), Event.Type(item.type_).name) for item in graph.events},
    )


def test_a_run_is_recorded_as_the_sdk_reads_it(store: Store, lineage: Lineage) -> None:
    run = record(lineage, "run-1")
    assert run.parent_contexts == [f"{STORE}/contexts/words"]
    assert (run.schema_title, run.display_name) == ("system.PipelineRun", "run-1")
    whole = store.get(Execution, f"{STORE}/executions/run-1")
    assert (whole.schema_title, whole.state) == ("system.Run", Execution.State.COMPLETE)
    assert dict(whole.metadata) == {"input:epochs": 3, "input:name": "x"}
    ingest = store.get(Execution, f"{STORE}/executions/run-1-ingest")
    assert dict(ingest.metadata) == {"input:height": 32, "output:count": 7}
    edges = Graph(store)
    for context in ("run-1", "words"):
        artifacts, executions, events = short(edges.of_context(f"{STORE}/contexts/{context}"))
        assert artifacts == {"source", "examples", "run-1-model", "run-1-metrics"}
        assert executions == {"run-1", "run-1-ingest", "run-1-train"}
        assert ("run-1", "run-1-metrics", "OUTPUT") in events


def test_recording_again_after_a_crash_changes_nothing(store: Store, lineage: Lineage) -> None:
    run = record(lineage, "run-1")
    before = short(Graph(store).of_context(run.name))
    created = store.get(Artifact, f"{STORE}/artifacts/examples").create_time
    record(lineage, "run-1")
    assert short(Graph(store).of_context(run.name)) == before
    assert store.get(Artifact, f"{STORE}/artifacts/examples").create_time == created


def test_the_default_metadata_store_comes_with_the_first_run(store: Store, lineage: Lineage) -> None:
    lineage.begin_run(job("run-1"))
    assert store.get(MetadataStore, STORE)
    titles = [schema.schema for schema in store.select(MetadataSchema, parent=STORE)]
    assert any("system.Model" in title for title in titles)


def test_numbers_that_json_cannot_write_become_text(store: Store, lineage: Lineage) -> None:
    record(lineage, "run-1")
    metrics = store.get(Artifact, f"{STORE}/artifacts/run-1-metrics")
    assert dict(metrics.metadata) == {"cer": 0.5, "loss": "NaN"}
    assert "NaN" in Artifact.to_json(metrics)


def test_an_importer_finds_what_was_imported_before(lineage: Lineage) -> None:
    run = record(lineage, "run-1")
    newer = lineage.new_artifact(run, schema_title="system.Dataset", uri="gs://b/source", metadata={"v": 2})

    def found(**more: object) -> Artifact | None:
        return lineage.find_artifact("gs://b/source", "system.Dataset", run_context=run, **more)

    assert found() == newer == found(metadata={"v": 2})
    older = found(metadata={})
    assert older is not None and older.name.endswith("/source")
    assert found(metadata={"v": 3}) is None
    assert lineage.find_artifact("gs://b/source", "system.Model", run_context=run) is None
    newer.state = Artifact.State.PENDING
    lineage.update_artifact(newer)
    assert found() == older


def test_lineage_leads_from_an_artifact_to_its_sources_and_products(store: Store, lineage: Lineage) -> None:
    record(lineage, "run-1")
    record(lineage, "run-2")
    edges = Graph(store)
    artifacts, executions, _ = short(edges.of_artifact(f"{STORE}/artifacts/run-2-model"))
    # Both runs wrote the same examples; of the first run's training nothing went into this model.
    assert executions == {"run-2-train", "run-1-ingest", "run-2-ingest"}
    assert artifacts == {"source", "examples", "run-2-model", "run-2-metrics"}
    artifacts, executions, _ = short(edges.of_artifact(f"{STORE}/artifacts/source"))
    assert {"run-1-model", "run-2-metrics"} <= artifacts


def test_lineage_stops_after_so_many_hops(store: Store, lineage: Lineage) -> None:
    record(lineage, "run-1")
    model = f"{STORE}/artifacts/run-1-model"

    def within(hops: int) -> tuple[set[str], set[str]]:
        return short(Graph(store).of_artifact(model, hops))[:2]

    assert within(0) == ({"run-1-model"}, set())
    assert within(1) == ({"run-1-model"}, {"run-1-train"})
    assert within(2) == ({"run-1-model", "run-1-metrics", "examples"}, {"run-1-train"})
    assert within(4) == (
        {"run-1-model", "run-1-metrics", "examples", "source"},
        {"run-1-train", "run-1-ingest"},
    )


def test_artifacts_that_are_not_kept_take_their_executions_with_them(store: Store, lineage: Lineage) -> None:
    record(lineage, "run-1")
    model = f"{STORE}/artifacts/run-1-model"
    kept = Graph(store).of_artifact(model, keep=lambda names: {n for n in names if "metrics" in n})
    assert short(kept)[:2] == ({"run-1-model", "run-1-metrics"}, {"run-1-train"})


def test_a_subgraph_that_is_too_large_is_refused(
    store: Store, lineage: Lineage, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = record(lineage, "run-1")
    monkeypatch.setattr(graph, "MAX_SUBGRAPH", 2)
    for ask in (
        lambda: Graph(store).of_context(run.name),
        lambda: Graph(store).of_artifact(f"{STORE}/artifacts/source"),
    ):
        with pytest.raises(exceptions.FailedPrecondition, match="more than 2 artifacts"):
            ask()


def test_contexts_make_no_circles_and_have_few_parents(store: Store) -> None:
    edges, contexts = Graph(store), [f"{STORE}/contexts/{i}" for i in range(12)]
    for name in contexts:
        store.create(Context(name=name))
    edges.add_children(contexts[0], [contexts[1]])
    edges.add_children(contexts[1], [contexts[2]])
    for parent, child in ((2, 0), (2, 1), (1, 1)):
        with pytest.raises(exceptions.InvalidArgument, match="cycle"):
            edges.add_children(contexts[parent], [contexts[child]])
    for parent in contexts[:10]:
        edges.add_children(parent, [contexts[11], contexts[11]])
    with pytest.raises(exceptions.InvalidArgument, match="10 parent contexts"):
        edges.add_children(contexts[10], [contexts[11]])
    assert edges.parents([contexts[11]]) == {contexts[11]: sorted(contexts[:10])}
    edges.remove_children(contexts[0], [contexts[11], contexts[5]])
    assert contexts[0] not in edges.parents([contexts[11]])[contexts[11]]


def test_edges_need_both_ends(store: Store) -> None:
    edges = Graph(store)
    execution = store.create(Execution(name=f"{STORE}/executions/e")).name
    artifact = store.create(Artifact(name=f"{STORE}/artifacts/a")).name
    missing = f"{STORE}/artifacts/missing"
    with pytest.raises(exceptions.NotFound, match=r"Artifact .*/missing is not found"):
        edges.add_events(
            execution,
            [
                Event(artifact=artifact, type_=Event.Type.INPUT),
                Event(artifact=missing, type_=Event.Type.INPUT),
            ],
        )
    with pytest.raises(exceptions.InvalidArgument, match="needs a type"):
        edges.add_events(execution, [Event(artifact=artifact)])
    with pytest.raises(exceptions.NotFound, match="Context"):
        edges.add_members(f"{STORE}/contexts/none", [artifact])
    assert short(edges.of_execution(execution)) == (set(), {"e"}, set())


edge_lists = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans()), max_size=25)


@settings(max_examples=25, deadline=None)
@given(edge_lists, st.integers(0, 5))
def test_lineage_equals_a_walk_along_the_arrows(
    tmp_path_factory: pytest.TempPathFactory, edges: list[tuple[int, int, bool]], start: int
) -> None:
    store = Store.at(tmp_path_factory.mktemp("walk") / "store.db")
    recorder = Graph(store)
    arrows: dict[str, set[str]] = {}
    seen = set()
    with store.write():
        for i in range(6):
            store.create(Artifact(name=f"{STORE}/artifacts/a{i}"))
            store.create(Execution(name=f"{STORE}/executions/e{i}"))
        for artifact, execution, is_input in edges:
            kind = Event.Type.INPUT if is_input else Event.Type.OUTPUT
            recorder.add_events(
                f"{STORE}/executions/e{execution}",
                [Event(artifact=f"{STORE}/artifacts/a{artifact}", type_=kind)],
            )
            if (artifact, execution) not in seen:
                seen.add((artifact, execution))
                tail, head = f"a{artifact}", f"e{execution}"
                if not is_input:
                    tail, head = head, tail
                arrows.setdefault(tail, set()).add(head)
    against: dict[str, set[str]] = {}
    for tail, heads in arrows.items():
        for head in heads:
            against.setdefault(head, set()).add(tail)

    def reach(along: dict[str, set[str]]) -> set[str]:
        found, frontier = {f"a{start}"}, [f"a{start}"]
        while frontier:
            for node in along.get(frontier.pop(), set()) - found:
                found.add(node)
                frontier.append(node)
        return found

    on_the_way = reach(arrows) | reach(against)
    executions = {node for node in on_the_way if node.startswith("e")}
    neighbours = {f"a{artifact}" for artifact, execution in seen if f"e{execution}" in executions}
    found = short(recorder.of_artifact(f"{STORE}/artifacts/a{start}"))
    assert found[1] == executions
    assert found[0] == {node for node in on_the_way if node.startswith("a")} | neighbours
    assert {(execution, artifact) for execution, artifact, _ in found[2]} == {
        (f"e{execution}", f"a{artifact}") for artifact, execution in seen if f"e{execution}" in executions
    }
    store.close()
