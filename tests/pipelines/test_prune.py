"""Protects clean-up: nothing goes that a kept model, an endpoint, a kept run or anybody else leans on."""

import datetime
import time
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from kfp import compiler, dsl
from kfp.dsl import Artifact, Input, Output

from pipelines import UserError
from pipelines.cli import compile, graph, prune, retention, run
from pipelines.cli.prune import Standing
from pipelines.cli.retention import Inventory, Plan, Run, Snapshot, Version
from pipelines.cli.vertex import NotFound, Vertex
from pipelines.settings import Environment, Retention

NOW = datetime.datetime(2026, 5, 4, tzinfo=datetime.UTC)
ROOT = "gs://bucket/pipelines/1"
STAGES = ("ingest", "train", "export", "deploy")


class World:
    """A history of runs as the metadata store has it, drawn at random, beside a graph of what came from what."""

    def __init__(self, draw: Any) -> None:
        self.graph = nx.DiGraph()
        self.runs: dict[str, Run] = {}
        self.versions: list[Version] = []
        self.artifacts: dict[str, retention.Artifact] = {}
        self.snapshots: dict[str, Snapshot] = {}
        self.endpoints: set[str] = set()
        for number in range(draw(st.integers(1, 6))):
            self._add_run(number, draw)
        known = sorted(self.artifacts)
        self.foreign = frozenset(draw(st.lists(st.sampled_from(known), max_size=2)))
        self.uris = frozenset(
            f"{self.artifacts[name].uri}/part" for name in draw(st.lists(st.sampled_from(known), max_size=1))
        )

    def _add_run(self, number: int, draw: Any) -> None:
        created = NOW - datetime.timedelta(days=100 - 10 * number)
        uri, beside = (f"gs://bucket/data/p/{draw(st.integers(0, 3))}" for _ in range(2))
        for each in (uri, beside):
            self.snapshots.setdefault(each, Snapshot(each, created))
        before = self._artifact(f"source {uri}", created, uri)
        used, made, executions = {before}, set(), set()
        last = draw(st.integers(0, len(STAGES)))  # After that it failed.
        for place, stage in enumerate(STAGES[:last]):
            execution = f"run {number} {stage}"
            self.graph.add_edge(before, execution)
            executions.add(execution)
            cached = [other for other in self.artifacts if other.startswith(stage)] if stage != "deploy" else []
            if cached and draw(st.booleans()):
                before = draw(st.sampled_from(cached))
            else:
                resource = ""
                if stage == "deploy":
                    resource = self._deployed(number, created, self.artifacts[before].uri, draw)
                where = f"{ROOT}/{number}/{place}/{stage}" if stage != "deploy" else "https://example.test/models/m"
                before = self._artifact(f"{stage} {number}", created, where, resource)
                if stage == "deploy" or draw(st.integers(0, 9)):  # Else, what made it is on record no more.
                    self.graph.add_edge(execution, before)
                    made.add(before)
            used.add(before)
        if last == len(STAGES) and draw(st.booleans()):
            before = self._endpoint(number, before, created)
            used.add(before)
            made.add(before)
            executions.add(f"serve {number}")
        self.runs[f"run {number}"] = Run(
            context=f"run {number}",
            job=f"job {number}",
            folder=f"{ROOT}/{number}",
            created=created,
            succeeded=last == len(STAGES),
            artifacts=frozenset(used),
            made=frozenset(made),
            executions=frozenset(executions),
            uris=frozenset({uri, beside}),
        )

    def _deployed(self, number: int, created: datetime.datetime, uri: str, draw: Any) -> str:
        aliases = draw(st.sampled_from([(), (), ("champion",)]))
        version = Version(f"projects/1/locations/l/models/m@{number}", created, uri, aliases, draw(st.booleans()))
        self.versions.append(version)
        return version.name.replace("projects/1", "projects/p")

    def _endpoint(self, number: int, model: str, created: datetime.datetime) -> str:
        name = "projects/p/locations/l/endpoints/e"
        self.endpoints.add(name.replace("projects/p", "projects/1"))
        self.graph.add_edge(model, f"serve {number}")
        record = self._artifact(f"endpoint {number}", created, "", name)
        self.graph.add_edge(f"serve {number}", record)
        return record

    def _artifact(self, name: str, created: datetime.datetime, uri: str, resource: str = "") -> str:
        self.artifacts.setdefault(name, retention.Artifact(name, created, uri, resource))
        self.graph.add_node(name)
        return name

    def inventory(self) -> Inventory:
        return Inventory(
            runs=self.runs,
            versions=tuple(self.versions),
            snapshots=tuple(self.snapshots.values()),
            artifacts=self.artifacts,
            endpoints=frozenset(self.endpoints),
            foreign=self.foreign,
            uris=self.uris,
        )


@st.composite
def worlds(draw: Any) -> World:
    return World(draw)


RETENTIONS = st.builds(
    Retention, keep_runs=st.integers(0, 3), keep_versions=st.integers(1, 3), keep_days=st.sampled_from([0, 55, 200])
)


def needed(world: World, keep: Retention) -> set[str]:
    """All artifacts and executions that a kept version, an endpoint, a kept run or others can be traced back to."""
    newest_first = sorted(world.versions, key=lambda each: each.created, reverse=True)
    young = NOW - datetime.timedelta(days=keep.keep_days)
    versions = [
        version
        for place, version in enumerate(newest_first)
        if place < keep.keep_versions or version.aliases or version.deployed or version.created >= young
    ]
    numbers = {version.name.rpartition("@")[2] for version in versions}
    roots = {name for name in world.artifacts if name.startswith("deploy") and name.split()[1] in numbers}
    places = {version.uri for version in versions}
    roots |= {name for name, artifact in world.artifacts.items() if artifact.uri in places}
    records = sorted(
        (name for name in world.artifacts if name.startswith("endpoint")), key=lambda name: name.split()[1]
    )
    roots |= set(records[-1:]) | world.foreign
    roots |= {name for name, each in world.artifacts.items() if each.uri and f"{each.uri}/part" in world.uris}
    succeeded = sorted((each for each in world.runs.values() if each.succeeded), key=lambda each: each.created)
    for each in world.runs.values():
        if each in succeeded[::-1][: keep.keep_runs] or each.created >= young:
            roots |= each.artifacts
    return roots.union(*(nx.ancestors(world.graph, root) for root in roots))


@effort(max_examples=300, deadline=None)
@given(world=worlds(), keep=RETENTIONS)
def test_nothing_goes_that_something_kept_can_be_traced_back_to(world: World, keep: Retention) -> None:
    going = retention.plan(world.inventory(), keep, NOW)
    kept = needed(world, keep)
    assert not kept & {artifact.name for artifact in going.artifacts}
    assert not kept & {name for each in going.runs for name in each.executions}
    staying = set(world.runs.values()) - set(going.runs)
    assert not {uri for each in staying for uri in each.uris} & {snapshot.uri for snapshot in going.snapshots}
    folders = [each.folder for each in going.runs] + [snapshot.uri for snapshot in going.snapshots]
    for name in kept & set(world.artifacts):
        uri = world.artifacts[name].uri
        assert not uri or not any(uri == folder or uri.startswith(f"{folder}/") for folder in folders), name
    assert not any(version.aliases or version.deployed for version in going.versions)


@effort(max_examples=300, deadline=None)
@given(world=worlds(), keep=RETENTIONS)
def test_what_is_left_is_all_kept_the_next_time(world: World, keep: Retention) -> None:
    going = retention.plan(world.inventory(), keep, NOW)
    gone = {artifact.name for artifact in going.artifacts}
    world.runs = {name: each for name, each in world.runs.items() if each not in going.runs}
    world.versions = [version for version in world.versions if version not in going.versions]
    world.artifacts = {name: artifact for name, artifact in world.artifacts.items() if name not in gone}
    world.snapshots = {uri: found for uri, found in world.snapshots.items() if found not in going.snapshots}
    assert retention.plan(world.inventory(), keep, NOW) == Plan()


@dsl.container_component
def copy(source: Input[Artifact], seed: int, result: Output[Artifact]):  # type: ignore
    script = 'mkdir -p "$(dirname "$0")"; echo "$1" > "$0"'
    return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", script], args=[result.path, seed])


@dsl.pipeline(name="pruned")
def pipeline(source: str, seed: int) -> None:
    data = dsl.importer(artifact_uri=source, artifact_class=dsl.Artifact)
    examples = copy(source=data.output, seed=0).set_display_name("ingest")
    copy(source=examples.outputs["result"], seed=seed).set_display_name("train")


class Cut(Exception):
    """The clean-up is killed."""


class Real:
    """Runs of a small pipeline on a real service, and what to look for afterwards.

    Args:
        vertex: the service.
        folder: to compile in.
        bucket: name of one of its own.
    """

    def __init__(self, vertex: Vertex, folder: Path, bucket: str = "prune") -> None:
        from google.cloud.storage import Client

        compiler.Compiler().compile(pipeline, str(folder / "pipeline.json"))
        self.spec = compile.load(folder / "pipeline.json")
        self.vertex = vertex
        self.environment = Environment(
            project="localvertex",
            location="us-central1",
            bucket=bucket,
            pipelines={"pruned": {"model_name": "pruned"}},
            retention=Retention(keep_runs=1, keep_versions=1, keep_days=0),
        )
        self.bucket = Client(project="localvertex", credentials=vertex.credentials).create_bucket(bucket)

    def data(self, name: str) -> str:
        self.bucket.blob(f"data/pruned/{name}/source.tar").upload_from_string(name)
        self.bucket.blob(f"data/pruned/{name}.json").upload_from_string("whole")
        return f"gs://{self.bucket.name}/data/pruned/{name}"

    def run(self, source: str, seed: int, pipeline: str = "pruned") -> dict[str, Any]:
        job = run.pipeline_job(pipeline, self.spec, {"source": source, "seed": seed}, self.bucket.name, True)
        job = self.vertex.post(f"{self.vertex.parent}/pipelineJobs", job)
        while job["state"] not in graph.FINAL:
            time.sleep(0.05)
            job = self.vertex.get(job["name"])
        assert job["state"] == graph.DONE, job
        return job

    def output(self, job: dict[str, Any], task: str) -> dict[str, Any]:
        (detail,) = (each for each in job["jobDetail"]["taskDetails"] if each["taskName"] == task)
        artifact: dict[str, Any] = next(iter(detail["outputs"].values()))["artifacts"][0]
        return artifact

    def version(self, uri: str) -> str:
        """Uploads a model, or a new version of it; gives its name."""
        (parent,) = [each["name"] for each in self.vertex.pages(f"{self.vertex.parent}/models")] or [""]
        image = {"imageUri": "registry/server:1", "healthRoute": "/health", "predictRoute": "/predict"}
        model = {"displayName": "pruned", "artifactUri": uri, "containerSpec": image}
        body = {"model": model, **({"parentModel": parent.partition("@")[0]} if parent else {})}
        operation = self.vertex.post(f"{self.vertex.parent}/models:upload", body)
        self.vertex.wait(operation)
        done = self.vertex.get(operation["name"])["response"]
        return f"{done['model'].partition('@')[0]}@{done['modelVersionId']}"

    def plan(self) -> Plan:
        found = prune.inventory("pruned", self.environment, self.vertex, self.bucket)
        return retention.plan(found, self.environment.retention, datetime.datetime.now(datetime.UTC))

    def ancestry(self, artifact: str, job: dict[str, Any]) -> nx.DiGraph:
        """What an artifact came from, as the service tells it of the run that made it."""
        context = job["jobDetail"]["pipelineRunContext"]["name"]
        ours = {each["name"] for each in self.vertex.get(f"{context}:queryContextLineageSubgraph")["executions"]}
        told = self.vertex.get(f"{artifact}:queryArtifactLineageSubgraph")
        found = nx.DiGraph()
        for event in (event for event in told.get("events", []) if event["execution"] in ours):
            ends = (event["artifact"], event["execution"])
            found.add_edge(*(ends if event["type"] == "INPUT" else ends[::-1]))
        return nx.DiGraph(found.subgraph({artifact, *nx.ancestors(found, artifact)}))

    def objects(self) -> set[str]:
        return {blob.name for blob in self.bucket.client.list_blobs(self.bucket)}


def test_a_clean_up_that_is_killed_and_begun_again_leaves_what_is_kept_whole(vertex: Vertex, tmp_path: Path) -> None:
    real = Real(vertex, tmp_path)
    champion = real.run(real.data("a"), seed=1)
    model = real.output(champion, "copy-2")
    crowned = real.version(model["uri"])
    refused = real.run(real.data("a"), seed=2)  # its examples come from the cache
    lost = real.version(real.output(refused, "copy-2")["uri"])
    unused = real.run(real.data("b"), seed=3)
    lent = real.run(real.data("c"), seed=4)
    real.run(real.output(lent, "copy")["uri"], seed=5, pipeline="other")
    newest = real.run(real.data("d"), seed=6)
    real.version(real.output(newest, "copy-2")["uri"])
    before, whole = real.objects(), real.ancestry(model["name"], champion)
    assert len(whole) >= 5

    going = real.plan()
    assert [version.name for version in going.versions] == [lost]
    assert {each.job for each in going.runs} == {refused["name"], unused["name"]}
    assert [snapshot.uri for snapshot in going.snapshots] == ["gs://prune/data/pruned/b"]
    gone = {real.output(refused, "copy-2")["name"]} | {real.output(unused, task)["name"] for task in ("copy", "copy-2")}
    assert gone <= {artifact.name for artifact in going.artifacts}
    assert real.objects() == before

    left = 1
    while left < 100:  # It is killed after one thing, then after two more, and so on until it comes to its end.
        try:
            prune.remove(Standing(real.plan, vertex), "pruned", vertex, real.bucket, done=killed_after(left))
            break
        except Cut:
            assert real.ancestry(model["name"], champion).edges == whole.edges
            left += 1
    assert left > 3
    assert real.plan() == Plan()
    for name in (lost, refused["name"], unused["name"], *gone):
        with pytest.raises(NotFound):
            vertex.get(name)
    for name in (crowned, champion["name"], lent["name"], newest["name"], model["name"]):
        assert vertex.get(name)
    assert real.ancestry(model["name"], champion).edges == whole.edges
    removed = before - real.objects()
    assert {"data/pruned/b.json", "data/pruned/b/source.tar"} <= removed
    assert all(name.split("/")[2] in {"b", "b.json", *map(run_id, (refused, unused))} for name in removed)


def killed_after(count: int) -> Any:
    steps = iter(range(count))

    def done() -> None:
        if next(steps, None) is None:
            raise Cut

    return done


def run_id(job: dict[str, Any]) -> str:
    return str(job["name"].rsplit("/", 1)[1])


@dsl.container_component
def sleep():  # type: ignore
    return dsl.ContainerSpec(image="alpine:3", command=["sleep", "600"])


@dsl.pipeline(name="waiting")
def waiting() -> None:
    sleep()


def test_what_a_run_leans_on_that_began_during_the_clean_up_stays(vertex: Vertex, tmp_path: Path) -> None:
    real = Real(vertex, tmp_path, bucket="meanwhile")
    # Content and seeds of their own: nothing that other runs made is in the cache for them.
    old, lonely = real.run(real.data("x"), seed=11), real.run(real.data("y"), seed=12)
    real.run(real.data("z"), seed=13)
    standing = Standing(real.plan, vertex)
    assert {each.job for each in standing.plan.runs} == {old["name"], lonely["name"]}
    begun: list[dict[str, Any]] = []

    def done() -> None:
        if not begun:  # With the first thing gone, a run takes the examples of `old` from the cache.
            begun.append(real.run(real.data("x"), seed=14))

    prune.remove(standing, "pruned", vertex, real.bucket, done)
    (new,) = begun
    assert real.output(new, "copy")["name"] == real.output(old, "copy")["name"]
    for name in (new["name"], old["name"], *(real.output(each, "copy")["name"] for each in (new, old))):
        assert vertex.get(name)
    assert len(real.ancestry(real.output(new, "copy-2")["name"], new)) >= 4
    files = {name.split("/")[2] for name in real.objects()}
    assert {"x", "x.json", "z", run_id(new), run_id(old)} <= files
    assert not {"y", "y.json", run_id(lonely)} & files
    with pytest.raises(NotFound):
        vertex.get(lonely["name"])


def test_a_run_under_way_is_waited_for(vertex: Vertex, tmp_path: Path) -> None:
    environment = Environment(project="localvertex", location="us-central1", bucket="under-way", pipelines={})
    compiler.Compiler().compile(waiting, str(tmp_path / "waiting.json"))
    job = run.pipeline_job("waiting", compile.load(tmp_path / "waiting.json"), {}, "under-way", cache=True)
    begun: list[dict[str, Any]] = []

    def plan() -> Plan:
        if begun:
            prune.inventory("waiting", environment, vertex, bucket=None)
        return Plan(versions=(Version("projects/1/locations/l/models/m@1", NOW),))

    standing = Standing(plan, vertex)
    begun.append(vertex.post(f"{vertex.parent}/pipelineJobs", job))
    with pytest.raises(UserError, match=f"{run_id(begun[0])} is under way"):
        prune.remove(standing, "waiting", vertex, None, done=lambda: pytest.fail("something went"))
    vertex.post(f"{begun[0]['name']}:cancel")
