"""One task of a run, looked at closely: what it was given, what it made, why it ran, and how to run it by hand."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import Execution, PipelineJob

from localvertex import names, workloads
from localvertex.console.services import ConsoleServices
from localvertex.engine.dag import Node
from localvertex.engine.executors import Attempt
from localvertex.engine.explain import Explainer, Explanation, Place
from localvertex.engine.journal import AttemptRecord, Record
from localvertex.engine.placeholders import PlaceholderProblem
from localvertex.engine.running import RunFacts
from localvertex.engine.runs import UNFINISHED
from localvertex.engine.spec import Container, Pipeline
from localvertex.engine.values import Artifact, Inputs, Outputs, State
from localvertex.logs import Line, LogReader
from localvertex.workloads import WorkloadError
from localvertex.workloads.process import ProcessRunner
from localvertex.workloads.table import ImageTable

_LAST_LINES, _FEWER_LINES = 400, 100
_LAST_BYTES = 256 << 10
_HOOK = Path(workloads.__file__).with_name("hook")
_OWN = ("VERTEX_AI_PIPELINES_RUN_LABELS", "LOCALVERTEX_WORKSPACE")


@dataclass(frozen=True)
class Given:
    """A parameter or an artifact of a task.

    Args:
        name: of the input or output.
        text: a parameter's value as people read it; empty for an artifact.
        artifact: the artifact; None for a parameter.
    """

    name: str
    text: str = ""
    artifact: Artifact | None = None


@dataclass(frozen=True)
class Tried:
    """One attempt at a task.

    Args:
        number: from 1.
        state: name of its state, as in the API.
        started: this and `ended` in seconds since 1970, 0 for not yet.
        ended: see above.
        error: why it failed.
        log: the last lines that it and the jobs it launched have printed.
    """

    number: int
    state: str
    started: float
    ended: float
    error: str
    log: str


class Tasks:
    """Looks at tasks.

    Args:
        services: of the engine.
    """

    def __init__(self, services: ConsoleServices) -> None:
        self._services = services
        self._explainer = Explainer(services.store)

    def inputs(self, record: Record) -> list[Given]:
        """What a task was given: parameters, then artifacts."""
        values = self._parameters(record, "input:")
        return [*_parameters(values), *_artifacts(record.inputs)]

    def outputs(self, record: Record) -> list[Given]:
        """What a task made: parameters, then artifacts."""
        made = Outputs.from_json(record.outputs) if record.outputs else Outputs()
        return [*_parameters(made.parameters), *_artifacts(record.outputs)]

    def why(self, record: Record) -> Explanation | None:
        """Why it was executed or was not; None while that cannot be said."""
        try:
            return self._explainer.explain(record.job, record.path)
        except (exceptions.GoogleAPICallError, KeyError):
            return None

    def attempts(self, job: PipelineJob, record: Record) -> list[Tried]:
        """The attempts at a task in their order; none where no container was started for it."""
        made = self._made(record)
        return [
            Tried(
                index + 1,
                each.state.name,
                each.started,
                each.ended,
                each.error,
                self._attempt_log(job, record, made, index, _LAST_LINES if index + 1 == len(made) else _FEWER_LINES),
            )
            for index, each in enumerate(made)
        ]

    def log(self, job: PipelineJob, record: Record, attempt: int = 0) -> str:
        """All that a task and the jobs it launched have printed.

        Args:
            attempt: only what this one has, counted from 1; 0 for all.

        Raises:
            google.api_core.exceptions.NotFound: there is no such attempt.
        """
        if attempt:
            made = self._made(record)
            if attempt > len(made):
                raise exceptions.NotFound(f"Task '{record.path}' has had {len(made)} attempts.")
            return self._attempt_log(job, record, made, attempt - 1, None)
        return _text(self._reader(job).read(_log_name(record)))

    def _made(self, record: Record) -> Sequence[AttemptRecord]:
        if made := self._services.engine.journal.attempts(record):
            return made
        if not record.started or record.state is State.SKIPPED:
            return []
        # The run is of before attempts were noted one by one.
        return [AttemptRecord(record.attempt, record.state, record.started, record.ended, record.error, 0)]

    def _attempt_log(
        self, job: PipelineJob, record: Record, made: Sequence[AttemptRecord], index: int, last: int | None
    ) -> str:
        own = made[index]
        end = made[index + 1].log_start if index + 1 < len(made) else None
        folder = self._services.buckets.path(self._run(job).task_folder(replace(record, attempt=own.number)))
        size = _LAST_BYTES if last else None
        return _text(self._reader(job).attempt(_log_name(record), own.log_start, end, folder, last, size))

    def _reader(self, job: PipelineJob) -> LogReader:
        return LogReader(self._services.home, names.id_of(job.name), _Inspector(self._services, job))

    def _run(self, job: PipelineJob) -> RunFacts:
        pipeline = str(PipelineJob.pb(job).pipeline_spec["pipelineInfo"]["name"])
        return RunFacts(job, self._services.home, job.job_detail.pipeline_run_context, pipeline)

    def command(self, job: PipelineJob, pipeline: Pipeline, record: Record) -> str:
        """What a person types to execute a task again by hand, with the inputs that it had and into a new folder.

        Empty for a task that no process executes.
        """
        place = Place.of(pipeline, record.path)
        container = pipeline.executors.get(place.component.executor)
        if not isinstance(container, Container) or place.loop or not record.execution:
            return ""
        node = Node(record.path, record.name, place.task, place.component, None)
        given = Outputs.from_json(record.inputs) if record.inputs else Outputs()
        node.inputs = Inputs(self._parameters(record, "input:"), given.artifacts)
        home = self._services.home
        run = self._run(job)
        # A folder of its own: what the run has made stays as it is.
        by_hand = replace(record, attempt=record.attempt + 1)
        try:
            table = ImageTable.load(home)
            runner = ProcessRunner(home, table, {})
            workload = Attempt(self._services.buckets, runner, run, node, by_hand, container).described(Path())
            entry = table.entry(workload.image)
        except (PlaceholderProblem, WorkloadError, KeyError):
            return ""
        program = [str(entry.python) if each in ("python", "python3") else each for each in workload.command[:1]]
        variables = {name: value for name, value in workload.env.items() if name not in _OWN}
        variables |= {"LOCALVERTEX_GCS_MOUNT": str(home.gcs), "PYTHONPATH": str(_HOOK), "PYTHONUNBUFFERED": "1"}
        folder = self._services.buckets.path(run.task_folder(by_hand))
        return "\n".join(
            [
                f'eval "$(LOCALVERTEX_HOME={shlex.quote(str(home.path))} localvertex env)"',
                f"cd {shlex.quote(str(entry.workdir))}",
                f"mkdir -p {shlex.quote(str(folder))}",
                shlex.join(
                    [
                        "env",
                        *(f"{name}={value}" for name, value in variables.items()),
                        *program,
                        *workload.command[1:],
                        *workload.args,
                    ]
                ),
            ]
        )

    def _parameters(self, record: Record, prefix: str) -> dict[str, Any]:
        execution = self._services.store.find(Execution, record.execution) if record.execution else None
        metadata = _plain(Execution.pb(execution).metadata) if execution else {}
        return {name.removeprefix(prefix): value for name, value in metadata.items() if name.startswith(prefix)}


class _Inspector:
    """What a log reader asks about a run, answered in this process."""

    def __init__(self, services: ConsoleServices, job: PipelineJob) -> None:
        self._services = services
        self._job = job

    def artifacts_folder(self, run: str) -> Path | None:
        root = str(self._job.runtime_config.gcs_output_directory)
        if not root.startswith("gs://"):
            return None
        return self._services.home.gcs / root[len("gs://") :].rstrip("/") / names.project_of(self._job.name) / run

    def has_ended(self, run: str) -> bool:
        return self._job.state not in UNFINISHED


def _log_name(record: Record) -> str:
    return record.path.replace("/", ".")


def _text(lines: Iterable[Line]) -> str:
    found = list(lines)
    several = len({line.source for line in found}) > 1
    return "\n".join(f"{line.source} | {line.text}" if several else line.text for line in found)


def text_of(value: Any) -> str:
    """A parameter's value as people read it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _parameters(values: Mapping[str, Any]) -> list[Given]:
    return [Given(name, text_of(value)) for name, value in sorted(values.items())]


def _artifacts(text: str) -> list[Given]:
    found: Mapping[str, Sequence[Artifact]] = Outputs.from_json(text).artifacts if text else {}
    return [Given(name, artifact=item) for name, items in sorted(found.items()) for item in items]


def _plain(struct: Any) -> dict[str, Any]:
    from google.protobuf import json_format

    from localvertex.engine.values import whole_numbers

    found: dict[str, Any] = whole_numbers(json_format.MessageToDict(struct))
    return found
