"""The server: the store, the runner, the services and the front ends, wired together and run."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import uvicorn
from anyio import to_thread

from localvertex import daemon
from localvertex.access import Access
from localvertex.api import bigquery_frontend, logging_frontend
from localvertex.api.grpc_frontend import serve_grpc
from localvertex.api.http_frontend import HttpFrontend
from localvertex.api.http_protocol import HttpProtocol
from localvertex.api.methods import MethodTable
from localvertex.api.own_frontend import OwnFrontend
from localvertex.api.rest_frontend import RestFrontend
from localvertex.api.storage_frontend import StorageFrontend
from localvertex.buckets import Buckets
from localvertex.console.frontend import ConsoleFrontend
from localvertex.console.pages import sections
from localvertex.console.services import ConsoleServices
from localvertex.console.sessions import Sessions
from localvertex.engine import Engine
from localvertex.home import Home
from localvertex.lineage import Lineage
from localvertex.proxy import Proxy
from localvertex.redirect import redirect_environment
from localvertex.services.batch_prediction import BatchPredictionService
from localvertex.services.endpoints import EndpointService
from localvertex.services.jobs import CustomJobs, JobService
from localvertex.services.metadata import MetadataService
from localvertex.services.models import ModelService
from localvertex.services.operations import Operations
from localvertex.services.pipelines import PipelineService
from localvertex.services.prediction import PredictionService
from localvertex.services.projects import Projects
from localvertex.services.request_log import RequestLog
from localvertex.services.schedules import ScheduleService
from localvertex.services.tensorboard import TensorboardService
from localvertex.services.training import TrainingPipelineService
from localvertex.services.tuning import TuningJobs
from localvertex.store import Store, StoreError
from localvertex.workloads import Runner, WorkloadError, runners
from localvertex.workloads.table import ImageTable, find_table

_HTTP_THREADS = 64
_GRACE_SECONDS = 3
_KEEP_ALIVE_SECONDS = 60
_GLANCE_SECONDS = 1

log = logging.getLogger(__name__)


class Services:
    """Everything behind the front ends, wired together.

    Args:
        home: the state folder.
        runner: starts what the services run.
    """

    def __init__(self, home: Home, runner: Runner) -> None:
        self.store = Store(home.store_url)
        self.buckets = Buckets(home, self.store)
        self.projects = Projects(self.store, home)
        self._runner = runner
        self._operations = operations = Operations(self.store)
        custom = CustomJobs(self.store, home, self._runner)
        jobs = JobService(self.store, operations, custom, TuningJobs(self.store, home, custom))
        models = ModelService(self.store, operations, self.buckets)
        training = TrainingPipelineService(self.store, operations, custom, models)
        endpoints = EndpointService(self.store, home, operations, self._runner, models)
        batches = BatchPredictionService(self.store, home, self.buckets, operations, self._runner, models)
        engine = Engine(self.store, home, self.buckets, self._runner, Lineage(self.store, home))
        self.requests = RequestLog(home)
        self.journal = engine.journal
        prediction = PredictionService(endpoints, self.requests)
        pipelines = PipelineService(self.store, home, operations, engine)
        schedules = ScheduleService(self.store, operations, pipelines)
        metadata = MetadataService(self.store, home, operations)
        tensorboards = TensorboardService(self.store, operations)
        self.console = ConsoleServices(
            home,
            self.store,
            self.buckets,
            engine=engine,
            pipelines=pipelines,
            schedules=schedules,
            jobs=jobs,
            models=models,
            endpoints=endpoints,
            prediction=prediction,
            batches=batches,
            metadata=metadata,
            tensorboards=tensorboards,
        )
        self.api = [
            self.projects,
            operations,
            metadata,
            tensorboards,
            jobs,
            batches,
            models,
            endpoints,
            prediction,
            pipelines,
            training,
            schedules,
        ]
        # Runs come after what their tasks ask for, and schedules after the runs there are.
        self._workers: list[_Worker] = [endpoints, jobs, batches, training, engine, schedules]

    def resume(self) -> None:
        """Take up what an earlier server left: end its processes, then go on with its work."""
        if swept := self._runner.sweep():
            log.info("ended %d processes or containers that an earlier server had left", swept)
        self._operations.resume()
        for worker in self._workers:
            worker.resume()

    def close(self) -> None:
        """Stop working; what is under way is taken up at the next start."""
        for worker in reversed(self._workers):
            worker.close()
        self.store.close()


class _Worker(Protocol):
    """What works on its own, between calls."""

    def resume(self) -> None: ...

    def close(self) -> None: ...


def serve(home: Home, port: int) -> None:
    """Serve a state folder until SIGTERM or SIGINT.

    Args:
        port: of 127.0.0.1 for clients, 0 for any free one.

    Raises:
        localvertex.daemon.DaemonError: the folder has a server already, or the port is taken.
    """
    home.create()
    taken = daemon.take(home)
    listening = daemon.listen(home, port)
    runner = _runner(home, listening.getsockname()[1])
    asyncio.run(_serve(home, runner, listening, taken))


def _runner(home: Home, port: int) -> Runner:
    try:
        name = runners.wanted(os.environ)
        runner = runners.make(name, home, ImageTable.load(home), redirect_environment(home, port))
    except WorkloadError as error:
        raise daemon.DaemonError(str(error)) from error
    runners.take_over(home, name)
    return runner


def _services(home: Home, runner: Runner) -> Services:
    try:
        return Services(home, runner)
    except StoreError as error:
        raise daemon.DaemonError(str(error)) from error


def http_frontend(
    home: Home, services: Services, access: Access, table: MethodTable, storage: StorageFrontend, own: OwnFrontend
) -> HttpFrontend:
    """All that is answered over HTTP.

    Args:
        home: the state folder.
        services: what answers.
        access: verifies each call.
        table: Vertex AI's methods.
        storage: the Cloud Storage API.
        own: what Vertex AI has no calls for.
    """
    console = ConsoleFrontend(Sessions(home), sections(services.console), home.server_log)
    others = {
        logging_frontend.HOST: logging_frontend.LoggingFrontend(home, services.journal).answer,
        bigquery_frontend.HOST: bigquery_frontend.BigQueryFrontend(services.requests).answer,
    }
    return HttpFrontend(access, RestFrontend(table), storage, own, console, others)


async def _serve(home: Home, runner: Runner, listening: socket.socket, taken: int) -> None:
    port = listening.getsockname()[1]
    access = Access(home)
    services = _services(home, runner)
    table = MethodTable(services.api, services.projects.number_of)
    storage = StorageFrontend(services.buckets, services.projects)
    # Connections made from here on wait in the queue until what was left unfinished is in order.
    services.resume()
    grpc_server, grpc_port = serve_grpc(table, access.verify)
    http = _http_server(http_frontend(home, services, access, table, storage, OwnFrontend(services.store)))
    with socket.socket(proto=socket.IPPROTO_TCP) as inner:
        inner.bind(("127.0.0.1", 0))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, http.end)
        serving = asyncio.create_task(http.serve([inner]))
        proxy = Proxy(access.server_tls(), grpc_port, inner.getsockname()[1])
        front = await proxy.start(listening)
        gc.freeze()
        gc.enable()
        daemon.announce(home, port, find_table(home), runners.wanted(os.environ))
        log.info("ready on 127.0.0.1:%d", port)
        watching = asyncio.create_task(_end_with_folder(home, taken, http))
        await serving
        watching.cancel()
        front.close()
        await proxy.close()
    grpc_server.stop(_GRACE_SECONDS).wait()
    services.close()
    log.info("ended")


async def _end_with_folder(home: Home, taken: int, http: _HttpServer) -> None:
    while daemon.is_taken(home, taken):
        await asyncio.sleep(_GLANCE_SECONDS)
    log.warning("%s is gone, and so is what there was to serve", home.path)
    http.end()


class _HttpServer(uvicorn.Server):
    """Leaves signals to its owner; by its own handling the process would end before it has cleaned up."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def end(self) -> None:
        self.should_exit = True


def _http_server(application: HttpFrontend) -> _HttpServer:
    to_thread.current_default_thread_limiter().total_tokens = _HTTP_THREADS
    config = uvicorn.Config(
        application,
        http=HttpProtocol,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    return _HttpServer(config)
