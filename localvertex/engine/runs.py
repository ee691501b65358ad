"""Runs under way: each has a thread that tells its graph what happened, while pools of threads execute its leaves."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import sqlalchemy as sa
from google.cloud.aiplatform_v1.types import (
    Execution,
    PipelineFailurePolicy,
    PipelineJob,
    PipelineState,
    PipelineTaskDetail,
)
from google.rpc import code_pb2, status_pb2

from localvertex import names
from localvertex.buckets import Buckets
from localvertex.engine.admission import admit, parameter_values
from localvertex.engine.cache import Cache
from localvertex.engine.dag import Graph, Node, root_inputs
from localvertex.engine.details import moment, task_details
from localvertex.engine.executors import Executor, Outcome, RunOrder
from localvertex.engine.journal import Journal, Record
from localvertex.engine.running import RunFacts
from localvertex.engine.spec import Importer, Pipeline
from localvertex.engine.values import Outputs, State
from localvertex.home import Home
from localvertex.lineage import Lineage
from localvertex.store import Store, resources
from localvertex.workloads import Runner

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
        # Most launchers of jobs only wait, so there is room for more processes than cores.
        self.containers = ThreadPoolExecutor(max(4, 2 * cores), thread_name_prefix="container")
        self.drivers = ThreadPoolExecutor(max(2, cores), thread_name_prefix="driver")
        self._runs: dict[str, Run] = {}
        self._lock = threading.Lock()

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
            job.job_detail.task_details = task_details(self.journal.of(job.name), self.store)
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
        self.containers.shutdown(cancel_futures=True)

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
            self._graph.start()
            while not self._graph.root.state.final and not self._closing:
                self._events.get()()
            if not self._closing:
                self._conclude()
        except Exception as error:
            log.exception("run %s failed", self.name)
            self._order.cancel(0)
            self._finish(State.FAILED, f"Internal error: {error}", code_pb2.INTERNAL)
        finally:
            self._engine.ended(self)

    def _prepare(self) -> None:
        engine = self._engine
        self._pipeline = admit(self._job)
        self._facts = RunFacts(self._job, engine.home, self._job.job_detail.pipeline_run_context, self._pipeline.name)
        self._records = engine.journal.of(self.name)
        engine.store.update(PipelineJob, self.name, _begin)
        self._graph = Graph(
            self._pipeline,
            root_inputs(self._pipeline, parameter_values(self._job)),
            self,
            fail_fast=self._job.runtime_config.failure_policy
            == PipelineFailurePolicy.PIPELINE_FAILURE_POLICY_FAIL_FAST,
            run_name=self.name,
        )
        if self._job.state == PipelineState.PIPELINE_STATE_CANCELLING:
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
            self._engine.drivers.submit(self._guarded, self._drive, node, record)

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
            self._records[node.path] = Record(
                self.name, node.path, parent, node.name, task_id, State.PENDING, created=created
            )
        return self._records[node.path]

    def _keep(self, record: Record) -> None:
        self._records[record.path] = self._engine.journal.put(record)

    def _execution(self, node: Node) -> str:
        store = self._facts.context.name.rsplit("/", 2)[0]
        return "" if node.parent else f"{store}/executions/{self._facts.id}"

    def _guarded(self, step: Callable[[Node, Record], None], node: Node, record: Record) -> None:
        """Whatever goes wrong in here is the task's failure: the run must hear of it, or it would wait forever."""
        try:
            step(node, record)
        except Exception as error:
            log.exception("task %s of run %s failed", node.path, self.name)
            failed = replace(record, state=State.FAILED, ended=time.time(), error=f"Internal error: {error}")
            self._engine.journal.put(failed)
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
            self._engine.containers.submit(self._guarded, self._execute, node, record)

    def _execute(self, node: Node, record: Record) -> None:
        container = self._pipeline.executors[node.component.executor]
        assert not isinstance(container, Importer)
        outcome = self._engine.executor.execute(self._facts, node, container, record, self._order)
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
        details = task_details(engine.journal.of(self.name), engine.store)

        def end(job: PipelineJob) -> None:
            job.state = PipelineState(job_state)
            job.end_time = moment(time.time())
            job.job_detail.task_details = details
            if state is State.FAILED:
                job.error = status_pb2.Status(code=code, message=error)
            elif state is State.CANCELLED:
                job.error = status_pb2.Status(code=code_pb2.CANCELLED, message="The pipeline job was cancelled.")

        with engine.store.write():
            if hasattr(self, "_facts"):
                engine.lineage.end_run(self._facts.context, state=execution_state)
                _freshen_run(details, engine.store)
            engine.store.update(PipelineJob, self.name, end)


def _begin(job: PipelineJob) -> None:
    if job.state == PipelineState.PIPELINE_STATE_PENDING:
        job.state = PipelineState(PipelineState.PIPELINE_STATE_RUNNING)
        job.start_time = moment(time.time())


def _freshen_run(details: list[PipelineTaskDetail], store: Store) -> None:
    """The run's own execution has just ended, after the details were read."""
    if details and details[0].execution.name:
        details[0].execution = store.get(Execution, details[0].execution.name)


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
