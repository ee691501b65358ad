"""Runs workloads as containers of a Docker engine, each labelled so that none can get lost.

Containers share the host's network: localvertex listens on the loopback interface alone, replicas of a job reach each
other there, and a server that only a container could reach would need a port that others can reach too.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import psutil

from localvertex.workloads import Running, Workload, WorkloadError
from localvertex.workloads.process import CERTIFICATES, MARK, PROXIES, ProcessRunner
from localvertex.workloads.table import ImageTable

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container
    from docker.models.images import Image
    from docker.types import Mount

HOME_LABEL, WORKLOAD_LABEL = "localvertex.home", "localvertex.workload"
BUCKETS = "/gcs"
METRICS = "CLOUD_ML_HP_METRIC_FILE"
_METRICS_FOLDER = "/var/hypertune"
_OWN = "/run/localvertex"
_WORKLOADS = Path(__file__).parent
# Above the time that a busy engine takes to make or remove a container.
_PATIENCE_SECONDS = 300
_ENGINE_GONE = 137

log = logging.getLogger(__name__)


class _Home(Protocol):
    @property
    def path(self) -> Path: ...
    @property
    def gcs(self) -> Path: ...
    @property
    def keys(self) -> Path: ...


class DockerRunner:
    """Starts each workload as a container of its image.

    Images that Google publishes and that the engine does not have run as processes that stand in for them.

    Args:
        home: the state folder; its absolute path is part of the label, so that servers do not touch each other's.
        table: how images are made that the engine does not have.
        environment: variables every workload gets, such as the redirect of API calls; files of the state folder that
            they name are mounted.

    Raises:
        WorkloadError: no engine answers.
    """

    def __init__(self, home: _Home, table: ImageTable, environment: Mapping[str, str]) -> None:
        self.table = table
        self._home = home.path.resolve()
        self._gcs = home.gcs.resolve()
        self._places = {home.gcs: BUCKETS, self._gcs: BUCKETS, _WORKLOADS: f"{_OWN}/workloads"}
        self._processes = ProcessRunner(home, table, environment)
        self._engine = _engine()
        self._cores = float(self._engine.info()["NCPU"])
        self._environment, self._files = _mounted(environment, home.keys.resolve())

    def start(self, workload: Workload) -> Running:
        """Start a workload.

        Raises:
            WorkloadError: the engine does not have its image, or cannot start it.
        """
        image = self._image(workload.image)
        workload.log.parent.mkdir(parents=True, exist_ok=True)
        workload.log.touch()
        if image is None:
            with workload.log.open("a") as told:
                print(f"localvertex: the Docker engine has no {workload.image}; a process stands in for it", file=told)
            return self._processes.start(workload)
        from docker.errors import DockerException

        container = None
        try:
            container = self._engine.containers.create(image, **self._options(workload, image))
            # Attached before it is started, so that nothing it says is missed.
            output = container.attach(stdout=True, stderr=True, stream=True, logs=False)
            container.start()
        except DockerException as error:
            if container is not None:
                _remove(container)
            raise WorkloadError(f"Image {workload.image}: cannot be run: {_reason(error)}") from error
        return RunningContainer(container, output, workload.log)

    def path(self, path: Path, image: str) -> str:
        """Under `/gcs` for what is in a bucket, as on Vertex AI."""
        if self._image(image) is None:
            return self._processes.path(path, image)
        for folder, target in self._places.items():
            if path.is_relative_to(folder):
                return str(target / path.relative_to(folder))
        return str(path)

    def sweep(self) -> int:
        """Remove the containers that an earlier server, now dead, left behind; returns how many there were."""
        left = self._engine.containers.list(all=True, filters={"label": f"{HOME_LABEL}={self._home}"})
        for container in left:
            _remove(container)
        return len(left) + self._processes.sweep()

    def _image(self, name: str) -> Image | None:
        """The engine's image of that name; None for one that a process stands in for."""
        from docker.errors import APIError, ImageNotFound

        try:
            return self._engine.images.get(name)
        except ImageNotFound as error:
            if self.table.is_published(name):
                return None
            build = self.table.entry(name).build
            advice = f"make it: {build}" if build else f"fetch it: docker pull {name}"
            raise WorkloadError(f"Image {name}: the Docker engine does not have it; {advice}") from error
        except APIError as error:
            raise WorkloadError(f"Image {name}: {_reason(error)}") from error

    def _options(self, workload: Workload, image: Image) -> dict[str, Any]:
        limits = workload.limits
        options: dict[str, Any] = {
            "environment": self._variables(workload, image),
            "mounts": list(self._mounts(workload)),
            "labels": {HOME_LABEL: str(self._home), WORKLOAD_LABEL: workload.id},
            "network_mode": "host",
            # What is in the buckets belongs to who runs localvertex, whichever user an image was made for.
            "user": f"{os.getuid()}:{os.getgid()}",
            # A program alone in its container heeds no SIGTERM unless it says so; below an init it does.
            "init": True,
            # What it prints is read as it comes, and kept in the task's log.
            "log_config": {"Type": "none"},
        }
        if workload.command:
            options["entrypoint"] = list(workload.command)
        if workload.args:
            options["command"] = list(workload.args)
        if limits.cpus:
            options["nano_cpus"] = int(min(limits.cpus, self._cores) * 1e9)
        if limits.memory:
            options["mem_limit"] = limits.memory
        return options

    def _mounts(self, workload: Workload) -> Iterator[Mount]:
        from docker.types import Mount

        yield Mount(BUCKETS, str(self._gcs), type="bind")
        # A process that stands in for a launcher names files as this host does to the containers it asks for.
        yield Mount(str(self._gcs), str(self._gcs), type="bind")
        yield Mount(f"{_OWN}/workloads", str(_WORKLOADS), type="bind", read_only=True)
        for source, target in self._files.items():
            yield Mount(target, source, type="bind", read_only=True)
        if METRICS in workload.env:
            yield Mount(_METRICS_FOLDER, str(Path(workload.env[METRICS]).parent), type="bind")

    def _variables(self, workload: Workload, image: Image) -> dict[str, str]:
        own = dict(variable.partition("=")[::2] for variable in image.attrs["Config"].get("Env") or ())
        variables = {
            **({} if os.getuid() == 0 else {"HOME": "/tmp"}),
            **self._environment,
            "PYTHONUNBUFFERED": "1",
            # Servers in images listen to all interfaces, since they have a network of their own elsewhere.
            "UVICORN_HOST": "127.0.0.1",
            "PIP_TARGET": "/tmp/packages",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "LOCALVERTEX_GCS_MOUNT": BUCKETS,
            "LOCALVERTEX_OUTSIDE": json.dumps({name: None for name in (*PROXIES, *CERTIFICATES)}),
            **workload.env,
            MARK: f"{self._home}:{workload.id}",
        }
        if METRICS in workload.env:
            variables[METRICS] = f"{_METRICS_FOLDER}/{Path(workload.env[METRICS]).name}"
        paths = [f"{_OWN}/workloads/hook", "/tmp/packages", variables.get("PYTHONPATH", own.get("PYTHONPATH", ""))]
        variables["PYTHONPATH"] = ":".join(filter(None, paths))
        return variables


class RunningContainer:
    """A container, its output copied to the log by a thread of its own; removed when it has ended.

    Args:
        container: just started.
        output: what it prints, in pieces.
        file: the log to append to.
    """

    def __init__(self, container: Container, output: Iterator[bytes], file: Path) -> None:
        self._container = container
        self._ended = threading.Event()
        self._code = _ENGINE_GONE
        self.pid = _pid(container)
        threading.Thread(target=self._follow, args=(output, file), name="container", daemon=True).start()

    def wait(self, timeout: float | None = None) -> int | None:
        """Exit code of the main process (128 + signal if one ended it), or None if it runs on after `timeout` s."""
        return self._code if self._ended.wait(timeout) else None

    def stop(self, grace: float = 10) -> None:
        """End the container: SIGTERM, and after `grace` seconds SIGKILL; 0 is SIGKILL at once."""
        from docker.errors import APIError

        # It may have ended, or been removed, meanwhile.
        with contextlib.suppress(APIError):
            if not self._ended.is_set():
                if grace > 0:
                    self._container.stop(timeout=math.ceil(grace))
                else:
                    self._container.kill()
        self._ended.wait()

    def _follow(self, output: Iterator[bytes], file: Path) -> None:
        try:
            with file.open("ab", buffering=0) as told:
                for piece in output:
                    told.write(piece)
            self._code = int(self._container.wait(timeout=None)["StatusCode"])
        except Exception:
            log.exception("container %s", self._container.id)
        finally:
            _remove(self._container)
            self._ended.set()


def _engine() -> DockerClient:
    try:
        import docker
        from docker.errors import DockerException
    except ImportError as error:
        raise WorkloadError(
            "Containers need Docker's library for Python: pip install 'vertex-pipelines[docker]'"
        ) from error
    try:
        engine: DockerClient = docker.from_env(timeout=_PATIENCE_SECONDS)
        engine.ping()
    except DockerException as error:
        raise WorkloadError(
            f"no Docker engine answers ({_reason(error)}): start one (as root: dockerd), or name one with DOCKER_HOST"
        ) from error
    return engine


def _mounted(environment: Mapping[str, str], keys: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Variables as containers see them, and the files that these name, by where containers find them."""
    variables, files = dict(environment), {}
    # The state folder itself is not for containers.
    variables.pop("LOCALVERTEX_HOME", None)
    for name, value in variables.items():
        if value.startswith(f"{keys}/"):
            files[value] = variables[name] = f"{_OWN}/keys/{Path(value).name}"
    return variables, files


def _pid(container: Container) -> int:
    """Process id of a container's init; 0 where the engine is on another host, or it has ended already."""
    from docker.errors import APIError

    with contextlib.suppress(APIError, psutil.Error, OSError):
        container.reload()
        pid = int(container.attrs["State"]["Pid"])
        if pid and os.getsid(pid) == pid:
            return pid
    return 0


def _remove(container: Container) -> None:
    from docker.errors import APIError

    with contextlib.suppress(APIError):
        container.remove(force=True, v=True)


def _reason(error: Exception) -> str:
    return str(getattr(error, "explanation", None) or error).strip().rstrip(".")
