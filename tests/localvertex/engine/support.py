"""A bench that compiles pipelines with kfp and runs them on an engine over real files and processes or containers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from google.cloud.aiplatform_v1.types import (
    CreatePipelineJobRequest,
    GetPipelineJobRequest,
    PipelineJob,
)
from google.protobuf import json_format
from kfp import compiler

from localvertex import names
from localvertex.buckets import Buckets
from localvertex.engine import Engine
from localvertex.home import Home
from localvertex.lineage import Lineage
from localvertex.services.operations import Operations
from localvertex.services.pipelines import PipelineService
from localvertex.store import Store
from localvertex.workloads.table import ImageTable
from tests.localvertex.runners import CountingRunner, new_runner

ROOT = "gs://bucket/root"


class Bench:
    """One server's worth of engine; `restart` makes the next one, over the same state folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = Home(folder / "home").create()
        self.parent = names.parent(self.home.project_number, "us-central1")
        self.open()

    def open(self) -> None:
        self.store = Store.at(self.home.database)
        self.buckets = Buckets(self.home, self.store)
        self.runner = CountingRunner(new_runner(self.home, ImageTable((), self.folder), {}))
        self.runner.sweep()
        lineage = Lineage(self.store, self.home)
        self.engine = Engine(self.store, self.home, self.buckets, self.runner, lineage)
        self.service = PipelineService(self.store, self.home, Operations(self.store), self.engine)

    def close(self) -> None:
        self.engine.close()
        self.store.close()

    def restart(self) -> None:
        self.close()
        self.open()
        self.engine.resume()

    def job(self, pipeline: Any, parameters: dict[str, Any] | None = None, **config: Any) -> PipelineJob:
        """A job for a pipeline function or a PipelineSpec."""
        spec = pipeline if isinstance(pipeline, dict) else compiled(pipeline, self.folder / "pipeline.json")
        wire = PipelineJob.pb(PipelineJob())
        json_format.ParseDict(
            {
                "pipelineSpec": spec,
                "runtimeConfig": {"gcsOutputDirectory": ROOT, "parameterValues": parameters or {}, **config},
            },
            wire,
        )
        return PipelineJob.wrap(wire)

    def submit(self, pipeline: Any, id: str = "", parameters: dict[str, Any] | None = None, **config: Any) -> str:
        request = CreatePipelineJobRequest(
            parent=self.parent, pipeline_job=self.job(pipeline, parameters, **config), pipeline_job_id=id
        )
        return str(self.service.create_pipeline_job(request).name)

    def get(self, name: str) -> PipelineJob:
        return self.service.get_pipeline_job(GetPipelineJobRequest(name=name))

    def run(self, pipeline: Any, id: str = "", parameters: dict[str, Any] | None = None, **config: Any) -> Result:
        self.runner.started = []
        name = self.submit(pipeline, id or f"run-{names.new_id()}", parameters, **config)
        self.engine.join(name)
        return Result(self.get(name), self)


class Result:
    """A finished job, read the way tests ask about it."""

    def __init__(self, job: PipelineJob, bench: Bench) -> None:
        self.job = job
        self.bench = bench
        self.records = bench.engine.journal.of(job.name)
        self._executed = sorted(workload.log.stem for workload in bench.runner.started)
        self.tasks = {detail.task_name: detail for detail in job.job_detail.task_details}

    @property
    def state(self) -> str:
        return self.job.state.name.removeprefix("PIPELINE_STATE_")

    @property
    def states(self) -> dict[str, str]:
        """State of each task by its path in the run."""
        return {path: record.state.name for path, record in self.records.items() if path}

    def executed(self) -> list[str]:
        """Names of the containers that ran, sorted."""
        return self._executed

    def output(self, path: str, name: str = "Output") -> Any:
        """An output parameter of a task by its path; of the pipeline for the empty path."""
        return json.loads(self.records[path].outputs)["parameters"][name]

    def has_output(self, path: str, name: str) -> bool:
        """Whether a task made that output parameter."""
        return name in json.loads(self.records[path].outputs)["parameters"]

    def artifacts(self, path: str, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.records[path].outputs)["artifacts"][name]
        return found

    def log(self, path: str) -> str:
        return (self.bench.home.logs / names.id_of(self.job.name) / f"{path}.log").read_text()


def compiled(pipeline: Any, file: Path) -> dict[str, Any]:
    """The pipeline as JSON."""
    compiler.Compiler().compile(pipeline, str(file))
    spec: dict[str, Any] = json.loads(file.read_text())
    return spec
