"""Requests that endpoints log: what Vertex AI puts into a BigQuery table, kept in files that stay within a bound.

Source: https://cloud.google.com/vertex-ai/docs/predictions/online-prediction-logging#request-response-logs
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import DeployedModel, Endpoint

from localvertex.home import Home

MOST_BYTES = 32 << 20
"""Of a table: the older half goes when the newer one is full."""

COLUMNS = (
    ("endpoint", "STRING", "NULLABLE"),
    ("deployed_model_id", "STRING", "NULLABLE"),
    ("logging_time", "TIMESTAMP", "NULLABLE"),
    ("request_id", "NUMERIC", "NULLABLE"),
    ("request_payload", "STRING", "REPEATED"),
    ("response_payload", "STRING", "REPEATED"),
)
"""Name, type and mode of each column."""

_TABLE = re.compile(r"bq://([a-z0-9:.-]+)\.([A-Za-z0-9_]+)\.([A-Za-z0-9_-]+)")


class RequestLog:
    """The tables of logged requests.

    Args:
        home: its folder `bigquery` holds them.
    """

    def __init__(self, home: Home) -> None:
        self._folder = home.path / "bigquery"
        self._lock = threading.Lock()

    def note(self, endpoint: Endpoint, deployed: DeployedModel, instances: Sequence[Any], predictions: Any) -> None:
        """Logs a request, if its endpoint logs requests and it is among those drawn.

        Args:
            endpoint: that was asked.
            deployed: that answered.
            instances: what was asked, as JSON values.
            predictions: what was answered, as JSON values.
        """
        config = endpoint.predict_request_response_logging_config
        if not config.enabled or random.random() >= config.sampling_rate:
            return
        named = _TABLE.fullmatch(config.bigquery_destination.output_uri)
        if named is None:
            return
        row = {
            "endpoint": endpoint.name,
            "deployed_model_id": deployed.id,
            "logging_time": time.time(),
            "request_id": random.getrandbits(63),
            "request_payload": [json.dumps(instance) for instance in instances],
            "response_payload": [json.dumps(prediction) for prediction in predictions],
        }
        self._append(self._file(*named.groups()), json.dumps(row) + "\n")

    def rows(
        self, project: str, dataset: str, table: str, start: int = 0, size: int | None = None
    ) -> list[Mapping[str, Any]]:
        """A table's rows, the oldest first.

        Args:
            project: its project.
            dataset: its dataset.
            table: its name.
            start: how many to leave out.
            size: how many, at most; None: all.

        Raises:
            google.api_core.exceptions.NotFound: there is no such table.
        """
        lines = self._lines(project, dataset, table)
        return [json.loads(line) for line in lines[start : None if size is None else start + size]]

    def count(self, project: str, dataset: str, table: str) -> int:
        """How many rows a table has.

        Raises:
            google.api_core.exceptions.NotFound: there is no such table.
        """
        return len(self._lines(project, dataset, table))

    def _lines(self, project: str, dataset: str, table: str) -> list[str]:
        file = self._file(project, dataset, table)
        with self._lock:
            parts = [part.read_text(encoding="utf-8") for part in (_older(file), file) if part.is_file()]
        if not parts:
            raise exceptions.NotFound(f"Not found: Table {project}:{dataset}.{table}")
        # A line that a kill cut off was answered and not logged.
        return [line for part in parts for line in part.splitlines() if line.endswith("}")]

    def _append(self, file: Path, line: str) -> None:
        with self._lock:
            file.parent.mkdir(exist_ok=True, mode=0o700)
            if file.is_file() and file.stat().st_size + len(line) > MOST_BYTES // 2:
                file.replace(_older(file))
            with file.open("a", encoding="utf-8") as opened:
                opened.write(line)

    def _file(self, project: str, dataset: str, table: str) -> Path:
        return self._folder / f"{project.replace(':', '_')}.{dataset}.{table}.jsonl"


def _older(file: Path) -> Path:
    return file.with_suffix(".older.jsonl")
