"""Removes what of a pipeline's past the settings do not keep and nothing in use leans on.

What goes first is what leans on the rest, so that whatever is there at any moment is whole: model versions, runs, their
records, at last the files. Before its first part goes, a run's context is marked, and it goes last: whoever is cut off
finds the rest by it the next time. Before each thing that goes, it is seen whether any run or schedule has come since
the plan was made: then it is made anew, and what that leans on stays.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from pipelines import UserError, settings
from pipelines.cli import compile, graph, retention, run, tables, targets
from pipelines.cli.lineage import WHOLE_RUN
from pipelines.cli.retention import Artifact, Inventory, Plan, Run, Snapshot, Version
from pipelines.cli.targets import Target
from pipelines.cli.vertex import NotFound, Vertex
from pipelines.settings import Environment

MARK = "pruning"
"""Label of a context whose run is being removed; its value is the pipeline."""

OF_A_RUN = "system.PipelineRun"
NOT_MADE = {WHOLE_RUN, "system.DagExecution", "system.ImporterExecution"}
"""Executions that write nothing themselves."""

URI = re.compile(r"gs://[^\s\"',\]})]+")
LONG_AGO = datetime.datetime.min.replace(tzinfo=datetime.UTC)
ROWS = 20
"""Rows of a kind in the plan, at most."""


def prune(pipeline: str, target: Target, plan_only: bool) -> Plan:
    """Prints what can go, and removes it.

    Args:
        pipeline: a module of `pipelines/`.
        target: where it is run.
        plan_only: whether to leave it at printing.

    Returns:
        What can go, or is gone.

    Raises:
        UserError: no such pipeline, or a run of it is under way.
        ServiceError: the service refused or failed a call.
    """
    compile.check_name(pipeline)
    environment = settings.environment(target.settings)
    targets.prepare(target, quiet=True)

    from google.cloud.storage import Client

    vertex = Vertex(environment)
    bucket = Client(project=environment.project, credentials=vertex.credentials).bucket(environment.bucket)
    found: list[Inventory] = []

    def plan() -> Plan:
        found.append(inventory(pipeline, environment, vertex, bucket))
        return retention.plan(found[-1], environment.retention, datetime.datetime.now(datetime.UTC))

    standing = Standing(plan, vertex)
    going, flags = standing.plan, target.flags(pipeline)
    if not going:
        print(
            f"{pipeline}: nothing to remove: {len(found[-1].runs)} runs, {len(found[-1].versions)} versions, all kept"
        )
    else:
        tables.show(table(going))
    if plan_only:
        print(f"next: make prune {flags}" if going else f"next: make cost {flags}")
        return going
    remove(standing, pipeline, vertex, bucket)
    print(f"next: make lineage {flags}")
    return going


class Standing:
    """A plan that stands for as long as nothing new can lean on what is to go.

    Args:
        make: makes the plan; raises UserError while a run is under way that may take anything from the cache.
        vertex: the service.

    Attributes:
        plan: what may go still.
    """

    def __init__(self, make: Callable[[], Plan], vertex: Vertex) -> None:
        self._make, self._vertex = make, vertex
        self._latest = self._newest()
        self.plan = make()

    def narrowed(self) -> bool:
        """Makes the plan anew if a run or a schedule has come; tells whether it did.

        Raises:
            UserError: a run is under way that may take anything from the cache.
            ServiceError: the service refused or failed a call.
        """
        latest = self._newest()
        if latest <= self._latest:
            return False
        self._latest = latest
        self.plan = self.plan.within(self._make())
        return True

    def _newest(self) -> datetime.datetime:
        """When the last of them came."""
        query = {"orderBy": "create_time desc", "pageSize": "1"}
        runs = self._vertex.get(f"{self._vertex.parent}/pipelineJobs", **query, readMask="name,createTime")
        schedules = self._vertex.get(f"{self._vertex.parent}/schedules", **query)
        found = (*runs.get("pipelineJobs", []), *schedules.get("schedules", []))
        return max((_time(each["createTime"]) for each in found), default=LONG_AGO)


def table(going: Plan) -> Table:
    """A row each thing that can go, with what goes with it; of many of a kind, the oldest."""
    shown = Table(box=None, pad_edge=False)
    for title in ("remove", "name", "made", "with"):
        shown.add_column(title, overflow="fold")
    kinds: list[tuple[str, Iterable[tuple[str, datetime.datetime, str]]]] = [
        ("model version", [(each.name, each.created, "") for each in going.versions]),
        ("run", [(_id(each.context), each.created, f"what is in {each.folder}") for each in going.runs]),
        ("artifact", [(each.name.rsplit("/", 1)[-1], each.created, each.uri) for each in going.artifacts]),
        ("data", [(each.uri, each.created, "") for each in going.snapshots]),
    ]
    for kind, rows in kinds:
        listed = list(rows)
        for name, created, beside in listed[:ROWS]:
            shown.add_row(kind, Text(name), f"{created:%Y-%m-%d}", Text(beside))
        if len(listed) > ROWS:
            shown.add_row(kind, f"and {len(listed) - ROWS} more")
    return shown


def remove(
    standing: Standing, pipeline: str, vertex: Vertex, bucket: Any, done: Callable[[], None] = lambda: None
) -> None:
    """Removes what is planned, as long as it is; what is gone already is no matter.

    Args:
        standing: what.
        pipeline: whose it is.
        vertex: the service.
        bucket: `google.cloud.storage.Bucket` that the files are in.
        done: called after each thing that is gone.

    Raises:
        UserError: a run of the pipeline has begun, which may take anything from the cache.
        ServiceError: the service refused or failed a call.
    """

    def each(what: str, names: Callable[[Plan], Iterable[str]], delete: Callable[[str], object]) -> None:
        listed = list(filter(None, names(standing.plan)))
        planned, gone = set(listed), 0
        for name in listed:
            if standing.narrowed():
                planned = set(names(standing.plan))
            if name in planned:
                delete(name)
                done()
                gone += 1
        if gone and what:
            print(f"removed {what}: {gone}", flush=True)

    # DELETE is for whole models.
    each("model versions", lambda plan: (f"{one.name}:deleteVersion" for one in plan.versions), vertex.delete)
    each("", lambda plan: (one.context for one in plan.runs), lambda name: _mark(vertex, name, pipeline))
    each("runs", lambda plan: (one.job for one in plan.runs), vertex.delete)
    each("executions", lambda plan: (name for one in plan.runs for name in sorted(one.executions)), vertex.delete)
    each("artifacts", lambda plan: (one.name for one in plan.artifacts), vertex.delete)
    each("folders of runs", lambda plan: (one.folder for one in plan.runs), lambda uri: _empty(bucket, uri))
    # What says that a snapshot is whole goes before its first file.
    each("", lambda plan: (f"{one.uri}.json" for one in plan.snapshots), lambda uri: _drop(bucket, uri))
    each("data snapshots", lambda plan: (one.uri for one in plan.snapshots), lambda uri: _empty(bucket, uri))
    each("", lambda plan: (one.context for one in plan.runs), vertex.delete)


def _mark(vertex: Vertex, context: str, pipeline: str) -> None:
    try:
        labels = vertex.get(context).get("labels", {})
        vertex.patch(context, {"name": context, "labels": {**labels, MARK: pipeline}}, "labels")
    except NotFound:
        return


def _empty(bucket: Any, uri: str) -> None:
    """Deletes all objects in a folder."""
    prefix = uri.removeprefix(f"gs://{bucket.name}/").rstrip("/")
    for blob in bucket.client.list_blobs(bucket, prefix=f"{prefix}/"):
        _drop(bucket, f"gs://{bucket.name}/{blob.name}")


def _drop(bucket: Any, uri: str) -> None:
    """Deletes an object if it is there."""
    from google.api_core.exceptions import NotFound as Gone

    try:
        bucket.blob(uri.removeprefix(f"gs://{bucket.name}/")).delete()
    except Gone:
        return


def inventory(pipeline: str, environment: Environment, vertex: Vertex, bucket: Any) -> Inventory:
    """Asks the service for all there is that can go, and for all that may lean on it.

    Args:
        pipeline: whose runs can go.
        environment: the settings.
        vertex: the service.
        bucket: `google.cloud.storage.Bucket` of the settings.

    Raises:
        UserError: a run of the pipeline is under way: it may take anything from the cache.
        ServiceError: the service refused or failed a call.
    """
    root = run.output_root(environment.bucket)
    listed = list(vertex.pages(f"{vertex.parent}/pipelineJobs", readMask="name,labels,state,createTime,runtimeConfig"))
    ours = {_id(job["name"]): job for job in listed if _is_ours(job, pipeline, root)}
    for name, job in ours.items():
        if job["state"] not in graph.FINAL:
            raise UserError(
                f"{name} is under way and may take anything from the cache; prune when it has ended, or cancel it: "
                f"python -m pipelines cancel --pipeline {pipeline} --run {name}"
            )
    records = Records(vertex)
    runs, foreign = {}, set[str]()
    for name, context in records.contexts.items():
        part = records.of_context(name)
        of_ours = ours.get(_id(name)) if context.get("schemaTitle") == OF_A_RUN else None
        if of_ours is None and context.get("labels", {}).get(MARK) != pipeline:
            foreign |= part.artifacts
            continue
        runs[name] = _run(name, context, of_ours, part, root)
    foreign |= records.artifacts_outside()
    versions, others = _versions(vertex, environment.pipelines.get(pipeline, {}).get("model_name", pipeline))
    jobs = {one.job for one in runs.values()}
    rest = [job.get("runtimeConfig", {}) for job in listed if job["name"] not in jobs]
    rest += [each.get("createPipelineJobRequest", {}) for each in vertex.pages(f"{vertex.parent}/schedules")]
    return Inventory(
        runs=runs,
        versions=tuple(versions),
        snapshots=tuple(_snapshots(bucket, pipeline)),
        artifacts={each["name"]: _artifact(each) for each in records.artifacts()},
        endpoints=frozenset(endpoint["name"] for endpoint in vertex.pages(f"{vertex.parent}/endpoints")),
        foreign=frozenset(foreign),
        uris=frozenset(others | _uris(rest)),
    )


class Part:
    """What a context, or an execution, has to do with.

    Args:
        subgraph: the service's LineageSubgraph.
    """

    def __init__(self, subgraph: Mapping[str, Any]) -> None:
        self.executions = frozenset(each["name"] for each in subgraph.get("executions", []))
        events = subgraph.get("events", [])
        self.artifacts = frozenset(
            [each["name"] for each in subgraph.get("artifacts", [])] + [event["artifact"] for event in events]
        )
        wrote = {
            each["name"]
            for each in subgraph.get("executions", [])
            if each.get("schemaTitle") not in NOT_MADE and each.get("state") != "CACHED"
        }
        self.made = frozenset(
            event["artifact"] for event in events if event.get("type") == "OUTPUT" and event["execution"] in wrote
        )


class Records:
    """The metadata store, read once.

    Args:
        vertex: to ask.

    Raises:
        ServiceError: the service refused or failed a call.
    """

    def __init__(self, vertex: Vertex) -> None:
        self._vertex = vertex
        self._store = f"{vertex.parent}/metadataStores/default"
        found = {context["name"]: context for context in self._all("contexts")}
        # What is in a run is in its pipeline's and its experiment's context as well.
        above = {parent for context in found.values() for parent in context.get("parentContexts", [])}
        self.contexts = {name: context for name, context in found.items() if name not in above}
        self._seen: set[str] = set()

    def of_context(self, name: str) -> Part:
        """What a run has to do with."""
        part = Part(self._vertex.get(f"{name}:queryContextLineageSubgraph"))
        self._seen |= part.executions
        return part

    def artifacts_outside(self) -> set[str]:
        """Artifacts of executions in none of the contexts asked for before."""
        found: set[str] = set()
        for execution in self._all("executions"):
            if execution["name"] not in self._seen:
                part = Part(self._vertex.get(f"{execution['name']}:queryExecutionInputsAndOutputs"))
                found |= part.artifacts
        return found

    def artifacts(self) -> Iterator[dict[str, Any]]:
        """All of them."""
        yield from self._all("artifacts")

    def _all(self, collection: str) -> list[dict[str, Any]]:
        try:
            return list(self._vertex.pages(f"{self._store}/{collection}"))
        except NotFound:  # Nothing was ever recorded.
            return []


def _is_ours(job: Mapping[str, Any], pipeline: str, root: str) -> bool:
    place = job.get("runtimeConfig", {}).get("gcsOutputDirectory", "")
    return bool(job.get("labels", {}).get("pipeline") == pipeline and place.rstrip("/") == root)


def _run(name: str, context: Mapping[str, Any], job: Mapping[str, Any] | None, part: Part, root: str) -> Run:
    return Run(
        context=name,
        job=job["name"] if job else "",
        folder=f"{root}/{name.split('/')[1]}/{_id(name)}",
        created=_time((job or context).get("createTime", "")),
        succeeded=job is not None and job["state"] == graph.DONE,
        artifacts=part.artifacts,
        made=part.made,
        executions=part.executions,
        uris=frozenset(_uris([job.get("runtimeConfig", {})]) if job else ()),
        begun=context.get("labels", {}).get(MARK, "") != "",
    )


def _artifact(found: Mapping[str, Any]) -> Artifact:
    return Artifact(
        name=found["name"],
        created=_time(found.get("createTime", "")),
        uri=found.get("uri", ""),
        resource=str(found.get("metadata", {}).get("resourceName", "")),
    )


def _versions(vertex: Vertex, name: str) -> tuple[list[Version], set[str]]:
    """The versions of the model of this name, and the URIs of all others'."""
    ours, others = [], set()
    deployed = {
        retention.key(f"{each['model'].partition('@')[0]}@{each.get('modelVersionId', '')}")
        for endpoint in vertex.pages(f"{vertex.parent}/endpoints")
        for each in endpoint.get("deployedModels", [])
    }
    for model in vertex.pages(f"{vertex.parent}/models"):
        bare = model["name"].partition("@")[0]
        for found in _listed_versions(vertex, bare):
            if model.get("displayName") != name:
                others.add(found.get("artifactUri", ""))
                continue
            key = retention.key(f"{bare}@{found['versionId']}")
            ours.append(
                Version(
                    name=f"{bare}@{found['versionId']}",
                    created=_time(found.get("versionCreateTime", "")),
                    uri=found.get("artifactUri", ""),
                    aliases=tuple(found.get("versionAliases", [])),
                    deployed=key in deployed,
                )
            )
    return ours, others - {""}


def _listed_versions(vertex: Vertex, model: str) -> Iterator[dict[str, Any]]:
    token = ""
    while True:
        page = vertex.get(f"{model}:listVersions", **({"pageToken": token} if token else {}))
        yield from page.get("models", [])
        token = page.get("nextPageToken", "")
        if not token:
            return


def _snapshots(bucket: Any, pipeline: str) -> list[Snapshot]:
    newest: dict[str, datetime.datetime] = {}
    if not bucket.exists():
        return []
    for blob in bucket.client.list_blobs(bucket, prefix=f"data/{pipeline}/"):
        parts = blob.name.split("/")
        if len(parts) > 3:
            uri = f"gs://{bucket.name}/{'/'.join(parts[:3])}"
            newest[uri] = max(blob.updated, newest.get(uri, blob.updated))
    return [Snapshot(uri, created) for uri, created in newest.items()]


def _uris(found: Iterable[Any]) -> set[str]:
    """All gs:// URIs in the parameters of runs."""
    return {uri for each in found for uri in URI.findall(json.dumps(_parameters(each)))}


def _parameters(found: Mapping[str, Any]) -> Any:
    config = found.get("pipelineJob", {}).get("runtimeConfig", found)
    return [config.get("parameterValues", {}), config.get("parameters", {}), config.get("inputArtifacts", {})]


def _time(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


def _id(name: str) -> str:
    return name.rsplit("/", 1)[-1]
