"""Requests: what an endpoint was asked and answered, from its log, and the statistics of what its model was trained on.

Vertex AI logs a share of the requests into a BigQuery table that the endpoint names. The latest are written as JSON
lines, an instance with its prediction a line, as the skew stage reads them; beside them the `schema.json` that export
put into the model. An endpoint that logs nothing is none to be alarmed about: then that is said, and all is empty.

Source: cloud.google.com/vertex-ai/docs/predictions/online-prediction-logging
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from images import executor
from images.executor import ExecutorOutput, UserError
from images.launcher.endpoints import Endpoint, champion
from images.launcher.registry import Registry
from images.launcher.rest import ServiceError, Vertex
from images.launcher.snapshot import STORAGE

BIGQUERY = "https://bigquery.googleapis.com/bigquery/v2"
SCHEMA = "assets.extra/schema.json"
MOST_BYTES = 32 << 20
"""Of all requests together: pictures are large."""

_REQUEST, _RESPONSE = 4, 5  # the columns `request_payload` and `response_payload`
_ROWS = 100  # a call: of the largest pictures 150 MB
_TABLE = re.compile(r"bq://(.+)\.([^.]+)\.([^.]+)")


@dataclasses.dataclass(frozen=True)
class Requests:
    """What was logged.

    Attributes:
        lines: `{"instance": …, "prediction": …}` as JSON, the oldest first.
        schema: the content of `schema.json`; empty where nothing was logged.
        told: how many, or why there are none, in one line.
    """

    lines: Sequence[str]
    schema: str
    told: str


def gather(vertex: Vertex, endpoint_name: str, most: int) -> Requests:
    """The latest logged requests, and the schema of the examples that the model was trained on.

    Args:
        vertex: the service.
        endpoint_name: display name of the endpoint.
        most: requests, the latest ones; fewer if they are larger than `MOST_BYTES` together.

    Raises:
        UserError: no such endpoint, or its model has no schema.
    """
    endpoint = Endpoint.find(vertex, endpoint_name)
    serving = champion(endpoint.deployed(), "") if endpoint else None
    if endpoint is None or serving is None:
        raise UserError(f"endpoint_name={endpoint_name}: nothing is deployed there")
    config = vertex.get(endpoint.name).get("predictRequestResponseLoggingConfig", {})
    if not config.get("enabled"):
        return Requests((), "", f"{endpoint_name} logs no requests (logged_share is 0): nothing to compare")
    uri = config["bigqueryDestination"]["outputUri"]
    lines = list(_within_bound(_latest(vertex, uri, most)))[::-1]
    if not lines:
        return Requests((), "", f"{endpoint_name} has logged no request yet: nothing to compare")
    schema = _schema(vertex, Registry(vertex, "").get(serving.version).uri)
    return Requests(lines, schema, f"{len(lines):,} instances of the latest requests")


def _within_bound(lines: Iterator[str]) -> Iterator[str]:
    size = 0
    for line in lines:
        size += len(line)
        if size > MOST_BYTES:
            return
        yield line


def _latest(vertex: Vertex, uri: str, most: int) -> Iterator[str]:
    """What the rows of a table hold, the latest first."""
    named = _TABLE.fullmatch(uri)
    if named is None:
        raise UserError(f"{uri}: no table such as bq://project.dataset.table")
    project, dataset, table = named.groups()
    url = f"{BIGQUERY}/projects/{project}/datasets/{dataset}/tables/{table}"
    try:
        end = int(vertex.call("GET", url).get("numRows", 0))
    except ServiceError as error:
        if error.status == 404:
            return
        raise
    first = max(0, end - most)
    while end > first:
        start = max(first, end - _ROWS)
        for row in reversed(list(_rows(vertex, url, start, end))):
            yield from reversed(list(_lines(row)))
        end = start


def _rows(vertex: Vertex, url: str, start: int, end: int) -> Iterator[Mapping[str, Any]]:
    """Some rows of a table; of large ones an answer holds fewer than were asked for."""
    while start < end:
        rows = vertex.call("GET", f"{url}/data", startIndex=str(start), maxResults=str(end - start)).get("rows", [])
        if not rows:
            return
        yield from rows
        start += len(rows)


def _lines(row: Mapping[str, Any]) -> Iterator[str]:
    instances, predictions = ([each["v"] for each in row["f"][column]["v"]] for column in (_REQUEST, _RESPONSE))
    known = predictions if len(predictions) == len(instances) else ["null"] * len(instances)
    for instance, prediction in zip(instances, known, strict=True):
        yield f'{{"instance": {instance}, "prediction": {prediction}}}'


def _schema(vertex: Vertex, model: str) -> str:
    bucket, _, prefix = model.removeprefix("gs://").partition("/")
    name = urllib.parse.quote(f"{prefix.rstrip('/')}/{SCHEMA}", safe="")
    try:
        return json.dumps(vertex.call("GET", f"{STORAGE}/{bucket}/o/{name}", alt="media"))
    except ServiceError as error:
        raise UserError(f"{model}: no {SCHEMA} there ({error}); release a model of this version's export") from None


def main(argv: Sequence[str]) -> None:
    """The command line; `--help` lists the flags."""
    parser = argparse.ArgumentParser(
        prog="python -m images.launcher.requests_log", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--project", required=True)
    parser.add_argument("--location", required=True)
    parser.add_argument("--endpoint_name", required=True, help="display name of the endpoint")
    parser.add_argument("--most", type=int, required=True, help="requests, the latest ones")
    parser.add_argument("--requests", required=True, help="the folder to write, with requests.jsonl")
    parser.add_argument("--examples", required=True, help="the folder to write, with schema.json")
    parser.add_argument("--count", required=True, help="the file to write: how many instances there are")
    parser.add_argument("--executor_input", help="KFP's ExecutorInput; leave it out by hand")
    flags = parser.parse_args(argv)
    if flags.most < 1:
        raise UserError(f"--most={flags.most}: give at least 1")
    logged = ExecutorOutput(flags.executor_input)
    found = gather(Vertex(flags.project, flags.location), flags.endpoint_name, flags.most)
    for folder, name, content in (
        (flags.requests, "requests.jsonl", "".join(f"{each}\n" for each in found.lines)),
        (flags.examples, "schema.json", found.schema),
    ):
        with executor.whole(folder) as aside:
            aside.mkdir()
            (aside / name).write_text(content, encoding="utf-8")
    with executor.whole(Path(flags.count)) as aside:
        aside.write_text(str(len(found.lines)), encoding="utf-8")
    logged.log("requests", instances=len(found.lines), told=found.told, digest=executor.digest(flags.requests))
    logged.write()
    print(found.told)


if __name__ == "__main__":
    executor.run(main)
