"""Runs under way: each has a thread that tells its graph what happened, while pools of threads execute its leaves."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import sqlalchemy as sa
from google.cloud.aiplatform_v1.types import (
    Execution,
    PipelineFailurePolicy,
    PipelineJob,
    PipelineState,
)
from google.rpc import code_pb2, status_pb2

from localvertex import names
from localvertex.buckets import Buckets
from localvertex.engine.admission import admit, parameter_values
from localvertex.engine.cache import Cache
from localvertex.engine.dag import Graph, Node, root_inputs
from localvertex.engine.details import moment, show_tasks
from localvertex.engine.executors import Executor, Outcome, RunOrder
from localvertex.engine.inputs import given_artifacts
from localvertex.engine.journal import Journal, Record
from localvertex.engine.running import RunFacts
from localvertex.engine.spec import Importer, Pipeline
from localvertex.engine.values import Artifact, Outputs, State
from localvertex.home import Home
from localvertex.lineage import Lineage
from localvertex.store import Store, resources
from localvertex.workloads import Runner, Running
from localvertex.workloads.slots import Slot, Slots

log = logging.getLogger(__name__)

UNFINISHED = (
    PipelineState.PIPELINE_STATE_PENDING,
    PipelineState.PIPELINE_STATE_RUNNING,
    PipelineState.PIPELINE_STATE_CANCELLING,
)
_ENDS = {
    State.SUCCEEDED: (PipelineState.PIPELINE_STATE_SUCCEEDED, Execution.State.COMPLETE),
    State.FAILED: (PipelineState.PIPELINE_STATE_FAILED, Execution.State.FAILED),
    State.CANCELLED: (PipelineState.PIPELINE_STATE_CANCELLED, Execution.State.CANCELLED),
}


class Engine:
    """Runs pipeline jobs.

    Args:
        store: where jobs are; the engine writes their state, start, end, error and details.
        home: the state folder.
        buckets: maps `gs://` to files.
        runner: starts containers.
        lineage: records what tasks read and wrote.
    """

    def __init__(self, store: Store, home: Home, buckets: Buckets, runner: Runner, lineage: Lineage) -> None:
        self.store = store
        self.home = home
        self.lineage = lineage
        self.journal = Journal(store)
        cache = Cache(store, buckets.digest, self._exists)
        self.executor = Executor(store, home, buckets, runner, lineage, self.journal, cache)
        cores = os.cpu_count() or 1
        self.slots = Slots(busy=max(4, 2 * cores), most=max(32, 16 * cores))
        self.drivers = ThreadPoolExecutor(max(2, cores), thread_name_prefix="driver")
        self._runs: dict[str, Run] = {}
        self._lock = threading.Lock()

    def input_artifacts(self, job: PipelineJob, pipeline: Pipeline) -> dict[str, Artifact]:
        """The artifacts that a job is given as its pipeline's inputs, by name.

        Raises:
            google.api_core.exceptions.NotFound: an artifact does not exist.
            google.api_core.exceptions.InvalidArgument: an artifact is of another type than the input.
        """
        return given_artifacts(job, pipeline.root.inputs, self.store)

    def submit(self, job: PipelineJob) -> None:
        """Start an accepted, stored job."""
        with self._lock:
            run = self._runs[job.name] = Run(self, job)
        run.start()

    def cancel(self, name: str) -> None:
        """Stop a job's tasks; its state is CANCELLING already."""
        run = self._runs.get(name)
        if run is not None:
            run.cancel()

    def join(self, name: str) -> None:
        """Wait until a job has ended."""
        run = self._runs.get(name)
        if run is not None:
            run.join()

    def detailed(self, job: PipelineJob) -> PipelineJob:
        """The job with the tasks it has now; a finished job has them in store."""
        if job.state in UNFINISHED:
            show_tasks(job, self.journal.of(job.name), self.store)
        self.lineage.refresh_parents(job.job_detail.pipeline_run_context)
        return job

    def forget(self, name: str) -> None:
        """Drop a finished job's journal."""
        self.journal.delete(name)

    def resume(self) -> None:
        """Go on with the jobs that were under way when the server ended; leftover processes must be gone."""
        for job in self.store.select(PipelineJob, resources.c.state.in_([int(state) for state in UNFINISHED])):
            self.submit(job)

    def close(self) -> None:
        """Stop everything; unfinished jobs go on with the next `resume`."""
        for run in list(self._runs.values()):
            run.close()
        self.drivers.shutdown(cancel_futures=True)
        self.slots.close()

    def ended(self, run: Run) -> None:
        """A run needs no thread any more."""
        with self._lock:
            self._runs.pop(run.name, None)

    def _exists(self, name: str) -> bool:
        project = names.project_of(name)
        if project == self.home.project_id:
            name = name.replace(project, self.home.project_number, 1)
        # A model is there as long as one of its versions is; `<model>@<number>` is that version alone.
        row = name.replace("@", "/versions/")
        query = resources.select().with_only_columns(resources.c.name)
        query = query.where(sa.or_(resources.c.name == row, resources.c.parent == row))
        with self.store.read() as connection:
            return connection.execute(query).first() is not None


class Run:
    """One job under way.

    Args:
        engine: what all runs share.
        job: as it is stored.
    """

    def __init__(self, engine: Engine, job: PipelineJob) -> None:
        self.name = str(job.name)
        self._engine = engine
        self._job = job
        self._order = RunOrder()
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._main, name=names.id_of(self.name), daemon=True)
        self._retries: dict[threading.Timer, Callable[[], None]] = {}
        self._records: dict[str, Record] = {}
        self._changed: dict[str, Record] = {}
        """Records that are to be committed."""
        self._launched: list[Node] = []
        """Leaves that are to be executed once their records are committed."""
        self._pipeline: Pipeline
        self._facts: RunFacts
        self._graph: Graph
        self._closing = False

    def start(self) -> None:
        """Begin, or go on where the journal ends."""
        self._thread.start()

    def join(self) -> None:
        """Wait until the run has ended."""
        self._thread.join()

    def cancel(self) -> None:
        """Stop tasks, start no more."""
        self._events.put(self._cancel)

    def close(self) -> None:
        """Leave the run as it is, without its processes."""
        self._events.put(self._close)
        self._order.close()
        self.join()

    def _main(self) -> None:
        try:
            self._prepare()
            self._step(self._graph.start)
            while not self._ended:
                self._step(self._events.get())
            if not self._closing:
                self._conclude()
        except Exception as error:
            log.exception("run %s failed", self.name)
            self._order.forbid()
            self._engine.slots.hurry(self.name)
            self._order.cancel(0)
            self._finish(State.FAILED, f"Internal error: {error}", code_pb2.INTERNAL)
        finally:
            self._engine.ended(self)

    @property
    def _ended(self) -> bool:
        return self._closing or self._graph.root.state.final

    def _step(self, event: Callable[[], None]) -> None:
        """Tell the graph what happened, and what else has meanwhile; commit what follows, and only then act on it."""
        event()
        for _ in range(self._events.qsize()):
            if not self._ended:
                self._events.get()()
        self._engine.journal.put(self._changed.values())
        self._changed = {}
        launched, self._launched = self._launched, []
        for node in launched:
            self._engine.drivers.submit(self._guarded, self._drive, node, self._records[node.path])

    def _prepare(self) -> None:
        engine = self._engine
        self._pipeline = admit(self._job)
        self._facts = RunFacts(self._job, engine.home, self._job.job_detail.pipeline_run_context, self._pipeline.name)
        self._records = engine.journal.of(self.name)
        # Who cancelled it before this run could be found has left a word in the store.
        now = engine.store.update(PipelineJob, self.name, _begin)
        self._graph = Graph(
            self._pipeline,
            root_inputs(self._pipeline, parameter_values(self._job), engine.input_artifacts(self._job, self._pipeline)),
            self,
            fail_fast=self._job.runtime_config.failure_policy
            == PipelineFailurePolicy.PIPELINE_FAILURE_POLICY_FAIL_FAST,
            run_name=self.name,
            facts=self._facts.facts,
            earlier={path: record.state for path, record in self._records.items()},
        )
        if now.state == PipelineState.PIPELINE_STATE_CANCELLING:
            self._cancel()

    def begin(self, node: Node) -> None:
        """A DAG or loop started."""
        record = self._record(node)
        if record.state is State.PENDING:
            now = time.time()
            self._keep(replace(record, state=State.RUNNING, started=now, execution=self._execution(node)))

    def launch(self, node: Node) -> None:
        """A leaf is to be executed, unless it was before the server ended."""
        record = self._record(node)
        if record.state.final:
            outputs = Outputs.from_json(record.outputs) if record.outputs else Outputs()
            self._events.put(lambda: self._graph.finish(node, record.state, outputs, record.error))
        else:
            self._launched.append(node)

    def end(self, node: Node) -> None:
        """A node reached its final state."""
        record = self._record(node)
        if record.state.final:
            return
        now = time.time()
        outputs = "" if node.leaf else node.outputs.to_json()
        self._keep(replace(record, state=node.state, ended=now, error=node.error, outputs=outputs))

    def _record(self, node: Node) -> Record:
        if node.path not in self._records:
            parent = node.parent.path if node.parent else ""
            task_id = int(names.new_id())
            created = time.time()
            self._keep(Record(self.name, node.path, parent, node.name, task_id, State.PENDING, created=created))
        return self._records[node.path]

    def _keep(self, record: Record) -> None:
        self._records[record.path] = self._changed[record.path] = record

    def _execution(self, node: Node) -> str:
        return "" if node.parent else self._facts.context.name.replace("/contexts/", "/executions/")

    def _guarded(self, step: Callable[[Node, Record], None], node: Node, record: Record) -> None:
        """Whatever goes wrong in here is the task's failure: the run must hear of it, or it would wait forever."""
        try:
            step(node, record)
        except Exception as error:
            log.exception("task %s of run %s failed", node.path, self.name)
            failed = self._engine.journal.change(
                record, state=State.FAILED, ended=time.time(), error=f"Internal error: {error}"
            )
            self._events.put(lambda: self._settle(node, Outcome(failed)))

    def _drive(self, node: Node, record: Record) -> None:
        executable = self._pipeline.executors[node.component.executor]
        if isinstance(executable, Importer):
            outcome = self._engine.executor.import_artifact(self._facts, node, executable, record)
            self._events.put(lambda: self._settle(node, outcome))
            return
        cached, record = self._engine.executor.cached(self._facts, node, executable, record)
        if cached is not None:
            self._events.put(lambda: self._settle(node, cached))
        else:
            self._submit(node, record)

    def _submit(self, node: Node, record: Record) -> None:
        if not self._closing:
            self._engine.slots.submit(self.name, lambda slot: self._guarded(partial(self._execute, slot), node, record))

    def _execute(self, slot: Slot, node: Node, record: Record) -> None:
        container = self._pipeline.executors[node.component.executor]
        assert not isinstance(container, Importer)
        order = TaskOrder(self._order, slot)
        outcome = self._engine.executor.execute(self._facts, node, container, record, order)
        if outcome is not None:
            self._events.put(lambda: self._settle(node, outcome))

    def _settle(self, node: Node, outcome: Outcome) -> None:
        self._records[node.path] = outcome.record
        if outcome.state.final:
            self._graph.finish(node, outcome.state, outcome.outputs, outcome.record.error)
        else:
            self._retry_later(node, outcome.record)

    def _retry_later(self, node: Node, record: Record) -> None:
        def retry() -> None:
            self._submit(node, record)

        if self._graph.cancelled:
            return retry()
        timer = threading.Timer(node.task.retry.delay(record.attempt), lambda: self._events.put(fire))
        timer.daemon = True

        def fire() -> None:
            if self._retries.pop(timer, None):
                retry()

        self._retries[timer] = retry
        timer.start()

    def _cancel(self) -> None:
        self._graph.cancel()
        self._order.forbid()
        self._engine.slots.hurry(self.name)
        # Beside this thread, which hears of the tasks' ends.
        threading.Thread(target=self._order.cancel, daemon=True).start()
        waiting, self._retries = self._retries, {}
        for timer, retry in waiting.items():
            timer.cancel()
            retry()

    def _close(self) -> None:
        self._closing = True
        for timer in self._retries:
            timer.cancel()

    def _conclude(self) -> None:
        root = self._graph.root
        self._finish(root.state, _explain(root), code_pb2.FAILED_PRECONDITION)

    def _finish(self, state: State, error: str, code: int) -> None:
        engine = self._engine
        job_state, execution_state = _ENDS[state]

        def end(job: PipelineJob) -> None:
            job.state = PipelineState(job_state)
            job.end_time = moment(time.time())
            show_tasks(job, engine.journal.of(self.name), engine.store)
            if state is State.FAILED:
                job.error = status_pb2.Status(code=code, message=error)
            elif state is State.CANCELLED:
                job.error = status_pb2.Status(code=code_pb2.CANCELLED, message="The pipeline job was cancelled.")

        with engine.store.write():
            if state is not State.SUCCEEDED:
                self._cancel_rest()
            if hasattr(self, "_facts"):
                engine.lineage.end_run(self._facts.context, state=execution_state)
            engine.store.update(PipelineJob, self.name, end)

    def _cancel_rest(self) -> None:
        """What was under way when the server was killed, in a run that then went on no more, is cancelled."""
        records = [record for record in self._engine.journal.of(self.name).values() if record.path]
        rest = [record for record in records if not record.state.final]
        now = time.time()
        self._engine.journal.put(
            replace(record, state=State.CANCELLED, ended=now, error="The task was cancelled.") for record in rest
        )
        for record in records:
            if record.execution and (record.state is State.CANCELLED or not record.state.final):
                self._engine.lineage.end_execution(Execution(name=record.execution), state=Execution.State.CANCELLED)


@dataclass(frozen=True)
class TaskOrder:
    """A run's orders to one task, whose slot is told of the workload."""

    run: RunOrder
    slot: Slot

    def check(self) -> None:
        """As of the run."""
        self.run.check()

    def started(self, running: Running) -> None:
        """As of the run."""
        self.slot.occupy(running.pid)
        self.run.started(running)

    def ended(self, running: Running) -> None:
        """As of the run."""
        self.run.ended(running)


def _begin(job: PipelineJob) -> None:
    if job.state == PipelineState.PIPELINE_STATE_PENDING:
        job.state = PipelineState(PipelineState.PIPELINE_STATE_RUNNING)
        job.start_time = moment(time.time())


def _explain(root: Node) -> str:
    """What failed, and why: Vertex's sentence, then each failed leaf with its error."""
    reasons, nodes = [], [root]
    while nodes:
        node = nodes.pop(0)
        failed = [child for child in node.children.values() if child.state is State.FAILED]
        nodes += failed
        if node is not root and not failed and node.state is State.FAILED:
            reasons.append(f"{node.path}: {node.error}")
    return "\n".join([root.error, *reasons[:10]])
