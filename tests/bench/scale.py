"""A large store: 10,000 runs and 100,000 artifacts, asked for a run, for pages of lists and for lineage.

A real server answers over REST, on one connection. Lists are asked for as the SDK and the console ask, newest first
unless a page says otherwise, with filters that hold for few, for many and for none.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote, urlencode

import psutil
from google.cloud.aiplatform_v1.types import Artifact, Context, Event, Execution, PipelineJob

from localvertex import daemon, graph, schemas
from localvertex.access import client_token
from localvertex.engine.journal import Record
from localvertex.engine.values import State
from localvertex.home import Home
from localvertex.names import parent
from localvertex.store import Store, tables
from tests.bench.measurement import Measurement, at_most

RUNS, TASKS, ARTIFACTS = 10_000, 5, 10
PIPELINES, BATCH, PAGE = 20, 100, 100
MOST_SECONDS, MOST_MEGABYTES = 0.05, 500
ROUNDS = 5

_SCHEMAS = ("system.Dataset", "system.Model", "system.Metrics")


def measurements() -> Iterator[Measurement]:
    """Fills the store, in about three minutes on an idle core, then asks."""
    with TemporaryDirectory() as folder:
        home = Home(Path(folder, "state")).create()
        fill(home, RUNS)
        daemon.start(home)
        try:
            yield from _ask(home, RUNS)
        finally:
            daemon.stop(home)


def fill(home: Home, runs: int) -> None:
    """Write finished runs with all that they leave: jobs, contexts, executions, artifacts, events, the journal."""
    store = Store.at(home.database)
    location = parent(home.project_number, home.location)
    metadata_store = schemas.default_store(location)
    schemas.ensure_store(store, metadata_store)
    pipelines = [_context(metadata_store, f"pipeline-{i}", "system.Pipeline") for i in range(PIPELINES)]
    ids = dict(zip(_names(pipelines), store.create_all(pipelines), strict=True))
    for begin in range(0, runs, BATCH):
        made = [_Run(location, number, pipelines[number % PIPELINES]) for number in range(begin, begin + BATCH)]
        resources = [resource for run in made for resource in (run.context, *run.executions, *run.artifacts, run.job)]
        with store.write() as connection:
            ids.update(zip(_names(resources), store.create_all(resources), strict=True))
            for table, rows in (
                (graph.context_children, [row for run in made for row in run.children(ids)]),
                (graph.memberships, [row for run in made for row in run.memberships(ids)]),
                (graph.events, [row for run in made for row in run.events()]),
                (tables.tables["engine_tasks"], [row for run in made for row in run.journal()]),
            ):
                connection.execute(table.insert(), rows)
    store.close()


class _Run:
    """One finished run: a chain of tasks, each of which reads what the one before wrote."""

    def __init__(self, location: str, number: int, pipeline: Context) -> None:
        metadata_store = schemas.default_store(location)
        self.pipeline = pipeline
        self.context = _context(metadata_store, f"run-{number}", "system.PipelineRun")
        self.executions = [
            Execution(
                name=f"{metadata_store}/executions/run-{number}-{task}",
                display_name=f"task-{task}",
                schema_title="system.ContainerExecution",
                state=Execution.State.COMPLETE,
                metadata={"input:rate": number / 1000, "input:kind": "tcn", "output:accuracy": (number % 100) / 100},
            )
            for task in range(TASKS)
        ]
        self.artifacts = [
            Artifact(
                name=f"{metadata_store}/artifacts/run-{number}-{index}",
                display_name=f"artifact {index} of {number}",
                schema_title=_SCHEMAS[index % len(_SCHEMAS)],
                uri=f"gs://bucket/root/run-{number}/task-{index // 2}/output-{index}",
                state=Artifact.State.LIVE,
                labels={"team": f"team-{number % 7}"},
                metadata={"loss": number / 100, "kind": ("tcn", "lstm")[number % 2], "rows": number * 10 + index},
            )
            for index in range(ARTIFACTS)
        ]
        self.job = _job(location, number, self)

    def outputs(self, task: int) -> list[Artifact]:
        """The artifacts that a task wrote."""
        return self.artifacts[2 * task : 2 * task + 2]

    def children(self, ids: dict[str, int]) -> Iterator[dict[str, Any]]:
        """The row that makes the run a part of its pipeline."""
        pair = {"parent": self.pipeline.name, "child": self.context.name}
        yield {**pair, **{f"{role}_resource": ids[name] for role, name in pair.items()}}

    def memberships(self, ids: dict[str, int]) -> Iterator[dict[str, Any]]:
        """The rows that put everything into the contexts of the run and of its pipeline."""
        for name in _names([*self.executions, *self.artifacts]):
            for context in (self.context, self.pipeline):
                yield {"context": context.name, "node": name, "resource": ids[name]}

    def events(self) -> Iterator[dict[str, Any]]:
        """The rows of what each task read and wrote."""
        for task, execution in enumerate(self.executions):
            for type_, found in ((1, self.outputs(task - 1) if task else []), (2, self.outputs(task))):
                for name in _names(found):
                    edge = {"execution": execution.name, "artifact": name}
                    yield {**edge, "type": type_, "body": Event.serialize(Event(**edge, type_=type_))}

    def journal(self) -> Iterator[dict[str, Any]]:
        """The rows from which the engine would resume the run."""
        for task, execution in enumerate(self.executions):
            record = Record(self.job.name, f"task-{task}", "", f"task-{task}", task, State.SUCCEEDED)
            outputs = json.dumps({"artifacts": _names(self.outputs(task))})
            yield {**vars(record), "state": int(record.state), "outputs": outputs, "execution": execution.name}


def _names(resources: Sequence[Any]) -> list[str]:
    return [str(resource.name) for resource in resources]


def _context(metadata_store: str, id: str, schema_title: str) -> Context:
    return Context(name=f"{metadata_store}/contexts/{id}", display_name=id, schema_title=schema_title)


def _job(location: str, number: int, run: _Run) -> PipelineJob:
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
    component = {
        "executorLabel": "exec",
        "inputDefinitions": {"parameters": {f"p{i}": {"parameterType": "STRING"} for i in range(5)}},
    }
    return PipelineJob(
        name=f"{location}/pipelineJobs/run-{number}",
        display_name=f"training {number % 1000}",
        state=5 if number % 50 == 0 else 4,
        labels={"team": f"team-{number % 7}", "ticket": f"t-{number}"},
        start_time=moment,
        end_time=moment + timedelta(seconds=number % 977),
        schedule_name=f"{location}/schedules/1" if number % 1000 == 0 else "",
        pipeline_spec={
            "schemaVersion": "2.1.0",
            "pipelineInfo": {"name": run.pipeline.display_name},
            "components": {f"comp-{task}": component for task in range(TASKS)},
            "deploymentSpec": {
                "executors": {
                    f"exec-{task}": {
                        "container": {
                            "image": "europe-docker.pkg.dev/project/images/trainer:123",
                            "command": ["python", "-c", "print('a line of a component')\n" * 40],
                        }
                    }
                    for task in range(TASKS)
                }
            },
        },
        job_detail={
            "pipeline_context": run.pipeline,
            "pipeline_run_context": run.context,
            "task_details": [
                {
                    "task_id": number * 10 + task,
                    "task_name": execution.display_name,
                    "state": 3,
                    "execution": execution,
                    "outputs": {
                        f"output-{index}": {"artifacts": [artifact]} for index, artifact in enumerate(run.outputs(task))
                    },
                }
                for task, execution in enumerate(run.executions)
            ],
        },
    )


class Client:
    """Asks a running server over REST, on one connection."""

    def __init__(self, home: Home) -> None:
        running = daemon.find(home)
        assert running is not None
        self.process = psutil.Process(running.pid)
        self._headers = {"Authorization": f"Bearer {client_token(home)}"}
        self._connection = http.client.HTTPConnection("127.0.0.1", running.port)

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """The answer to a GET."""
        self._connection.request("GET", f"/v1/{quote(path, safe='/:')}?{urlencode(query)}", headers=self._headers)
        response = self._connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise RuntimeError(body.decode())
        answer: dict[str, Any] = json.loads(body)
        return answer


def questions(home: Home, runs: int) -> dict[str, tuple[str, dict[str, Any], str, int | None]]:
    """What is asked, by what it shows: a path, its query, the field of the answer, and how many it must hold.

    Where that is a whole page, any number is right: a page ends early when its messages are large.
    """
    location = parent(home.project_number, home.location)
    jobs, store = f"{location}/pipelineJobs", schemas.default_store(location)
    middle = runs // 2
    alike = len(range(middle % 1000, runs, 1000))
    run = f"{store}/contexts/run-{middle}"

    def listed(collection: str, filter: str, count: int = PAGE, **more: Any) -> Any:
        return f"{store}/{collection}", {"pageSize": PAGE, "filter": filter, **more}, collection, count

    def job(filter: str, count: int = PAGE, **more: Any) -> Any:
        return jobs, {"pageSize": PAGE, "filter": filter, **more}, "pipelineJobs", count

    return {
        "a run": (f"{jobs}/run-{middle}", {}, "name", None),
        "jobs, newest first": job(""),
        "jobs, deep in the list": job(f'create_time>"2020-01-01T00:00:00Z" AND labels.team="team-{middle % 7}"'),
        "jobs by a label of one": job(f'labels.ticket="t-{middle}"', 1),
        "jobs by state": job("state=PIPELINE_STATE_FAILED"),
        "jobs by no state": job("state=PIPELINE_STATE_RUNNING", 0),
        "jobs by display name": job(f'display_name="training {middle % 1000}"', alike),
        "jobs by part of a name": job(f'display_name="*ning {middle % 1000}"', alike),
        "jobs by pipeline": job('pipeline_name="pipeline-3"'),
        "jobs of a schedule": job(f'schedule_name="{location}/schedules/1"', len(range(0, runs, 1000))),
        "jobs by end": job("", orderBy="end_time desc"),
        "jobs by name": job("", orderBy="display_name"),
        "jobs, only their names": job("", readMask="name,state,displayName,createTime"),
        "artifacts, newest first": listed("artifacts", ""),
        "artifacts by schema": listed("artifacts", "schema_title=system.Model"),
        "artifacts by URI": listed("artifacts", f'uri="gs://bucket/root/run-{middle}/task-0/output-1"', 1),
        "artifacts by part of a URI": listed("artifacts", f'uri="*run-{middle}/task-0/*"', 2),
        "artifacts by display name": listed("artifacts", f'display_name="artifact 1 of {middle}"', 1),
        "artifacts by schema and URI": listed(
            "artifacts", f'schema_title=system.Model AND uri="gs://bucket/root/run-{middle}/task-0/output-1"', 1
        ),
        "artifacts of a run": listed("artifacts", f'in_context("{run}")', ARTIFACTS),
        "artifacts of a pipeline": listed("artifacts", f'in_context("{store}/contexts/pipeline-3")'),
        "artifacts by one number": listed("artifacts", f"metadata.rows.number_value={middle * 10 + 3}", 1),
        "artifacts by a range": listed("artifacts", "metadata.loss.number_value<0.1"),
        "artifacts by a wide range": listed("artifacts", f"metadata.loss.number_value<{middle / 100}"),
        "artifacts by a common text": listed("artifacts", 'metadata.kind.string_value="lstm"'),
        "artifacts by no metadata": listed("artifacts", "metadata.loss.number_value<0", 0),
        "artifacts by label": listed("artifacts", "labels.team=team-3 AND schema_title=system.Metrics"),
        "artifacts by URI, in order": listed("artifacts", "", orderBy="uri"),
        "executions by schema": listed("executions", "schema_title=system.ContainerExecution"),
        "executions by a parameter": listed("executions", f'metadata."input:rate".number_value={middle / 1000}', TASKS),
        "executions of a pipeline": listed("executions", f'in_context("{store}/contexts/pipeline-3")'),
        "contexts by schema": listed("contexts", "schema_title=system.PipelineRun"),
        "contexts of a pipeline": listed("contexts", f'parent_contexts:"{store}/contexts/pipeline-3"'),
        "lineage of an artifact": (
            f"{store}/artifacts/run-{middle}-9:queryArtifactLineageSubgraph",
            {},
            "artifacts",
            ARTIFACTS,
        ),
        "lineage of a run": (f"{run}:queryContextLineageSubgraph", {}, "executions", TASKS),
        "inputs and outputs": (
            f"{store}/executions/run-{middle}-2:queryExecutionInputsAndOutputs",
            {},
            "events",
            4,
        ),
    }


def check(name: str, answer: dict[str, Any], field: str, count: int | None) -> None:
    """Make sure that a question was answered.

    Raises:
        RuntimeError: the answer holds something else.
    """
    found = answer.get(field, [])
    if count is not None and (len(found) != count if count < PAGE else not found):
        raise RuntimeError(f"{name}: {len(found)} of {count}")


def _ask(home: Home, runs: int) -> Iterator[Measurement]:
    client = Client(home)
    for name, (path, query, field, count) in questions(home, runs).items():
        seconds = float("inf")
        for _ in range(ROUNDS):
            started = time.perf_counter()
            answer = client.get(path, **query)
            seconds = min(seconds, time.perf_counter() - started)
        check(name, answer, field, count)
        yield at_most(f"scale: {name} / 50 ms", seconds / MOST_SECONDS, 1, f"{seconds * 1000:.1f} ms")
    megabytes = client.process.memory_info().rss / 1e6
    yield at_most("scale: memory of the service / 500 MB", megabytes / MOST_MEGABYTES, 1, f"{megabytes:.0f} MB")
