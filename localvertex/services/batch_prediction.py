"""Batch prediction: instances from files, through a model's servers, into result files.

A job reads its input, and writes aside, from the start again when the server was killed over it; its files appear
whole, when it has ended.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import httpx
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import (
    BatchPredictionJob,
    CancelBatchPredictionJobRequest,
    CompletionStats,
    CreateBatchPredictionJobRequest,
    DeleteBatchPredictionJobRequest,
    DeleteOperationMetadata,
    DeployedModel,
    GetBatchPredictionJobRequest,
    JobState,
    ListBatchPredictionJobsRequest,
    ListBatchPredictionJobsResponse,
    Model,
)
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2
from google.rpc import code_pb2, status_pb2

from localvertex import filters, instances, labels, machines, names
from localvertex.buckets import SCHEME, Buckets, Object, Page, glob_pattern, split
from localvertex.errors import status_of
from localvertex.home import Home
from localvertex.instances import Conversion, InstanceError, Rejected, UnreadableError
from localvertex.services.jobs import begin, begin_cancel, finish, must_have_finished, unfinished
from localvertex.services.masks import shown
from localvertex.services.models import ModelService
from localvertex.services.moments import seconds
from localvertex.services.operations import Operations
from localvertex.services.prediction import error_of, plain
from localvertex.services.serving import Deployment, NotReadyError, Plan
from localvertex.services.supervision import Order, Supervisor
from localvertex.store import Store
from localvertex.workloads import Runner

_BATCH_SIZE = 64
_JOBS_AT_A_TIME = 2
_POLL_SECONDS = 0.05
_DEPLOYMENT_TIMEOUT = 1800.0
_PATIENCE_SECONDS = 600.0
_PROGRESS_SECONDS = 1.0
_MOST_PARTIAL_FAILURES = 20
_WILDCARDS = frozenset("*?[{")


class BatchPredictionService:
    """The part of google.cloud.aiplatform.v1.JobService that is about batch prediction jobs.

    Source: https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.batchPredictionJobs

    Args:
        store: where jobs are kept.
        home: for the folder of the servers' logs.
        buckets: where instances are and predictions go.
        operations: for deletions, which are long-running operations.
        runner: starts the servers.
        models: the registry that models come from.
    """

    SERVICE = "google.cloud.aiplatform.v1.JobService"

    def __init__(
        self,
        store: Store,
        home: Home,
        buckets: Buckets,
        operations: Operations,
        runner: Runner,
        models: ModelService,
    ) -> None:
        self._store = store
        self._home = home
        self._buckets = buckets
        self._operations = operations
        self._runner = runner
        self._models = models
        self._client = httpx.Client(trust_env=False, limits=httpx.Limits(max_connections=None))
        self._places = threading.Semaphore(_JOBS_AT_A_TIME)
        self._supervisor = Supervisor(self._run, self._fail)

    def create_batch_prediction_job(self, request: CreateBatchPredictionJobRequest) -> BatchPredictionJob:
        """Begin a batch prediction job."""
        job = BatchPredictionJob(request.batch_prediction_job)
        check(job)
        if job.model:
            job.model_version_id = self._models.resolve(job.model).version_id
        job.name = f"{request.parent}/batchPredictionJobs/{names.new_id()}"
        job.state = JobState(JobState.JOB_STATE_QUEUED)
        for set_by_us in ("output_info", "error", "partial_failures", "completion_stats", "start_time", "end_time"):
            BatchPredictionJob.pb(job).ClearField(set_by_us)
        created = self._store.create(job)
        self._supervisor.start(created.name)
        return created

    def get_batch_prediction_job(self, request: GetBatchPredictionJobRequest) -> BatchPredictionJob:
        """A batch prediction job as it is now."""
        return self._store.get(BatchPredictionJob, request.name)

    def list_batch_prediction_jobs(self, request: ListBatchPredictionJobsRequest) -> ListBatchPredictionJobsResponse:
        """Batch prediction jobs of a location, newest first."""
        jobs, token = filters.listing(
            self._store, BatchPredictionJob, request.parent, request.filter, "", request.page_size, request.page_token
        )
        jobs = [shown(job, request.read_mask.paths) for job in jobs]
        return ListBatchPredictionJobsResponse(batch_prediction_jobs=jobs, next_page_token=token)

    def cancel_batch_prediction_job(self, request: CancelBatchPredictionJobRequest) -> empty_pb2.Empty:
        """Begin to cancel a batch prediction job."""
        self._store.update(BatchPredictionJob, request.name, begin_cancel)
        self._supervisor.cancel(request.name)
        return empty_pb2.Empty()

    def delete_batch_prediction_job(self, request: DeleteBatchPredictionJobRequest) -> operations_pb2.Operation:
        """Delete a batch prediction job that has ended; its output stays."""
        must_have_finished(self._store.get(BatchPredictionJob, request.name))

        def work() -> None:
            self._supervisor.join(request.name)
            self._store.delete(BatchPredictionJob, request.name)
            shutil.rmtree(self._home.logs / names.id_of(request.name), ignore_errors=True)

        return self._operations.start(request.name, work, metadata=DeleteOperationMetadata())

    def resume(self) -> None:
        """Start again what was under way at a kill."""
        for job in unfinished(self._store, BatchPredictionJob):
            if job.state == JobState.JOB_STATE_CANCELLING:
                finish(self._store, BatchPredictionJob, job.name, JobState.JOB_STATE_CANCELLED)
            else:
                self._supervisor.start(job.name)

    def close(self) -> None:
        """End the servers of all jobs, which go on with the next `resume`."""
        self._supervisor.close()
        self._client.close()

    def _run(self, name: str, order: Order) -> None:
        while not self._places.acquire(blocking=False):
            if order.wait(_POLL_SECONDS):
                break
        else:
            try:
                self._run_in_place(name, order)
            finally:
                self._places.release()
        if order.cancelled:
            finish(self._store, BatchPredictionJob, name, JobState.JOB_STATE_CANCELLED)

    def _run_in_place(self, name: str, order: Order) -> None:
        job = self._store.update(BatchPredictionJob, name, begin)
        # Beside the servers' own scratch folders, which the next start clears away after a kill.
        aside = self._home.path / "tmp" / f"batch-{names.id_of(name)}"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        model = self._model(job)
        deployed = DeployedModel(id="batch")
        deployed.dedicated_resources.machine_spec = job.dedicated_resources.machine_spec
        plan = Plan(name, deployed, model, self._home.logs / names.id_of(name))
        deployment = Deployment(plan, self._runner, self._client)
        replicas = _replicas(job)
        try:
            files = list(self._input_files(job))
            deployment.scale(replicas)
            timeout = seconds(model.container_spec, "deployment_timeout") or _DEPLOYMENT_TIMEOUT
            deployment.wait_until_ready(timeout, lambda: order.stopped)
            attempt = _Attempt(job, deployment, files, aside, order, self._fetch, self._note)
            attempt.run(replicas)
            if not order.stopped:
                self._publish(job, model, attempt, aside, replicas)
        except exceptions.GoogleAPICallError as error:
            self._fail(name, error.message, status_of(error).code)
        finally:
            deployment.close()
            shutil.rmtree(aside, ignore_errors=True)

    def _model(self, job: BatchPredictionJob) -> Model:
        if job.model:
            return self._models.resolve(f"{job.model.partition('@')[0]}@{job.model_version_id}")
        unmanaged = job.unmanaged_container_model
        return Model(
            display_name=job.display_name,
            artifact_uri=unmanaged.artifact_uri,
            container_spec=unmanaged.container_spec,
        )

    def _input_files(self, job: BatchPredictionJob) -> Iterator[tuple[str, Path]]:
        """URIs and files of the input; wildcards are those of gsutil."""
        for uri in job.input_config.gcs_source.uris:
            bucket, pattern = split(uri)
            if not _WILDCARDS & set(pattern):
                yield uri, self._buckets.path(uri)
                continue
            found = [entry for entry in self._matching(bucket, pattern) if not entry.name.endswith("/")]
            if not found:
                raise exceptions.NotFound(f"input_config.gcs_source: there is no file {uri}.")
            yield from ((f"{SCHEME}{bucket}/{entry.name}", entry.path) for entry in found)

    def _matching(self, bucket: str, pattern: str) -> Iterator[Object]:
        prefix = pattern[: min(pattern.find(sign) for sign in _WILDCARDS & set(pattern))]
        page = Page([], [], "")
        while True:
            page = self._buckets.list(bucket, prefix, matching=glob_pattern(pattern), after=page.next_token)
            yield from page.objects
            if not page.next_token:
                return

    def _fetch(self, uri: str) -> bytes:
        try:
            return self._buckets.path(uri).read_bytes()
        except exceptions.GoogleAPICallError as error:
            raise ValueError(error.message) from None

    def _note(self, name: str, stats: CompletionStats) -> None:
        def change(job: BatchPredictionJob) -> None:
            job.completion_stats = stats

        self._store.update(BatchPredictionJob, name, change)

    def _publish(self, job: BatchPredictionJob, model: Model, attempt: _Attempt, aside: Path, replicas: int) -> None:
        prefix = job.output_config.gcs_destination.output_uri_prefix.rstrip("/")
        self._buckets.ensure(split(prefix)[0])
        uri = f"{prefix}/{_folder_name(job, model)}"
        folder = self._buckets.path(uri)
        folder.mkdir(parents=True, exist_ok=True)
        for file in sorted(aside.iterdir()):
            os.replace(file, folder / file.name)
        stats = attempt.stats(ended=True)

        def change(job: BatchPredictionJob) -> None:
            job.output_info = BatchPredictionJob.OutputInfo(gcs_output_directory=uri)
            job.completion_stats = stats
            job.partial_failures = attempt.partial_failures
            job.resources_consumed.replica_hours = replicas * (time.time() - seconds(job, "start_time")) / 3600

        with self._store.write():
            self._store.update(BatchPredictionJob, job.name, change)
            if stats.successful_count or not (stats.failed_count or attempt.partial_failures):
                finish(self._store, BatchPredictionJob, job.name, JobState.JOB_STATE_SUCCEEDED)
            else:
                message = f"No instance was predicted: {attempt.first_problem}. For all problems see {uri}."
                self._fail(job.name, message, code_pb2.INVALID_ARGUMENT)

    def _fail(self, name: str, message: str, code: int = code_pb2.INTERNAL) -> None:
        error = status_pb2.Status(code=code, message=message)
        finish(self._store, BatchPredictionJob, name, JobState.JOB_STATE_FAILED, error)


@dataclass(frozen=True)
class _Row:
    """An instance on its way: what the model is sent, and what stands for it in the output."""

    sent: Any
    shown: dict[str, Any]


class _Attempt:
    """One attempt at a job, by as many threads as there are servers, each with a result file of its own.

    Args:
        files: URI and file of each part of the input.
        folder: for the result files.
        order: stop when it says so.
        fetch: reads a `gs://` URI.
        note: records progress.
    """

    def __init__(
        self,
        job: BatchPredictionJob,
        deployment: Deployment,
        files: Sequence[tuple[str, Path]],
        folder: Path,
        order: Order,
        fetch: instances.Fetch,
        note: Callable[[str, CompletionStats], None],
    ) -> None:
        self._job = job
        self._deployment = deployment
        self._files = files
        self._folder = folder
        self._order = order
        self._fetch = fetch
        self._note = note
        self._format = job.input_config.instances_format
        self._conversion = _conversion(job)
        parameters = BatchPredictionJob.pb(job).model_parameters
        self._parameters = plain(parameters) if parameters.WhichOneof("kind") else None
        self._batch_size = job.manual_batch_tuning_parameters.batch_size or _BATCH_SIZE
        self._lock = threading.Lock()
        self._rows = self._read()
        self._errors: TextIO
        self._broken = False
        self._succeeded = self._failed = 0
        self._noted = time.monotonic()
        self.partial_failures: list[status_pb2.Status] = []
        self.first_problem = ""

    def run(self, replicas: int) -> None:
        """Predict all instances, or stop when told to.

        Raises:
            localvertex.services.serving.NotReadyError: there is no server any more that could be asked.
        """
        with ExitStack() as stack, ThreadPoolExecutor(replicas) as pool:
            self._errors = stack.enter_context(self._file("prediction.errors_stats", 0, 1))
            results = [
                stack.enter_context(self._file("prediction.results", shard, replicas)) for shard in range(replicas)
            ]
            working = {pool.submit(self._work, file) for file in results}
            try:
                while working and not self._order.stopped:
                    done, working = wait(working, _POLL_SECONDS, return_when=FIRST_COMPLETED)
                    for future in done:
                        future.result()
            finally:  # what the servers are still working on is not waited for
                self._deployment.close()

    def stats(self, *, ended: bool) -> CompletionStats:
        """How many instances were done; the number of those still to come is not known before the end."""
        return CompletionStats(
            successful_count=self._succeeded, failed_count=self._failed, incomplete_count=0 if ended else -1
        )

    def _file(self, name: str, shard: int, shards: int) -> TextIO:
        return (self._folder / f"{name}-{shard:05}-of-{shards:05}").open("w")

    def _work(self, results: TextIO) -> None:
        try:
            while not (self._order.stopped or self._broken) and (batch := self._next_batch()):
                self._predict(batch, results)
                self._note_progress()
        except BaseException:
            self._broken = True
            raise

    def _next_batch(self) -> list[_Row]:
        with self._lock:
            return list(islice(self._rows, self._batch_size))

    def _read(self) -> Iterator[_Row]:
        for uri, file in self._files:
            try:
                for found in instances.read(file, self._format, self._fetch):
                    if isinstance(found, Rejected):
                        self._reject({"instance": found.text}, code_pb2.INVALID_ARGUMENT, found.problem)
                        continue
                    try:
                        yield _Row(sent=self._conversion.sent(found), shown=self._conversion.shown(found))
                    except InstanceError as error:
                        self._reject({"instance": found}, code_pb2.INVALID_ARGUMENT, str(error))
            except UnreadableError as error:
                self._report(f"{uri} cannot be read: {error}.", code_pb2.INVALID_ARGUMENT)

    def _predict(self, batch: Sequence[_Row], results: TextIO) -> None:
        try:
            predictions = self._ask(batch)
        except NotReadyError:
            raise
        except exceptions.GoogleAPICallError as error:
            if len(batch) > 1:  # which of them is at fault?
                for row in batch:
                    if not self._order.stopped:
                        self._predict([row], results)
                return
            with self._lock:
                self._reject(batch[0].shown, status_of(error).code, error.message)
            return
        for row, prediction in zip(batch, predictions, strict=True):
            results.write(_line({**row.shown, "prediction": prediction}))
        with self._lock:
            self._succeeded += len(batch)

    def _ask(self, batch: Sequence[_Row]) -> list[Any]:
        body = {"instances": [row.sent for row in batch]}
        if self._parameters is not None:
            body["parameters"] = self._parameters
        answer = self._deployment.ask(json.dumps(body).encode(), "application/json", _PATIENCE_SECONDS)
        if not answer.is_success:
            raise error_of(answer)
        try:
            predictions = answer.json()["predictions"]
        except (ValueError, KeyError, TypeError):
            predictions = None
        if not isinstance(predictions, list) or len(predictions) != len(batch):
            raise exceptions.InternalServerError(
                "The prediction container's answer is not a JSON object with a list of predictions, one for each of "
                f"{len(batch)} instances: {answer.text[:200]!r}."
            )
        return predictions

    def _reject(self, shown: dict[str, Any], code: int, problem: str) -> None:
        self._failed += 1
        self.first_problem = self.first_problem or problem.rstrip(".")
        self._errors.write(_line({**shown, "error": {"code": code, "message": problem}}))

    def _report(self, problem: str, code: int) -> None:
        self.first_problem = self.first_problem or problem.rstrip(".")
        if len(self.partial_failures) < _MOST_PARTIAL_FAILURES:
            self.partial_failures.append(status_pb2.Status(code=code, message=problem))

    def _note_progress(self) -> None:
        with self._lock:
            if time.monotonic() < self._noted + _PROGRESS_SECONDS:
                return
            self._noted = time.monotonic()
            stats = self.stats(ended=False)
        self._note(self._job.name, stats)


def check(job: BatchPredictionJob) -> None:
    """Refuse a job that cannot run.

    Raises:
        google.api_core.exceptions.InvalidArgument: naming the field that is wrong.
        google.api_core.exceptions.MethodNotImplemented: what Vertex AI has and localvertex has not.
    """
    for problem in _unsupported(job):
        raise exceptions.MethodNotImplemented(f"batch_prediction_job.{problem} is not supported by localvertex.")
    for problem in _problems(job):
        raise exceptions.InvalidArgument(f"batch_prediction_job.{problem}")
    machines.check(
        job.dedicated_resources.machine_spec, "batch_prediction_job.dedicated_resources.machine_spec", serving=True
    )


def _unsupported(job: BatchPredictionJob) -> Iterator[str]:
    for name, fields in (
        ("input_config", ("bigquery_source", "vertex_multimodal_dataset_source")),
        ("output_config", ("bigquery_destination", "vertex_multimodal_dataset_destination")),
    ):
        yield from (f"{name}.{field}" for field in fields if field in getattr(job, name))
    if job.output_config.predictions_format == "csv":
        yield "output_config.predictions_format csv"
    if job.generate_explanation:
        yield "generate_explanation"
    if job.model.startswith("publishers/") or "/publishers/" in job.model:
        yield "model of a publisher"
    shape = job.instance_config
    if job.input_config.instances_format.startswith("tf-record") and (
        shape.key_field or shape.included_fields or shape.excluded_fields
    ):
        yield "instance_config with fields of a TFRecord"


def _problems(job: BatchPredictionJob) -> Iterator[str]:
    labels.check(job, "batch_prediction_job")
    if not job.display_name:
        yield "display_name is required."
    if bool(job.model) == bool("unmanaged_container_model" in job):
        yield "model: exactly one of model and unmanaged_container_model must be set."
    if not job.model and not job.unmanaged_container_model.container_spec.image_uri:
        yield "unmanaged_container_model.container_spec.image_uri is required."
    given = job.input_config.instances_format
    if given not in instances.FORMATS:
        yield f"input_config.instances_format must be one of {', '.join(instances.FORMATS)}, not {given!r}."
    if not job.input_config.gcs_source.uris:
        yield "input_config.gcs_source.uris must not be empty."
    for uri in job.input_config.gcs_source.uris:
        if not _is_object(uri):
            yield f"input_config.gcs_source.uris: {uri!r} is not of the form gs://bucket/path."
    if job.output_config.predictions_format != "jsonl":
        yield f"output_config.predictions_format must be jsonl, not {job.output_config.predictions_format!r}."
    prefix = job.output_config.gcs_destination.output_uri_prefix
    if not prefix.startswith(SCHEME) or not prefix.removeprefix(SCHEME).strip("/"):
        yield f"output_config.gcs_destination.output_uri_prefix: {prefix!r} is not of the form gs://bucket/path."
    yield from _problems_of_shape(job)
    resources = job.dedicated_resources
    if not resources.machine_spec.machine_type:
        yield "dedicated_resources.machine_spec.machine_type is required, as custom models have no automatic resources."
    if resources.max_replica_count and resources.starting_replica_count > resources.max_replica_count:
        yield "dedicated_resources.starting_replica_count must not be greater than max_replica_count."


def _problems_of_shape(job: BatchPredictionJob) -> Iterator[str]:
    shape, given = job.instance_config, job.input_config.instances_format
    if shape.instance_type not in ("", instances.OBJECT, instances.ARRAY):
        yield f"instance_config.instance_type must be object or array, not {shape.instance_type!r}."
    if shape.instance_type and given != "jsonl":
        yield f"instance_config.instance_type does not apply to {given}."
    if shape.included_fields and shape.excluded_fields:
        yield "instance_config: included_fields and excluded_fields cannot both be set."
    if (shape.included_fields or shape.excluded_fields) and given != "jsonl":
        yield f"instance_config.included_fields and excluded_fields do not apply to {given}."
    if shape.key_field and given not in ("jsonl", "csv"):
        yield f"instance_config.key_field does not apply to {given}."


def _conversion(job: BatchPredictionJob) -> Conversion:
    shape = job.instance_config
    return Conversion(
        type=shape.instance_type,
        key=shape.key_field,
        included=tuple(shape.included_fields),
        excluded=tuple(shape.excluded_fields),
        table=job.input_config.instances_format == "csv",
    )


def _replicas(job: BatchPredictionJob) -> int:
    resources = job.dedicated_resources
    return int(max(1, min(resources.starting_replica_count, resources.max_replica_count or math.inf)))


def _folder_name(job: BatchPredictionJob, model: Model) -> str:
    created = BatchPredictionJob.pb(job).create_time.ToDatetime(tzinfo=UTC)
    stamp = created.strftime("%Y_%m_%dT%H_%M_%S_") + f"{created.microsecond // 1000:03}Z"
    return f"prediction-{model.display_name.replace('/', '_')}-{stamp}"


def _is_object(uri: str) -> bool:
    bucket, _, name = uri.removeprefix(SCHEME).partition("/")
    return uri.startswith(SCHEME) and bool(bucket and name.strip("/"))


def _line(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False) + "\n"
