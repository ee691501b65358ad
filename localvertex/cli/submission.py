"""`run`: submits a compiled pipeline, watches it, and tells what came out."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localvertex import daemon
from localvertex.cli.common import DONE, NO, AddCommand, CommandError, add_location, client
from localvertex.home import Home

if TYPE_CHECKING:
    import argparse

    from localvertex.cli.progress import Task
    from localvertex.client import Client

_LAST_LINES = 15


def add_commands(add: AddCommand) -> None:
    """Add the subcommand."""
    run = add(
        "run",
        _run,
        "Run a compiled pipeline and watch it; starts the server if it is not running.",
        details="Exits with 0 if the run succeeded, 1 if not. Ctrl-C ends the watching, not the run.",
    )
    run.add_argument("pipeline", metavar="PIPELINE", type=Path, help="what the KFP compiler wrote, .json or .yaml")
    run.add_argument(
        "--parameter",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a pipeline parameter, again for each; lists and structs in JSON",
    )
    run.add_argument("--parameter-file", metavar="FILE", type=Path, help="parameters by name, in JSON or YAML")
    run.add_argument("--root", metavar="gs://…", help="where outputs go (default: the pipeline's own, else a bucket)")
    run.add_argument("--no-cache", action="store_true", help="execute every task")
    add_location(run, "$LOCALVERTEX_LOCATION, else us-central1")


def _run(home: Home, arguments: argparse.Namespace) -> int:
    spec, config = read_pipeline(arguments.pipeline)
    declared = spec.get("root", {}).get("inputDefinitions", {}).get("parameters", {})
    values = {
        **config.get("parameterValues", {}),
        **(_parameter_file(arguments.parameter_file) if arguments.parameter_file else {}),
        **typed_parameters(arguments.parameter, declared),
    }
    root = arguments.root or config.get("gcsOutputDirectory") or spec.get("defaultPipelineRoot") or ""
    if not root.startswith("gs://"):
        if arguments.root:
            raise CommandError(f"--root {root}: give a bucket, such as gs://my-bucket/pipelines; it need not exist")
        root = f"gs://{home.project_id}/pipelines"
    name = str(spec["pipelineInfo"]["name"])
    job = {
        "displayName": name,
        "pipelineSpec": without_cache(spec) if arguments.no_cache else spec,
        "runtimeConfig": {**config, "gcsOutputDirectory": root, "parameterValues": values},
    }
    _start(home, arguments.pipeline, quiet=arguments.json)
    server = client(home, arguments.location)
    run = str(server.submit(job, _new_id(name))["name"]).rpartition("/")[2]
    ended, tasks = _watch(server, run, arguments)
    return _tell(home, server, run, ended, tasks, arguments)


def _start(home: Home, pipeline: Path, *, quiet: bool) -> None:
    """Make sure that the server runs; one that is started now uses the image table beside the pipeline."""
    from localvertex.workloads import WorkloadError
    from localvertex.workloads.table import FILE_NAME, LOCATION_VARIABLE, find_table

    beside = pipeline.resolve().with_name(FILE_NAME)
    environment = dict(os.environ)
    try:
        if beside.is_file() and find_table(home) is None:
            environment[LOCATION_VARIABLE] = str(beside)
    except WorkloadError as error:
        raise CommandError(str(error)) from None
    running, fresh = daemon.start(home, environment)
    if fresh and not quiet:
        print("localvertex started; to stop it:  localvertex stop")
    if beside.is_file() and running.images != str(beside):
        used = running.images or "none"
        print(f"note: {beside} is not used: the image table of the running server is {used}", file=sys.stderr)
        print(f"to use it:  localvertex stop; {LOCATION_VARIABLE}={beside} localvertex start", file=sys.stderr)


def read_pipeline(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A compiled pipeline and its runtime configuration (empty unless the file holds a whole job).

    Raises:
        CommandError: it cannot be read, or is no compiled pipeline.
    """
    documents = _documents(file)
    content = documents[0] if documents else None
    if len(documents) > 1:
        raise CommandError(f"{file}: its second document, configuration for one platform, is not supported")
    config: dict[str, Any] = {}
    if isinstance(content, dict) and "pipelineSpec" in content:
        config, content = content.get("runtimeConfig") or {}, content["pipelineSpec"]
    info = content.get("pipelineInfo") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(info, dict) or not info.get("name"):
        raise CommandError(f"{file} is not a compiled pipeline: kfp.compiler.Compiler().compile(…) writes one")
    return content, config


def _documents(file: Path) -> list[Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text"
        raise CommandError(f"{file} cannot be read: {reason}") from None
    with contextlib.suppress(ValueError):
        return [json.loads(text)]
    import yaml

    try:
        # The loader in C, where there is one: a large pipeline takes seconds otherwise.
        return list(yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except yaml.YAMLError as error:
        raise CommandError(f"{file} is neither JSON nor YAML: {' '.join(str(error).split())}") from None


def _parameter_file(file: Path) -> dict[str, Any]:
    documents = _documents(file)
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise CommandError(f"{file} does not hold parameters by name")
    return documents[0]


def typed_parameters(given: Sequence[str], declared: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Values from `name=value` texts, as the types the pipeline declares.

    Raises:
        CommandError: not of that form, an unknown name, or a value of another type.
    """
    values = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise CommandError(f"--parameter {text}: write name=value")
        if name not in declared:
            known = ", ".join(f"{key} ({_kind(entry)})" for key, entry in declared.items())
            raise CommandError(f"--parameter {text}: the pipeline has no parameter '{name}': it has {known or 'none'}")
        values[name] = _typed(text, value, _kind(declared[name]))
    return values


_JSON_KINDS: dict[str, tuple[type, ...]] = {
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "LIST": (list,),
    "STRUCT": (dict,),
}


def _kind(declared: Mapping[str, Any]) -> str:
    kind = str(declared.get("parameterType") or declared.get("type") or "STRING")
    return {"INT": "NUMBER_INTEGER", "DOUBLE": "NUMBER_DOUBLE"}.get(kind, kind)


def _typed(text: str, value: str, kind: str) -> Any:
    if kind == "BOOLEAN" and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if kind in _JSON_KINDS:
        with contextlib.suppress(ValueError):
            found = json.loads(value)
            if isinstance(found, _JSON_KINDS[kind]) and not isinstance(found, bool):
                return found
    elif kind != "BOOLEAN":
        return value
    example = {"BOOLEAN": "true", "NUMBER_INTEGER": "3", "NUMBER_DOUBLE": "0.5", "LIST": "'[1, 2]'"}.get(kind, "'{}'")
    raise CommandError(f"--parameter {text}: the pipeline declares {kind}: write it such as {example}")


def without_cache(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A pipeline that takes nothing from the cache; the SDK's `enable_caching=False` makes the same."""
    fresh: dict[str, Any] = json.loads(json.dumps(spec))
    for component in (fresh.get("root", {}), *fresh.get("components", {}).values()):
        for task in component.get("dag", {}).get("tasks", {}).values():
            task["cachingOptions"] = {"enableCache": False}
    return fresh


def _new_id(pipeline: str) -> str:
    stem = re.sub(r"[^-a-z0-9]+", "-", pipeline.lower()).strip("-")[:90]
    stem = stem if stem[:1].isalpha() else f"run-{stem}"
    return f"{stem}-{time.strftime('%Y%m%d%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


def _watch(server: Client, run: str, arguments: argparse.Namespace) -> tuple[dict[str, Any], list[Task]]:
    from localvertex.cli import progress

    output = sys.stderr if arguments.json else sys.stdout
    print(f"run {run}", file=output, flush=True)
    try:
        return progress.watch(lambda: server.pipeline_job(run), output)
    except KeyboardInterrupt:
        print(f"\nThe run goes on. Follow it:  localvertex logs {run} --follow", file=sys.stderr)
        print("How it stands, and the others:  localvertex runs", file=sys.stderr)
        raise


def _tell(
    home: Home,
    server: Client,
    run: str,
    job: Mapping[str, Any],
    tasks: Sequence[Task],
    arguments: argparse.Namespace,
) -> int:
    state = str(job["state"]).removeprefix("PIPELINE_STATE_")
    error = str(job.get("error", {}).get("message", ""))
    if arguments.json:
        told = {"id": run, "name": job["name"], "state": state, "error": error, "tasks": [vars(task) for task in tasks]}
        print(json.dumps(told))
    if state == "SUCCEEDED":
        if not arguments.json:
            cached = sum(task.state == "cached" for task in tasks)
            print(f"succeeded: {len(tasks)} tasks, {cached} of them cached")
            print(f"outputs:  {server.artifacts_folder(run)}")
            print(f"what the tasks printed:  localvertex logs {run}")
        return DONE
    failed = [task for task in tasks if task.state == "failed"]
    for task in failed if not arguments.json else ():
        _tell_failure(home, server, run, task)
    reason = "" if failed else f": {' '.join(error.split())}"
    print(f"error: run {run} {state.lower()}{reason}", file=sys.stderr)
    if failed:
        print(f"all it printed:  localvertex logs {run} {failed[0].path}", file=sys.stderr)
    return NO


def _tell_failure(home: Home, server: Client, run: str, task: Task) -> None:
    from localvertex.logs import LogReader

    lines = list(LogReader(home, run, server).read(task.path.replace("/", "."), _LAST_LINES))
    for line in lines[-_LAST_LINES:]:
        print(f"  {line.source} | {line.text}", file=sys.stderr)
    print(f"{task.path} failed: {task.error}", file=sys.stderr)
