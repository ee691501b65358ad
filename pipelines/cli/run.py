"""Runs a pipeline from a folder of data to the outcome, and finds its way back to a run that is under way."""

from __future__ import annotations

import copy
import datetime
import hashlib
import itertools
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from pipelines import UserError, settings
from pipelines.cli import budget, compile, graph, images, source, summary, targets, watch
from pipelines.cli.targets import MISTAKE, Target
from pipelines.cli.vertex import Vertex

LAST_LINES = 15
SOURCE = "source"
FOLDERS = ("new_data",)
"""Parameters that may name a folder of this machine, which is placed in the bucket too; empty: the source."""


def run(
    pipeline: str,
    target: Target,
    data: str,
    arguments: str,
    cache: bool,
    builder: str = images.BUILDERS[0],
    dirty: bool = False,
    accelerators: str = "",
) -> int:
    """Compiles, starts, watches and tells.

    Args:
        pipeline: a module of `pipelines/`.
        target: where to run it.
        data: folder with the data; empty: the sample, made when it is missing.
        arguments: overrides of parameters, such as `max_trials=2`.
        cache: whether tasks may take their outputs from the cache.
        builder: what builds images that the target's registry lacks.
        dirty: whether these may hold what no commit has.
        accelerators: what to train on, of `settings/accelerators.yaml`; two with a comma between: on both; empty: as
            the settings say.

    Returns:
        The exit code: 0 if the run succeeded, 2 if a task found the input at fault, else 1.

    Raises:
        UserError: a mistake of the person who called.
        ServiceError: the service refused or failed a call.
    """
    console = Console()
    spec = compile.load(compile.compiled(pipeline))
    environment = settings.environment(target.settings)
    # A mistake is told before anything is made or started.
    checked = parameters(pipeline, spec, environment, target, arguments, accelerators)
    folders = ({SOURCE: _folder(pipeline, data)} if SOURCE in checked else {}) | _other_folders(checked)
    if target.pulls:
        images.provide(spec, str(checked.get("image_suffix", "")), builder, dirty)
    targets.prepare(target)

    from google.cloud.storage import Client

    vertex = Vertex(environment)
    client = Client(project=environment.project, credentials=vertex.credentials)
    places = {
        name: source.place(each, environment.bucket, environment.location, pipeline, client)
        for name, each in folders.items()
    }
    empty = {name: places[SOURCE] for name in FOLDERS if checked.get(name) == ""}
    values = {**checked, **places, **empty}
    job = pipeline_job(pipeline, spec, values, environment.bucket, cache)
    begun = _unfinished(vertex, job)
    if begun is None:
        budget.check(pipeline, spec, values, environment, vertex)
        begun = vertex.post(f"{vertex.parent}/pipelineJobs", job, pipelineJobId=_new_id(pipeline))
    ended = _watch(spec, target, vertex, begun["name"], console)
    tasks = graph.tasks(spec, ended)
    outcome, outcome_file = (
        summary.summarise(pipeline, ended, tasks),
        compile.BUILD / f"{pipeline}.summary.json",
    )
    summary.write(outcome, outcome_file)
    if ended["state"] != graph.DONE:
        return _tell_failure(spec, ended, tasks, target, environment)
    outcome = summary.with_predictions(outcome, tasks, vertex, client)
    summary.write(outcome, outcome_file)
    report = compile.BUILD / f"{pipeline}.report.html"
    saved = summary.save_report(tasks, report, client)
    console.print()
    summary.tell(outcome, summary.scores(tasks), report if saved else None, target, console)
    return 0


def parameters(
    pipeline: str,
    spec: dict[str, Any],
    environment: settings.Environment,
    target: Target,
    arguments: str,
    accelerators: str = "",
) -> dict[str, Any]:
    """The parameters of a run; the folder of its source stands in for the one that the data will be placed in.

    Raises:
        UserError: a parameter is unknown, missing, mistyped or out of bounds, there is no such accelerator, or what
            trials may cost cannot be kept to.
    """
    origin = f"{target.settings}.yaml: pipelines.{pipeline}"
    interface = compile.interface(spec)
    given = {SOURCE: "gs://bucket/folder"} if SOURCE in interface else {}
    chosen = settings.chosen(accelerators, settings.accelerators(), interface)
    of_pipeline = environment.pipelines.get(pipeline, {})
    values = settings.parameters(interface, {**of_pipeline, **chosen}, arguments, given, origin)
    return budget.within_tune_cost(pipeline, values, environment)


def cancel(pipeline: str, target: Target, run_id: str) -> None:
    """Cancels an unfinished run.

    Raises:
        ServiceError: there is no such run, or it has ended.
    """
    if pipeline not in compile.names():
        raise UserError(f"PIPELINE={pipeline}: no such pipeline; there are {', '.join(compile.names())}")
    environment = settings.environment(target.settings)
    targets.prepare(target)
    vertex = Vertex(environment)
    vertex.post(f"{vertex.parent}/pipelineJobs/{run_id}:cancel")
    print(f"cancelling {run_id}")


def _folder(pipeline: str, data: str) -> Path:
    """The folder with the data; the sample is made when none is given."""
    folder = Path(data).expanduser() if data else compile.ROOT / "data" / pipeline
    if not data and not folder.is_dir():
        print(f"making the sample in {folder.relative_to(compile.ROOT)}", flush=True)
        command = [sys.executable, "-m", "images.trainer.sample", f"--system={pipeline}", f"--out={folder}"]
        if subprocess.run(command, cwd=compile.ROOT).returncode:
            raise UserError("the sample could not be made; give your own data: DATA=<folder>")
    source.files(folder)
    return folder


def _other_folders(parameters: dict[str, Any]) -> dict[str, Path]:
    """The folders of this machine that parameters name."""
    named = {name: str(parameters.get(name, "")) for name in FOLDERS}
    found = {name: Path(text).expanduser() for name, text in named.items() if text and not text.startswith("gs://")}
    for name, folder in found.items():
        if not folder.is_dir():
            raise UserError(f"ARGS: {name}={folder}: no such folder; give one, or a gs:// URI")
        source.files(folder)
    return found


def pipeline_job(
    pipeline: str, spec: dict[str, Any], parameters: dict[str, Any], bucket: str, cache: bool
) -> dict[str, Any]:
    """The PipelineJob to create. Its label `request` is the same for the same request."""
    request = hashlib.sha256(json.dumps([spec, parameters, bucket, cache], sort_keys=True).encode()).hexdigest()
    return {
        "displayName": pipeline,
        "labels": {"pipeline": pipeline, "request": request[:32]},
        "pipelineSpec": spec if cache else _without_cache(spec),
        "runtimeConfig": {"gcsOutputDirectory": output_root(bucket), "parameterValues": parameters},
    }


def output_root(bucket: str) -> str:
    """gs:// folder that runs write to; what a run writes is in `<project number>/<run>` of it."""
    return f"gs://{bucket}/pipelines"


def _new_id(pipeline: str) -> str:
    return f"{pipeline.replace('_', '-')}-{datetime.datetime.now(datetime.UTC):%Y%m%d%H%M%S}-{secrets.token_hex(2)}"


def _without_cache(spec: dict[str, Any]) -> dict[str, Any]:
    """A pipeline that takes nothing from the cache; as `PipelineJob(enable_caching=False)` makes it."""
    fresh = copy.deepcopy(spec)
    for component in (fresh["root"], *fresh["components"].values()):
        for task in component.get("dag", {}).get("tasks", {}).values():
            task["cachingOptions"] = {"enableCache": False}
    return fresh


def _unfinished(vertex: Vertex, job: dict[str, Any]) -> dict[str, Any] | None:
    """The run that the same request has started before and that has not ended."""
    request = job["labels"]["request"]
    for found in vertex.pages(f"{vertex.parent}/pipelineJobs", filter=f'labels.request="{request}"'):
        if found.get("labels", {}).get("request") == request and found.get("state") not in graph.FINAL:
            print("the same run is under way: watching it", flush=True)
            return found
    return None


def _watch(spec: dict[str, Any], target: Target, vertex: Vertex, name: str, console: Console) -> dict[str, Any]:
    run_id = _id(name)
    labels = graph.names(spec)
    latest: dict[str, str] = {}

    def hear(task: str, line: str) -> None:
        latest[labels.get(task, task)] = line

    console.print(f"run       {name}", markup=False, highlight=False, soft_wrap=True)
    if page := targets.page(target, run_id):
        console.print(f"look at   {page}", markup=False, highlight=False, soft_wrap=True)
    try:
        with targets.following(target, run_id, hear):
            return watch.watch(spec, fetch=lambda: vertex.get(name), logs=latest, console=console)
    except KeyboardInterrupt:
        flags = f"--pipeline {spec['pipelineInfo']['name']} --target {target.name} --run {run_id}"
        print("\nThe run goes on. The same command watches it again.")
        print(f"To cancel it: {os.path.relpath(sys.executable)} -m pipelines cancel {flags}", flush=True)
        raise


def _tell_failure(
    spec: dict[str, Any],
    job: dict[str, Any],
    tasks: list[graph.Task],
    target: Target,
    environment: settings.Environment,
) -> int:
    """Names the failed tasks, and gives the exit code.

    A stage that finds its input at fault ends with `error: …`, which is then all there is to say.
    """
    run_id, keys = _id(job["name"]), graph.keys(spec)
    console = (
        f"https://console.cloud.google.com/vertex-ai/locations/{environment.location}"
        f"/pipelines/runs/{run_id}?project={environment.project}"
    )
    failed = [task for task in tasks if task.state == "FAILED"]
    mistaken = False
    for task in failed:
        lines = targets.log_lines(target, run_id, keys[task.name], LAST_LINES)
        reason = task.error or "see its log"
        if told := _mistake(lines):
            mistaken, reason, lines = True, told, []
        for line in lines:
            print(f"  {task.name}: {line}", file=sys.stderr)
        print(f"error: task {task.name} failed: {reason}", file=sys.stderr)
        print(f"its log: {targets.log_hint(target, run_id, keys[task.name], console)}", file=sys.stderr)
    if not failed:
        state = job["state"].removeprefix("PIPELINE_STATE_").lower()
        reason = " ".join(job.get("error", {}).get("message", "").split())
        print(f"error: run {run_id} is {state}{': ' + reason if reason else ''}", file=sys.stderr)
    return 2 if mistaken else 1


def _mistake(lines: list[str]) -> str:
    """The message with which a log ends, its first line marked and the others indented; empty if it does not."""
    ending = list(itertools.takewhile(lambda line: line.startswith(" "), reversed(lines)))
    first = lines[-1 - len(ending)] if len(ending) < len(lines) else ""
    return "\n".join([first.removeprefix(MISTAKE), *reversed(ending)]) if first.startswith(MISTAKE) else ""


def _id(name: str) -> str:
    return name.rsplit("/", 1)[-1]
