"""Requests: what an endpoint was asked, from its log, and the statistics of what its model was trained on.

Vertex AI logs a share of the requests into a BigQuery table that the endpoint names. The latest are written as JSON
lines, an instance a line, as the skew stage reads them; beside them the `schema.json` that export put into the model.

Source: cloud.google.com/vertex-ai/docs/predictions/online-prediction-logging
"""

from __future__ import annotations

import argparse
import json
import re
import urllib.parse
from collections.abc import Iterator, Sequence

from images import executor
from images.executor import ExecutorOutput, UserError
from images.launcher.endpoints import Endpoint, champion
from images.launcher.registry import Registry
from images.launcher.rest import ServiceError, Vertex
from images.launcher.snapshot import STORAGE

BIGQUERY = "https://bigquery.googleapis.com/bigquery/v2"
SCHEMA = "assets.extra/schema.json"
PAYLOAD = 4  # the column `request_payload`
_TABLE = re.compile(r"bq://(.+)\.([^.]+)\.([^.]+)")


def gather(vertex: Vertex, endpoint_name: str, most: int) -> tuple[list[str], str]:
    """The latest logged instances, and the schema of the examples that the model was trained on.

    Args:
        vertex: the service.
        endpoint_name: display name of the endpoint.
        most: requests, the latest ones.

    Returns:
        Instances as JSON, the oldest first; and the content of `schema.json`.

    Raises:
        UserError: no such endpoint, it logs nothing or has logged nothing yet, or its model has no schema.
    """
    endpoint = Endpoint.find(vertex, endpoint_name)
    serving = champion(endpoint.deployed(), "") if endpoint else None
    if endpoint is None or serving is None:
        raise UserError(f"endpoint_name={endpoint_name}: nothing is deployed there")
    config = vertex.get(endpoint.name).get("predictRequestResponseLoggingConfig", {})
    if not config.get("enabled"):
        raise UserError(f"{endpoint_name} logs no requests; release a model with logged_share above 0")
    uri = config["bigqueryDestination"]["outputUri"]
    instances = list(_rows(vertex, uri, most))
    if not instances:
        raise UserError(f"{endpoint_name} has logged no request yet in {uri}")
    return instances, _schema(vertex, Registry(vertex, "").get(serving.version).uri)


def _rows(vertex: Vertex, uri: str, most: int) -> Iterator[str]:
    named = _TABLE.fullmatch(uri)
    if named is None:
        raise UserError(f"{uri}: no table such as bq://project.dataset.table")
    project, dataset, table = named.groups()
    url = f"{BIGQUERY}/projects/{project}/datasets/{dataset}/tables/{table}"
    try:
        count = int(vertex.call("GET", url).get("numRows", 0))
    except ServiceError as error:
        if error.status == 404:
            return
        raise
    start = max(0, count - most)
    while start < count:
        rows = vertex.call("GET", f"{url}/data", startIndex=str(start)).get("rows", [])
        if not rows:
            return
        for row in rows:
            yield from (each["v"] for each in row["f"][PAYLOAD]["v"])
        start += len(rows)


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
    parser.add_argument("--executor_input", help="KFP's ExecutorInput; leave it out by hand")
    flags = parser.parse_args(argv)
    if flags.most < 1:
        raise UserError(f"--most={flags.most}: give at least 1")
    logged = ExecutorOutput(flags.executor_input)
    instances, schema = gather(Vertex(flags.project, flags.location), flags.endpoint_name, flags.most)
    for folder, name, text in (
        (flags.requests, "requests.jsonl", "".join(f"{each}\n" for each in instances)),
        (flags.examples, "schema.json", schema),
    ):
        with executor.whole(folder) as aside:
            aside.mkdir()
            (aside / name).write_text(text, encoding="utf-8")
    logged.log("requests", instances=len(instances), digest=executor.digest(flags.requests))
    logged.write()
    print(f"{len(instances):,} instances of the latest requests")


if __name__ == "__main__":
    executor.run(main)
