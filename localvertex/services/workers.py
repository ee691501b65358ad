"""The worker pools of a custom job as processes of this host: what each is told, how the job comes out."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import ContainerSpec, CustomJob, CustomJobSpec, PythonPackageSpec, WorkerPoolSpec
from google.protobuf import json_format

from localvertex import machines, names
from localvertex.services.supervision import Order
from localvertex.workloads import Runner, Running, Workload, WorkloadError, python_package

_POLL_SECONDS = 0.05
_SECONDS_TO_FOLLOW_THE_CHIEF = 10.0
_TF_ROLES = ("chief", "worker", "ps", "evaluator")
_OUTSIDE_THE_CLUSTER = "evaluator"
_MOST_PACKAGES = 100
_UNSUPPORTED = ("persistent_resource_id", "psc_interface_config")
_UNSUPPORTED_IN_A_POOL = ("nfs_mounts", "lustre_mounts")
_BY_A_SIGNAL = 128


class Ending(Enum):
    """How an attempt at a job ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    KILLED = "killed"
    """A signal ended a replica, as when memory runs out or a machine is lost."""
    TIMED_OUT = "timed out"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a job ended, and, if it failed, why."""

    ending: Ending
    reason: str = ""


@dataclass(frozen=True)
class Replica:
    """One replica of a worker pool; `address` is where the others reach it."""

    pool: int
    index: int
    spec: WorkerPoolSpec
    address: str

    @property
    def name(self) -> str:
        """As Vertex calls it: `workerpool0-0`."""
        return f"workerpool{self.pool}-{self.index}"


def check(spec: CustomJobSpec, field: str = "job_spec") -> None:
    """Refuse a job that cannot run.

    Raises:
        google.api_core.exceptions.InvalidArgument: naming the field that is wrong.
        google.api_core.exceptions.MethodNotImplemented: what Vertex AI has and localvertex has not.
    """
    if not spec.worker_pool_specs:
        raise exceptions.InvalidArgument(f"{field}.worker_pool_specs must not be empty.")
    if len(spec.worker_pool_specs) > len(_TF_ROLES):
        raise exceptions.InvalidArgument(f"{field}.worker_pool_specs: at most {len(_TF_ROLES)} pools are allowed.")
    for name in _UNSUPPORTED:
        if getattr(spec, name):
            raise exceptions.MethodNotImplemented(f"{field}.{name} is not supported by localvertex.")
    for number, pool in enumerate(spec.worker_pool_specs):
        where = f"{field}.worker_pool_specs[{number}]"
        for name in _UNSUPPORTED_IN_A_POOL:
            if getattr(pool, name):
                raise exceptions.MethodNotImplemented(f"{where}.{name} is not supported by localvertex.")
        if number and not pool.replica_count and not _has_program(pool):
            continue  # an empty pool keeps the place of a role that is not needed
        _check_program(pool, where)
        if not pool.machine_spec.machine_type:
            raise exceptions.InvalidArgument(f"{where}.machine_spec.machine_type is required.")
        if pool.replica_count < 1 or (number == 0 and pool.replica_count != 1):
            wanted = "1" if number == 0 else "at least 1"
            raise exceptions.InvalidArgument(f"{where}.replica_count must be {wanted}, not {pool.replica_count}.")
    machines.check_worker_pools(spec.worker_pool_specs, f"{field}.worker_pool_specs")
    if spec.base_output_directory.output_uri_prefix and not _is_bucket(spec.base_output_directory.output_uri_prefix):
        raise exceptions.InvalidArgument(f"{field}.base_output_directory.output_uri_prefix must be a gs:// URI.")


def program(pool: WorkerPoolSpec) -> ContainerSpec | PythonPackageSpec:
    """What a pool's replicas run; both kinds have `args` and `env`."""
    return pool.python_package_spec if "python_package_spec" in pool else pool.container_spec


def _has_program(pool: WorkerPoolSpec) -> bool:
    return "python_package_spec" in pool or "container_spec" in pool


def _check_program(pool: WorkerPoolSpec, where: str) -> None:
    if "python_package_spec" not in pool:
        if not pool.container_spec.image_uri:
            raise exceptions.InvalidArgument(f"{where}.container_spec.image_uri is required.")
        return
    package, where = pool.python_package_spec, f"{where}.python_package_spec"
    for name in ("executor_image_uri", "python_module"):
        if not getattr(package, name):
            raise exceptions.InvalidArgument(f"{where}.{name} is required.")
    if not 1 <= len(package.package_uris) <= _MOST_PACKAGES:
        raise exceptions.InvalidArgument(f"{where}.package_uris: name between 1 and {_MOST_PACKAGES} packages.")
    for uri in package.package_uris:
        if not _is_bucket(uri):
            raise exceptions.InvalidArgument(f"{where}.package_uris: {uri} is not a gs:// URI.")


def run(job: CustomJob, runner: Runner, *, gcs: Path, logs: Path, order: Order, deadline: float) -> Outcome:
    """Run all replicas of a job once.

    The job succeeds with its chief (`workerpool0-0`), and fails with any of its replicas.

    Args:
        gcs: the folder of the buckets.
        logs: folder for the log of each replica.
        order: stop when it says so.
        deadline: end the job at this time (seconds since the epoch).
    """
    if output := job.job_spec.base_output_directory.output_uri_prefix:
        # Libraries that make folders of objects, such as TensorFlow, expect the bucket to be there.
        (gcs / output.removeprefix("gs://").partition("/")[0]).mkdir(parents=True, exist_ok=True)
    replicas = list(_replicas(job.job_spec))
    running: list[Running] = []
    try:
        for replica in replicas:
            running.append(runner.start(_workload(job, replica, replicas, runner, gcs, logs)))
        return _watch(replicas, running, logs, order, deadline)
    except WorkloadError as error:
        return Outcome(Ending.FAILED, str(error))
    finally:
        for process in running:
            process.stop()


def _watch(
    replicas: Sequence[Replica], running: Sequence[Running], logs: Path, order: Order, deadline: float
) -> Outcome:
    chief_ended: float | None = None
    while True:
        codes = [process.wait(0) for process in running]
        for replica, code in zip(replicas, codes, strict=True):
            if code:
                ending = Ending.KILLED if code > _BY_A_SIGNAL else Ending.FAILED
                return Outcome(ending, _exit_message(replica, code, logs))
        if codes[0] is not None:
            # Parameter servers never end by themselves; other workers finish about when the chief does.
            chief_ended = chief_ended or time.monotonic()
            if None not in codes or time.monotonic() > chief_ended + _SECONDS_TO_FOLLOW_THE_CHIEF:
                return Outcome(Ending.SUCCEEDED)
        if time.time() > deadline:
            return Outcome(Ending.TIMED_OUT)
        if order.wait(_POLL_SECONDS):
            return Outcome(Ending.STOPPED)


def _exit_message(replica: Replica, code: int, logs: Path) -> str:
    log = logs / f"{replica.name}.log"
    last = last_lines(log, 1)
    return (
        f"The replica {replica.name} exited with a non-zero status of {code}. "
        f"To find out more about why your job exited please check the logs: {log}"
        + (f" (last line: {last})" if last else "")
    )


def last_lines(log: Path, count: int) -> str:
    """The last lines of a log file that are not blank; empty when there is no such file."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16384))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join([line.rstrip() for line in lines if line.strip()][-count:])


def _replicas(spec: CustomJobSpec) -> Iterator[Replica]:
    places = [
        (number, index, pool)
        for number, pool in enumerate(spec.worker_pool_specs)
        for index in range(pool.replica_count)
    ]
    for (number, index, pool), port in zip(places, free_ports(len(places)), strict=True):
        yield Replica(number, index, pool, f"127.0.0.1:{port}")


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _workload(
    job: CustomJob, replica: Replica, replicas: Sequence[Replica], runner: Runner, gcs: Path, logs: Path
) -> Workload:
    given = {variable.name: variable.value for variable in program(replica.spec).env}
    image, command = _command(replica.spec, runner, gcs)
    return Workload(
        id=f"{names.id_of(job.name)}-{replica.name}",
        image=image,
        command=command,
        args=tuple(program(replica.spec).args),
        env={**_environment(job, replica, replicas, given.get("CLOUD_ML_TRIAL_ID", "")), **given},
        log=logs / f"{replica.name}.log",
        limits=machines.limits(replica.spec.machine_spec),
    )


def _command(pool: WorkerPoolSpec, runner: Runner, gcs: Path) -> tuple[str, tuple[str, ...]]:
    """The image and the command of a pool's containers; a pre-built image's command installs the packages first."""
    if "python_package_spec" not in pool:
        return pool.container_spec.image_uri, tuple(pool.container_spec.command)
    package, image = pool.python_package_spec, pool.python_package_spec.executor_image_uri
    script, *files = (
        runner.path(path, image)
        for path in (Path(python_package.__file__), *(gcs / uri.removeprefix("gs://") for uri in package.package_uris))
    )
    return image, ("python", script, package.python_module, *files, "--")


def _environment(job: CustomJob, replica: Replica, replicas: Sequence[Replica], trial: str) -> dict[str, str]:
    """Vertex AI's variables.

    Sources: https://cloud.google.com/vertex-ai/docs/training/code-requirements#environment-variables,
    https://cloud.google.com/vertex-ai/docs/training/distributed-training#cluster-variables
    """
    environment = {
        "CLOUD_ML_PROJECT_ID": names.project_of(job.name),
        "CLOUD_ML_REGION": names.location_of(job.name),
        "CLOUD_ML_JOB_ID": names.id_of(job.name),
        "CLUSTER_SPEC": _cluster(job, replica, replicas, trial, lambda pool: f"workerpool{pool}"),
    }
    if len(replicas) > 1:
        environment["TF_CONFIG"] = _cluster(job, replica, replicas, trial, lambda pool: _TF_ROLES[pool])
    if tensorboard := job.job_spec.tensorboard:
        environment["AIP_TENSORBOARD_RESOURCE_NAME"] = tensorboard
    if experiment := names.id_of(job.job_spec.experiment):
        environment["AIP_EXPERIMENT_NAME"] = experiment
        if run := names.id_of(job.job_spec.experiment_run):
            environment["AIP_EXPERIMENT_RUN_NAME"] = run.removeprefix(f"{experiment}-")
    if base := job.job_spec.base_output_directory.output_uri_prefix:
        folder = "/".join(filter(None, (base.rstrip("/"), trial)))
        for variable, name in (
            ("MODEL_DIR", "model"),
            ("CHECKPOINT_DIR", "checkpoints"),
            ("TENSORBOARD_LOG_DIR", "logs"),
        ):
            environment[f"AIP_{variable}"] = f"{folder}/{name}/"
    return environment


def _cluster(
    job: CustomJob, replica: Replica, replicas: Sequence[Replica], trial: str, role: Callable[[int], str]
) -> str:
    cluster: dict[str, list[str]] = {}
    for other in replicas:
        if role(other.pool) != _OUTSIDE_THE_CLUSTER:
            cluster.setdefault(role(other.pool), []).append(other.address)
    task = {"type": role(replica.pool), "index": replica.index, **({"trial": trial} if trial else {})}
    spec = json_format.MessageToDict(CustomJobSpec.pb(job.job_spec), preserving_proto_field_name=True)
    return json.dumps({"cluster": cluster, "environment": "cloud", "task": task, "job": spec})


def _is_bucket(uri: str) -> bool:
    return uri.startswith("gs://") and ".." not in uri.split("/") and bool(uri[5:].strip("/"))
