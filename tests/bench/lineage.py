"""The console's lineage page with 1,000 boxes, in a store that holds the artifacts of a thousand runs besides.

Asked for until the first byte, and opened in headless Chromium until the graph is there and can be used.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from google.cloud.aiplatform_v1.types import Artifact, Event, Execution

from localvertex import daemon, graph, schemas
from localvertex.home import Home
from localvertex.names import parent
from localvertex.store import Store
from tests.bench.console import looked_at
from tests.bench.measurement import Measurement
from tests.bench.scale import fill

RUNS, NODES = 1_000, 1_000
MOST_SECONDS = 1.0


def measurements() -> Iterator[Measurement]:
    """Fills the store, in about half a minute on an idle core, then looks."""
    with TemporaryDirectory() as folder:
        home = Home(Path(folder, "state")).create()
        fill(home, RUNS)
        start = add_lineage(home, NODES)
        daemon.start(home)
        try:
            yield from looked_at(home, {f"lineage of {NODES:,} nodes": (f"lineage/{start}", MOST_SECONDS)})
        finally:
            daemon.stop(home)


def add_lineage(home: Home, nodes: int) -> str:
    """Artifacts and executions that all come from one artifact, no two of them alike; returns its name."""
    store = Store.at(home.database)
    metadata_store = schemas.default_store(parent(home.project_number, home.location))
    schemas.ensure_store(store, metadata_store)
    pick = random.Random(0)
    artifacts = [
        Artifact(
            name=f"{metadata_store}/artifacts/part-{number}",
            display_name=f"part {number}",
            schema_title="system.Dataset",
        )
        for number in range(nodes // 2)
    ]
    executions = [
        Execution(
            name=f"{metadata_store}/executions/step-{number}",
            display_name=f"step {number}",
            schema_title="system.ContainerExecution",
            state=Execution.State.COMPLETE,
        )
        for number in range(1, nodes - nodes // 2 + 1)
    ]
    edges = []
    for number, execution in enumerate(executions, 1):
        read = {pick.randrange(max(0, number - 12), min(number, len(artifacts))) for _ in range(2)}
        edges += [(execution.name, artifacts[each].name, 1) for each in read]
        if number < len(artifacts):
            edges.append((execution.name, artifacts[number].name, 2))
    store.create_all([*artifacts, *executions])
    with store.write() as connection:
        rows = [
            {
                "execution": execution,
                "artifact": artifact,
                "type": type_,
                "body": Event.serialize(Event(execution=execution, artifact=artifact, type_=type_)),
            }
            for execution, artifact, type_ in edges
        ]
        connection.execute(graph.events.insert(), rows)
    store.close()
    return str(artifacts[0].name)
