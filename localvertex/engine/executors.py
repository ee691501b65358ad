"""Executes leaves: containers as workloads, importers by looking an artifact up; from inputs to recorded outputs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from google.cloud.aiplatform_v1.types import Artifact as ArtifactResource
from google.cloud.aiplatform_v1.types import Execution

from localvertex.buckets import Buckets, split
from localvertex.engine import placeholders
from localvertex.engine.cache import Cache, CacheEntry, Fingerprint
from localvertex.engine.dag import Node
from localvertex.engine.journal import Journal, Record
from localvertex.engine.running import WORKSPACE, RunFacts, numeric_id
from localvertex.engine.spec import Container, Importer
from localvertex.engine.values import (
    Artifact,
    Inputs,
    Outputs,
    State,
    ValueProblem,
    parsed,
    text_of,
    typed,
    whole_numbers,
)
from localvertex.home import Home
from localvertex.lineage import Lineage
from localvertex.store import Store
from localvertex.workloads import Limits, Runner, Running, Workload, WorkloadError
from localvertex.workloads.quantities import quantity

IN_WORKSPACE = "_kfp_workspace"
"""Metadata that tells kfp to read the copy of an artifact that is in the workspace."""
_OUTPUT_FILE = "executor_output.json"
_LOG_TAIL = 8192


class TaskProblem(Exception):
    """Why a task failed, for its user to read."""


@dataclass(frozen=True)
class Outcome:
    """How a leaf ended, and its row in the journal."""

    record: Record
    outputs: Outputs = field(default_factory=Outputs)

    @property
    def state(self) -> State:
        """The state it ended in."""
        return self.record.state


class Order(Protocol):
    """What the run wants of a task under way."""

    def check(self) -> None:
        """Raise if the task is not to go on.

        Raises:
            Cancelled: the run is cancelled.
            Interrupted: the server ends, and the task goes on when it is back.
        """

    def started(self, running: Running) -> None:
        """The task's workload runs: stop it when the order changes."""

    def ended(self, running: Running) -> None:
        """The task's workload has ended."""


class Executor:
    """Executes leaves of any run.

    Args:
        store: groups what belongs together into one commit.
        home: for logs.
        buckets: maps `gs://` to files.
        runner: starts workloads.
        lineage: records executions and artifacts.
        journal: told of every change before anybody else is.
        cache: outputs of earlier tasks.
    """

    def __init__(
        self,
        store: Store,
        home: Home,
        buckets: Buckets,
        runner: Runner,
        lineage: Lineage,
        journal: Journal,
        cache: Cache,
    ) -> None:
        self._store = store
        self._home = home
        self._buckets = buckets
        self._runner = runner
        self._lineage = lineage
        self._journal = journal
        self._cache = cache

    def import_artifact(self, run: RunFacts, node: Node, importer: Importer, record: Record) -> Outcome:
        """Find or record the artifact that an importer names. No process is started."""
        record = self._begin(run, node, record, "system.ImporterExecution")
        try:
            outputs, found = self._import(run, node, importer, record)
        except (TaskProblem, placeholders.PlaceholderProblem) as problem:
            return self._fail(run, record, str(problem))
        state = State.SKIPPED if found and node.task.cache and not importer.to_workspace else State.SUCCEEDED
        return self._succeed(run, record, outputs, state)

    def cached(self, run: RunFacts, node: Node, container: Container, record: Record) -> tuple[Outcome | None, Record]:
        """Answer a container task from the cache, if it may be and can be; else its record, ready to execute."""
        fingerprint = self._cache.fingerprint(node.task, node.component, container, node.inputs)
        record = replace(record, fingerprint=json.dumps(fingerprint, default=str))
        outputs = self._cache.find(fingerprint) if _may_be_cached(node, container) else None
        if outputs is None:
            return None, record
        return self._skip(run, node, record, outputs), record

    def execute(self, run: RunFacts, node: Node, container: Container, record: Record, order: Order) -> Outcome | None:
        """Run a container task once, to the end; None if it was stopped for the server to end.

        An outcome that is still RUNNING asks for another attempt.
        """
        record = self._begin(run, node, record, "system.ContainerExecution", self.log(run, node))
        try:
            attempt = Attempt(self._buckets, self._runner, run, node, record, container)
            self._run(attempt.workload(self.log(run, node)), order)
            outputs = attempt.outputs()
        except Interrupted:
            return None
        except Cancelled:
            return self._fail(run, record, "The task was cancelled.", State.CANCELLED)
        except (TaskProblem, WorkloadError, placeholders.PlaceholderProblem) as problem:
            if record.attempt < node.task.retry.count:
                return self._retry(record, str(problem))
            return self._fail(run, record, str(problem))
        # Made before the commit, since it reads what the task wrote, however much that is.
        entry = None
        if _may_be_cached(node, container):
            entry = self._cache.entry(run.pipeline, _fingerprint(record), outputs)
        return self._succeed(run, record, outputs, State.SUCCEEDED, entry)

    def log(self, run: RunFacts, node: Node) -> Path:
        """Log file of a task; all its attempts append to it."""
        return self._home.logs / run.id / f"{node.path.replace('/', '.')}.log"

    def _run(self, workload: Workload, order: Order) -> None:
        order.check()
        running = self._runner.start(workload)
        order.started(running)
        code = running.wait()
        order.ended(running)
        order.check()
        if code:
            last = last_line(workload.log)
            told = f" Last line of its log: {last}" if last else ""
            raise TaskProblem(f"The container exited with code {code}.{told}")

    def _import(self, run: RunFacts, node: Node, importer: Importer, record: Record) -> tuple[Outputs, bool]:
        context = placeholders.Context(node.inputs, run.placeholders(record))
        declared = importer.uri
        uri = node.inputs.parameters.get(declared.key) if declared.kind == "component" else declared.constant
        uri = placeholders.resolve(str(uri or ""), context)
        if not uri:
            raise TaskProblem("The importer has no artifact URI.")
        metadata = placeholders.resolve_leaves(dict(importer.metadata), context)
        title = importer.schema_title
        found = None
        if not importer.reimport:
            found = self._lineage.find_artifact(uri, title, run_context=run.context, metadata=metadata)
        (output,) = node.component.outputs.artifacts
        resource = found or self._lineage.new_artifact(
            run.context,
            uri=uri,
            schema_title=title,
            schema_version=importer.schema_version,
            display_name=output,
            metadata=metadata,
            id=numeric_id(run.name, record.task_id, output),
        )
        version = str(resource.schema_version)
        artifact = Artifact(str(resource.name), uri, title, version, metadata, output)
        if importer.to_workspace:
            artifact = self._copied(run, artifact)
        return Outputs({}, {output: [artifact]}), found is not None

    def _copied(self, run: RunFacts, artifact: Artifact) -> Artifact:
        source = _local(self._buckets, artifact.uri)
        if not source.exists():
            raise TaskProblem(f"There is nothing at {artifact.uri} to copy to the workspace.")
        target = in_workspace(run.workspace, source)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copy2(source, target)
        # Where containers look, which know the buckets by another path.
        link = in_workspace(run.workspace, Path("/gcs"))
        if not link.exists():
            link.symlink_to(os.path.relpath(in_workspace(run.workspace, self._home.gcs), link.parent))
        return replace(artifact, metadata={**artifact.metadata, IN_WORKSPACE: True})

    def _begin(self, run: RunFacts, node: Node, record: Record, schema_title: str, log: Path | None = None) -> Record:
        with self._store.write():
            if log is not None:
                self._journal.begin_attempt(record, log.stat().st_size if log.exists() else 0)
            execution = self._record_execution(run, node, record, schema_title, Execution.State.RUNNING)
            return self._journal.change(record, state=State.RUNNING, **_begun(node, record, execution))

    def _skip(self, run: RunFacts, node: Node, record: Record, outputs: Outputs) -> Outcome:
        with self._store.write():
            execution = self._record_execution(
                run, node, record, "system.ContainerExecution", Execution.State.CACHED, outputs
            )
            begun = _begun(node, record, execution)
            ended = {"state": State.SKIPPED, "ended": time.time(), "outputs": outputs.to_json()}
            return Outcome(self._journal.change(record, **begun, **ended), outputs)

    def _record_execution(
        self,
        run: RunFacts,
        node: Node,
        record: Record,
        schema_title: str,
        state: int,
        outputs: Outputs | None = None,
    ) -> Execution:
        outputs = outputs or Outputs()
        return self._lineage.record_execution(
            run.context,
            id=str(record.task_id),
            display_name=node.task.display_name,
            schema_title=schema_title,
            state=state,
            inputs=_named(node.inputs.artifacts),
            outputs=_named(outputs.artifacts),
            metadata={
                **{f"input:{name}": value for name, value in node.inputs.parameters.items()},
                **{f"output:{name}": value for name, value in outputs.parameters.items()},
                "vertex-ai-pipelines-task-name": node.name,
                "task_name": node.name,
            },
        )

    def _succeed(
        self, run: RunFacts, record: Record, outputs: Outputs, state: State, entry: CacheEntry | None = None
    ) -> Outcome:
        with self._store.write():
            if state is State.SUCCEEDED:
                for items in outputs.artifacts.values():
                    for item in items:
                        self._record_artifact(run, item)
            if entry is not None:
                self._cache.keep(entry)
            self._lineage.end_execution(
                Execution(name=record.execution),
                state=Execution.State.CACHED if state is State.SKIPPED else Execution.State.COMPLETE,
                outputs=_named(outputs.artifacts),
                metadata={f"output:{name}": value for name, value in outputs.parameters.items()},
            )
            record = self._journal.change(record, state=state, ended=time.time(), outputs=outputs.to_json(), error="")
        return Outcome(record, outputs)

    def _fail(self, run: RunFacts, record: Record, error: str, state: State = State.FAILED) -> Outcome:
        ended = Execution.State.CANCELLED if state is State.CANCELLED else Execution.State.FAILED
        with self._store.write():
            self._lineage.end_execution(Execution(name=record.execution), state=ended)
            return Outcome(self._journal.change(record, state=state, ended=time.time(), error=error))

    def _retry(self, record: Record, error: str) -> Outcome:
        # One commit: a kill between "failed" and "try again" must not make the failure final.
        with self._store.write():
            self._journal.end_attempt(record, error)
            return Outcome(self._journal.change(record, attempt=record.attempt + 1, error=error))

    def _record_artifact(self, run: RunFacts, artifact: Artifact) -> None:
        self._lineage.new_artifact(
            run.context,
            schema_title=artifact.schema_title,
            schema_version=artifact.schema_version,
            uri=artifact.uri,
            display_name=artifact.display_name,
            metadata=artifact.metadata,
            id=artifact.name.rsplit("/", 1)[-1],
        )


class Cancelled(Exception):
    """The run is cancelled."""


class Interrupted(Exception):
    """The server ends; the task goes on when it is back."""


class Attempt:
    """One attempt at a container task: its folder, what it is told, and what it leaves behind.

    Args:
        buckets: maps `gs://` to files.
        runner: knows where containers find these files.
        run: the run.
        node: the task.
        record: whose task id and attempt name the folder.
        container: what to run.

    Raises:
        PlaceholderProblem: a placeholder in the image's name stands for nothing.
        WorkloadError: the image cannot be run.
    """

    def __init__(
        self, buckets: Buckets, runner: Runner, run: RunFacts, node: Node, record: Record, container: Container
    ) -> None:
        self._buckets = buckets
        self._run = run
        self._node = node
        self._record = record
        self._container = container
        self._folder = run.task_folder(record)
        facts = run.placeholders(record)
        self._image = placeholders.resolve(container.image, placeholders.Context(node.inputs, facts))
        self._runner = runner
        facts[WORKSPACE] = str(self._seen(run.workspace))
        self._inputs = placeholders.resolve_inputs(node.inputs, facts)
        self._artifacts = {
            name: self._artifact(name, spec.schema_title, spec.schema_version, dict(spec.metadata))
            for name, spec in node.component.outputs.artifacts.items()
        }
        self._context = placeholders.Context(self._inputs, facts, self._executor_input(self._inputs), self._path_of)

    def workload(self, log: Path) -> Workload:
        """What to run; the folders that outputs go into are made.

        Raises:
            PlaceholderProblem: a placeholder stands for nothing.
        """
        described = self.described(log)
        bucket, _ = split(self._folder)
        self._buckets.ensure(bucket)
        self._buckets.path(self._folder).mkdir(parents=True, exist_ok=True)
        if _uses_workspace(self._node, self._container):
            self._run.workspace.mkdir(exist_ok=True)
        return described

    def described(self, log: Path) -> Workload:
        """What `workload` says, and nothing is made.

        Raises:
            PlaceholderProblem: a placeholder stands for nothing.
        """
        container = self._container
        return Workload(
            id=f"{self._run.id}-{self._record.task_id}-{self._record.attempt}",
            image=self._image,
            command=tuple(placeholders.arguments(container.command, self._context)),
            args=tuple(placeholders.arguments(container.args, self._context)),
            env={
                # https://github.com/kubeflow/pipelines/blob/master/sdk/python/kfp/dsl/executor.py
                "VERTEX_AI_PIPELINES_RUN_LABELS": json.dumps(dict(self._run.job.labels)),
                "LOCALVERTEX_WORKSPACE": str(self._seen(self._run.workspace)),
                **{name: placeholders.resolve(value, self._context) for name, value in container.env.items()},
            },
            log=log,
            limits=Limits(
                cpus=quantity(placeholders.resolve(container.cpu_limit, self._context)),
                memory=int(quantity(placeholders.resolve(container.memory_limit, self._context))),
            ),
        )

    def outputs(self) -> Outputs:
        """What the task left behind: its output parameters' files, and over them its executor output.

        Raises:
            TaskProblem: an output is not what its component declares.
        """
        told = self._told()
        parameters: dict[str, Any] = {}
        for name, spec in self._node.component.outputs.parameters.items():
            try:
                if name in told.get("parameterValues", {}):
                    parameters[name] = typed(told["parameterValues"][name], spec.kind)
                elif self._output_file(name).is_file():
                    parameters[name] = parsed(self._output_file(name).read_text(), spec.kind)
            except (ValueProblem, UnicodeDecodeError) as problem:
                raise TaskProblem(f"Output parameter '{name}': {problem}.") from None
        artifacts = {
            name: self._updated(name, artifact, told.get("artifacts", {}).get(name, {}).get("artifacts", []))
            for name, artifact in self._artifacts.items()
        }
        return Outputs(parameters, artifacts)

    def _updated(self, name: str, artifact: Artifact, told: Sequence[Mapping[str, Any]]) -> list[Artifact]:
        if not told:
            return [] if self._node.component.outputs.artifacts[name].is_list else [artifact]
        found = []
        for index, entry in enumerate(told):
            metadata = {**artifact.metadata, **whole_numbers(entry.get("metadata", {}))}
            kind = artifact.schema_title, artifact.schema_version
            own = self._artifact(name, *kind, {}, index) if index else artifact
            own = replace(own, uri=entry.get("uri") or own.uri, metadata=metadata)
            if entry.get("custom_path"):
                self._fetch(self._here(Path(entry["custom_path"])), own.uri)
            found.append(own)
        return found

    def _fetch(self, path: Path, uri: str) -> None:
        """Put what a task wrote to a path of its own choice where it belongs."""
        if not path.exists():
            raise TaskProblem(f"The task says that it wrote {uri} to {path}, which does not exist.")
        if path.is_dir():
            shutil.copytree(path, self._local(uri), dirs_exist_ok=True)
        else:
            shutil.copy2(path, self._local(uri))

    def _told(self) -> dict[str, Any]:
        file = self._local(f"{self._folder}/{_OUTPUT_FILE}")
        if not file.is_file():
            return {}
        try:
            content = json.loads(file.read_text())
        except ValueError as error:
            raise TaskProblem(f"The task's {_OUTPUT_FILE} is not valid JSON: {error}.") from None
        old = {name: next(iter(value.values())) for name, value in content.get("parameters", {}).items()}
        return {**content, "parameterValues": {**old, **content.get("parameterValues", {})}}

    def _executor_input(self, inputs: Inputs) -> dict[str, Any]:
        outputs = self._node.component.outputs
        return {
            "inputs": {
                "parameterValues": inputs.parameters,
                "artifacts": {
                    name: {"artifacts": [item.to_runtime() for item in items]}
                    for name, items in inputs.artifacts.items()
                },
            },
            "outputs": {
                "parameters": {
                    name: {"outputFile": str(self._seen(self._output_file(name)))} for name in outputs.parameters
                },
                "artifacts": {name: {"artifacts": [item.to_runtime()]} for name, item in self._artifacts.items()},
                "outputFile": str(self._seen(self._local(f"{self._folder}/{_OUTPUT_FILE}"))),
            },
        }

    def _seen(self, path: Path) -> Path:
        """Where the task finds what is at a path of this host."""
        return Path(self._runner.path(path, self._image))

    def _here(self, path: Path) -> Path:
        """Where on this host is what the task finds at a path."""
        buckets = self._seen(self._run.home.gcs)
        return self._run.home.gcs / path.relative_to(buckets) if path.is_relative_to(buckets) else path

    def _output_file(self, name: str) -> Path:
        return self._local(f"{self._folder}/{name}")

    def _artifact(
        self, output: str, schema_title: str, version: str, metadata: dict[str, Any], index: int = 0
    ) -> Artifact:
        id = numeric_id(self._run.name, self._record.task_id, self._record.attempt, output, index)
        store = self._run.context.name.rsplit("/", 2)[0]
        uri = f"{self._folder}/{output}"
        return Artifact(f"{store}/artifacts/{id}", uri, schema_title, version, metadata, output)

    def _path_of(self, artifact: Mapping[str, Any]) -> str:
        path = self._seen(self._local(artifact["uri"]))
        if artifact["metadata"].get(IN_WORKSPACE):
            path = in_workspace(self._seen(self._run.workspace), path)
        return str(path)

    def _local(self, uri: str) -> Path:
        return _local(self._buckets, uri)


class RunOrder:
    """The orders of one run to its tasks under way; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[Running] = set()
        self._cancelled = False
        self._closing = False

    def check(self) -> None:
        """Raise if tasks are not to go on.

        Raises:
            Cancelled: the run is cancelled.
            Interrupted: the server ends.
        """
        with self._lock:
            if self._closing:
                raise Interrupted
            if self._cancelled:
                raise Cancelled

    def started(self, running: Running) -> None:
        """Stop this too when the run is cancelled."""
        with self._lock:
            self._running.add(running)
            stop = self._cancelled or self._closing
        if stop:
            running.stop(0)

    def ended(self, running: Running) -> None:
        """It has ended by itself."""
        with self._lock:
            self._running.discard(running)

    def forbid(self) -> None:
        """Let no more tasks start."""
        with self._lock:
            self._cancelled = True

    def cancel(self, grace: float = 10) -> None:
        """Stop all tasks: SIGTERM first, so that they can tidy up."""
        self.forbid()
        with self._lock:
            running = list(self._running)
        stop_all(running, grace)

    def close(self) -> None:
        """Stop all tasks at once; they go on when the server is back, so nothing may be tidied up."""
        with self._lock:
            self._closing = True
            running = list(self._running)
        stop_all(running, 0)


def stop_all(running: Sequence[Running], grace: float) -> None:
    """Stop workloads side by side."""
    threads = [threading.Thread(target=one.stop, args=(grace,), daemon=True) for one in running]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def in_workspace(workspace: Path, path: Path) -> Path:
    """Where in a run's workspace an artifact's copy lies: where kfp looks for it."""
    return workspace / ".artifacts" / str(path).lstrip("/")


def last_line(log: Path) -> str:
    """The last line with text in a log file; empty if there is none."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - _LOG_TAIL))
        lines = file.read().decode(errors="replace").splitlines()
        return next((line.strip()[:500] for line in reversed(lines) if line.strip()), "")
    return ""


def _begun(node: Node, record: Record, execution: Execution) -> dict[str, Any]:
    return {
        "started": record.started or time.time(),
        "execution": str(execution.name),
        "inputs": Outputs({}, node.inputs.artifacts).to_json(),
        "fingerprint": record.fingerprint,
    }


def _named(artifacts: Mapping[str, Sequence[Artifact]]) -> list[ArtifactResource]:
    return [ArtifactResource(name=item.name) for items in artifacts.values() for item in items]


def _local(buckets: Buckets, uri: str) -> Path:
    return buckets.path(uri) if uri.startswith("gs://") else Path(uri.removeprefix("file://"))


def _may_be_cached(node: Node, container: Container) -> bool:
    # What a task leaves in the workspace, its outputs do not tell.
    return node.task.cache and not _uses_workspace(node, container)


def _uses_workspace(node: Node, container: Container) -> bool:
    templates = (text_of(node.inputs.parameters[name]) for name in node.inputs.templates)
    words = (*container.command, *container.args, *container.env.values(), *templates)
    return placeholders.mentions(WORKSPACE, words)


def _fingerprint(record: Record) -> Fingerprint:
    found: Fingerprint = json.loads(record.fingerprint)
    return found
