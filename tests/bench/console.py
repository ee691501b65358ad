"""The console over much: home with 10,000 runs behind it, and the page of a run of 1,000 tasks.

Each is asked for until its first byte, and opened in headless Chromium until it can be used; without a Chromium, only
the former.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from google.cloud.aiplatform_v1.types import PipelineJob

from localvertex import daemon
from localvertex.console.sessions import Sessions, new_code
from localvertex.console.web import address
from localvertex.engine.journal import Journal, Record
from localvertex.engine.values import State
from localvertex.home import Home
from localvertex.names import parent
from localvertex.store import Store
from tests.bench import scale
from tests.bench.measurement import Measurement, at_most
from tests.localvertex.console.support import browser_path

RUNS, TASKS = 10_000, 1_000
ROUNDS = 5


def measurements() -> Iterator[Measurement]:
    """Fills a store, in about three minutes on an idle core, then looks."""
    with TemporaryDirectory() as folder:
        home = Home(Path(folder, "state")).create()
        scale.fill(home, RUNS)
        run = wide_run(home, TASKS)
        daemon.start(home)
        try:
            pages = {f"home with {RUNS:,} runs": ("", 0.2), f"a run of {TASKS:,} tasks": (run, 1.0)}
            yield from looked_at(home, pages)
        finally:
            daemon.stop(home)


def wide_run(home: Home, tasks: int) -> str:
    """Write a finished run whose tasks each wait for one or two of those shortly before; returns its resource name."""
    random = Random(1)
    name = f"{parent(home.project_number, home.location)}/pipelineJobs/wide"
    upstream = {
        f"task-{number}": sorted({f"task-{random.randrange(max(0, number - 30), number)}" for _ in range(2)})
        if number
        else []
        for number in range(tasks)
    }
    store = Store.at(home.database)
    store.create(
        PipelineJob(
            name=name,
            display_name="wide",
            state=4,
            pipeline_spec={
                "schemaVersion": "2.1.0",
                "pipelineInfo": {"name": "wide"},
                "root": {
                    "dag": {
                        "tasks": {
                            task: {
                                "taskInfo": {"name": task},
                                "componentRef": {"name": "comp"},
                                "dependentTasks": before,
                                "cachingOptions": {"enableCache": True},
                            }
                            for task, before in upstream.items()
                        }
                    }
                },
                "components": {"comp": {"executorLabel": "exec"}},
                "deploymentSpec": {"executors": {"exec": {"container": {"image": "alpine:3", "command": ["true"]}}}},
            },
        )
    )
    moment = time.time() - tasks
    records = [Record(name, "", "", "wide", 1, State.SUCCEEDED, created=moment, started=moment, ended=moment + tasks)]
    for number, task in enumerate(upstream):
        begun = moment + number
        records.append(
            Record(name, task, "", task, number + 2, State.SUCCEEDED, 0, begun, begun, begun + 1, fingerprint="{}")
        )
    Journal(store).put(records)
    store.close()
    return name


def looked_at(home: Home, pages: dict[str, tuple[str, float]]) -> Iterator[Measurement]:
    """Time to the first byte and until a page can be used, each over the seconds that it may take.

    Args:
        home: of a running server.
        pages: path and seconds by what they are.
    """
    running = daemon.find(home)
    assert running is not None
    sessions = Sessions(home)
    cookie = sessions.open(new_code(home))
    for name, (path, bound) in pages.items():
        seconds = min(_first_byte(running.port, path, f"{sessions.cookie}={cookie}") for _ in range(ROUNDS))
        yield at_most(f"console: {name}, first byte / {bound:g} s", seconds / bound, 1, f"{seconds * 1000:.0f} ms")
    executable = browser_path()
    if executable is None:
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        context = browser.new_context()
        context.add_cookies([{"name": sessions.cookie, "value": cookie, "domain": "127.0.0.1", "path": "/console/"}])
        for name, (path, bound) in pages.items():
            url = f"http://127.0.0.1:{running.port}{address(path)}"
            seconds = min(_usable(context, url) for _ in range(ROUNDS))
            yield at_most(f"console: {name}, usable / {bound:g} s", seconds / bound, 1, f"{seconds * 1000:.0f} ms")
        browser.close()


def _first_byte(port: int, path: str, cookie: str) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.connect()
    started = time.perf_counter()
    connection.request("GET", address(path), headers={"Cookie": cookie})
    response = connection.getresponse()
    response.read(1)
    seconds = time.perf_counter() - started
    if response.status != 200:
        raise RuntimeError(f"{path}: {response.status}")
    response.read()
    connection.close()
    return seconds


def _usable(context: Any, url: str) -> float:
    """Seconds until all of a page is there, its scripts have run and it has been drawn."""
    page = context.new_page()
    started = time.perf_counter()
    page.goto(url, wait_until="load")
    page.evaluate("() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    seconds = time.perf_counter() - started
    page.close()
    return seconds
