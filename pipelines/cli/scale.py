"""Runs the training job of the last run again, on one worker and on more, and compares what that takes.

Each job is the CustomJob that the last run's train task started, but for the number of its workers and for where it
writes: the same image, machines, Examples, hyperparameters and epochs. The batches are the same as
well: each is put together from as many streams of examples as the most workers read.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import json
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines import UserError, settings
from pipelines.cli import compile, graph, source, targets
from pipelines.cli.targets import ServiceError, Target
from pipelines.cli.vertex import Vertex
from pipelines.settings import Prices
from pipelines.settings.schema import nearest

TASK = "train"
DONE = "JOB_STATE_SUCCEEDED"
FINAL = {DONE, "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED"}
POLL_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Row:
    """What a training on so many workers took.

    Attributes:
        workers: machines that trained together.
        seconds: wall time of the job, from its start to its end.
        examples_per_second: trained on by all workers together, once all was compiled.
        hourly: US dollars for an hour of one worker; None: not in the price table.
        loss: training loss of the last epoch.
    """

    workers: int
    seconds: float
    examples_per_second: float
    hourly: float | None
    loss: float

    @property
    def device_hours(self) -> float:
        """Hours of all workers together."""
        return self.workers * self.seconds / 3600

    @property
    def cost(self) -> float | None:
        """US dollars, if the price is known."""
        return None if self.hourly is None else self.hourly * self.device_hours


def scale(pipeline: str, target: Target, workers: Sequence[int]) -> list[Row]:
    """Trains once for each number of workers, one after another, and prints the table.

    Args:
        pipeline: whose last run to take the training job from.
        target: where that run was, and where to train.
        workers: how many, in each of the trainings.

    Raises:
        UserError: no such pipeline, or it has not been run there; a number of workers below 1.
        ServiceError: the service refused or failed a call, or a job failed.
    """
    if pipeline not in compile.names():
        raise UserError(f"PIPELINE={pipeline}: no such pipeline{nearest(pipeline, compile.names())}")
    if min(workers) < 1:
        raise UserError(f"--workers {' '.join(map(str, workers))}: give at least 1")
    environment, prices = settings.environment(target.settings), settings.prices()
    targets.prepare(target)

    from google.cloud.storage import Client

    vertex = Vertex(environment)
    client = Client(project=environment.project, credentials=vertex.credentials)
    model_job = last_job(vertex, pipeline)
    place = f"scale/{pipeline}-{datetime.datetime.now(datetime.UTC):%Y%m%d%H%M%S}"
    rows = []
    for count in workers:
        print(f"training on {count} worker{'s' if count > 1 else ''}", flush=True)
        wanted = job_of(model_job, count, max(workers), environment.bucket, f"{place}/{count}")
        job = _finished(vertex, vertex.post(f"{vertex.parent}/customJobs", wanted))
        trained = json.loads(source.read(client, f"gs://{environment.bucket}/{place}/{count}/model/training.json"))
        rows.append(_row(job, count, trained, prices))
    console = Console()
    console.print(table(rows))
    note = f"prices of {prices.date} from {prices.source}; edit them in pipelines/settings/prices.yaml"
    console.print(note, markup=False, highlight=False, soft_wrap=True)
    return rows


def last_job(vertex: Vertex, pipeline: str) -> dict[str, Any]:
    """The CustomJob of the train task in the newest run of a pipeline that succeeded.

    Raises:
        UserError: there is no such run.
        ServiceError: the service refused or failed a call.
    """
    runs = vertex.pages(f"{vertex.parent}/pipelineJobs", filter=f'labels.pipeline="{pipeline}"')
    done = [run for run in runs if run.get("labels", {}).get("pipeline") == pipeline and run["state"] == graph.DONE]
    if not done:
        raise UserError(f"no run of {pipeline} has succeeded yet; start one with: make run PIPELINE={pipeline}")
    run = vertex.get(max(done, key=lambda run: str(run["createTime"]))["name"])
    for detail in run["jobDetail"]["taskDetails"]:
        noted = detail.get("execution", {}).get("metadata", {}).get("output:gcp_resources")
        if detail.get("taskName") == TASK and noted:
            (resource,) = json.loads(noted)["resources"]
            return vertex.get(resource["resourceUri"].partition("/v1/")[2])
    raise UserError(f"{run['name']} has no {TASK} task that started a job")


def job_of(model: dict[str, Any], workers: int, streams: int, bucket: str, folder: str) -> dict[str, Any]:
    """The CustomJob to create: like another, but for its workers and for where it writes.

    Args:
        model: the other, as the service describes it.
        workers: machines that train together.
        streams: of examples, which they share.
        bucket: that the other writes to.
        folder: in that bucket; the model goes to `<folder>/model`.
    """
    spec = copy.deepcopy(model["jobSpec"])
    first = spec["workerPoolSpecs"][0]
    container = first["containerSpec"]
    given = list(container["args"])
    if "--executor_input" in given:  # The pipeline is not to hear of this one.
        at = given.index("--executor_input")
        del given[at : at + 2]
    container["args"] = [*(_moved(argument, f"/{bucket}/", folder) for argument in given), f"--streams={streams}"]
    first["replicaCount"] = "1"
    others = [{**copy.deepcopy(first), "replicaCount": str(workers - 1)}] if workers > 1 else []
    spec["workerPoolSpecs"] = [first, *others]
    spec.setdefault("scheduling", {})["restartJobOnWorkerRestart"] = workers > 1
    return {"displayName": f"{model['displayName']}-scale-{workers}", "jobSpec": spec}


def _moved(argument: str, bucket: str, folder: str) -> str:
    flag, _, path = argument.partition("=")
    if flag == "--followed":  # Nobody follows this one, and what the other has published is to stay.
        return f"{flag}="
    if flag not in ("--model", "--checkpoints"):
        return argument
    mount = path.partition(bucket)[0]
    return f"{flag}={mount}{bucket}{folder}/{flag.removeprefix('--')}"


def table(rows: Sequence[Row]) -> Table:
    """The scale table; speed-up and cost are also compared with the first row."""
    first = rows[0]
    shown = Table(box=None, pad_edge=False)
    for title in ("workers", "wall time", "speed-up", "device-hours", "examples/s", "loss", "cost", "ratio"):
        shown.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        cost = "unknown" if row.cost is None else f"${row.cost:.4f}"
        ratio = f"{row.cost / first.cost:.2f}" if row.cost and first.cost else ""
        shown.add_row(
            str(row.workers), f"{row.seconds:.1f} s", f"{first.seconds / row.seconds:.2f}",
            f"{row.device_hours:.4f}", f"{row.examples_per_second:,.0f}", f"{row.loss:.4f}", cost, ratio,
        )  # fmt: skip
    return shown


def _finished(vertex: Vertex, job: dict[str, Any]) -> dict[str, Any]:
    try:
        while job["state"] not in FINAL:
            time.sleep(POLL_SECONDS)
            job = vertex.get(job["name"])
    except KeyboardInterrupt:
        vertex.post(f"{job['name']}:cancel")
        raise
    if job["state"] != DONE:
        reason = job.get("error", {}).get("message", job["state"])
        raise ServiceError(f"{job['name']}: {reason}")
    return job


def _row(job: dict[str, Any], workers: int, trained: dict[str, Any], prices: Prices) -> Row:
    machine = job["jobSpec"]["workerPoolSpecs"][0]["machineSpec"]
    hourly = prices.hourly(
        machine["machineType"], machine.get("acceleratorType", ""), int(machine.get("acceleratorCount", 0))
    )
    return Row(workers, graph.elapsed(job), trained["examples_per_second"], hourly, trained["loss"])
