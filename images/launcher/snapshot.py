"""Snapshot: what a source holds now, under a name that is its content.

A source that grows in place has the same URI every day. Here it is listed, and copied, inside Cloud Storage, to
`data/<pipeline>/<digest>/` of the pipeline root's bucket, unless that is there already. The digest is over names, sizes
and checksums, which the listing has: nothing is read. Later steps see that URI alone: the same content is the same URI,
and all that follows is taken from the cache.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import re
import urllib.parse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from images import executor
from images.executor import ExecutorOutput, UserError
from images.launcher.rest import ServiceError, Vertex

STORAGE = "https://storage.googleapis.com/storage/v1/b"
AT_ONCE = 16  # copies under way
CHANGED = 412  # of HTTP: a precondition does not hold
_NAMED_BY_CONTENT = re.compile(r"[0-9a-f]{32}")


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A source at one moment.

    Attributes:
        uri: gs:// folder that will never hold anything else.
        source: gs:// folder that it was taken from.
        files: how many.
        bytes: in all.
        unchanged_since: the last run of the pipeline that succeeded, if it read this very snapshot; else empty.
    """

    uri: str
    source: str
    files: int
    bytes: int
    unchanged_since: str

    @property
    def told(self) -> str:
        """In one line."""
        what = f"{self.files:,} files, {self.bytes:,} bytes in {self.uri}"
        return f"unchanged since {self.unchanged_since}: {what}" if self.unchanged_since else f"new data: {what}"


def snapshot(vertex: Vertex, pipeline: str, source: str, root: str) -> Snapshot:
    """Takes a snapshot.

    Args:
        vertex: the service.
        pipeline: its name.
        source: gs:// folder; one that is named by its content, as `make run` places data, is its own snapshot.
        root: the pipeline root, a gs:// URI.

    Raises:
        UserError: there is nothing, or it changed meanwhile.
    """
    bucket, prefix = _split(source)
    objects = [
        each
        for each in vertex.pages(f"{STORAGE}/{_quoted(bucket)}/o", "items", prefix=prefix)
        if not each["name"].endswith("/")
    ]
    if not objects:
        raise UserError(f"source={source}: there is nothing; give a gs:// folder with the data")
    uri = source.rstrip("/")
    if not _NAMED_BY_CONTENT.fullmatch(uri.rpartition("/")[2]):
        uri = f"gs://{_split(root)[0]}/data/{pipeline}/{_digest(objects, prefix)}"
        _copy(vertex, bucket, prefix, objects, uri)
    size = sum(int(each["size"]) for each in objects)
    return Snapshot(uri, source, len(objects), size, _last_run(vertex, pipeline, uri))


def _digest(objects: Sequence[dict[str, Any]], prefix: str) -> str:
    lines = sorted(
        f"{each['name'].removeprefix(prefix)}\0{each['size']}\0{each.get('crc32c', '')}\0{each.get('md5Hash', '')}\n"
        for each in objects
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:32]


def _copy(vertex: Vertex, bucket: str, prefix: str, objects: Sequence[dict[str, Any]], uri: str) -> None:
    """Copies what was listed, and says beside the folder that it is whole."""
    target, folder = _split(uri)
    manifest = f"{folder.rstrip('/')}.json"
    if _is_there(vertex, target, manifest):
        return
    print(f"copying {len(objects):,} files to {uri}", flush=True)

    def copy(each: dict[str, Any]) -> None:
        name = folder + each["name"].removeprefix(prefix)
        url = f"{STORAGE}/{_quoted(bucket)}/o/{_quoted(each['name'])}/rewriteTo/b/{_quoted(target)}/o/{_quoted(name)}"
        token: dict[str, str] = {}
        while True:
            done = vertex.call("POST", url, {}, ifSourceGenerationMatch=str(each["generation"]), **token)
            if done["done"]:
                return
            token = {"rewriteToken": done["rewriteToken"]}

    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(copy, objects))
    except ServiceError as error:
        if error.status not in (CHANGED, 404):
            raise
        raise UserError(f"source=gs://{bucket}/{prefix}: changed while it was copied; run again") from None
    upload = f"https://storage.googleapis.com/upload/storage/v1/b/{_quoted(target)}/o"
    vertex.call("POST", upload, {"source": f"gs://{bucket}/{prefix}"}, uploadType="media", name=manifest)


def _is_there(vertex: Vertex, bucket: str, name: str) -> bool:
    try:
        vertex.call("GET", f"{STORAGE}/{_quoted(bucket)}/o/{_quoted(name)}")
    except ServiceError as error:
        if error.status == 404:
            return False
        raise
    return True


def _last_run(vertex: Vertex, pipeline: str, uri: str) -> str:
    """The id of the pipeline's last run that succeeded, if it read this folder; else empty."""
    wanted = f'pipeline_name="{pipeline}" AND state="PIPELINE_STATE_SUCCEEDED"'
    query = {"filter": wanted, "orderBy": "create_time desc", "pageSize": "1"}
    last = next(vertex.every(f"{vertex.parent}/pipelineJobs", "pipelineJobs", **query), None)
    if last is None:
        return ""
    details = last.get("jobDetail", {}).get("taskDetails", [])
    outputs = (output for detail in details for output in detail.get("outputs", {}).values())
    uris = {artifact.get("uri") for output in outputs for artifact in output.get("artifacts", [])}
    return str(last["name"]).rpartition("/")[2] if uri in uris else ""


def _split(uri: str) -> tuple[str, str]:
    """Bucket and prefix, which ends with a slash."""
    if not uri.startswith("gs://"):
        raise UserError(f"source={uri}: must be a gs:// folder")
    bucket, _, prefix = uri.removeprefix("gs://").rstrip("/").partition("/")
    return bucket, f"{prefix}/" if prefix else ""


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def main(argv: Sequence[str]) -> None:
    """The command line; `--help` lists the flags."""
    parser = argparse.ArgumentParser(prog="python -m images.launcher.snapshot", description=__doc__, allow_abbrev=False)
    parser.add_argument("--project", required=True)
    parser.add_argument("--location", required=True)
    parser.add_argument("--pipeline", required=True, help="its name")
    parser.add_argument("--source", required=True, help="gs:// folder with the data")
    parser.add_argument("--root", required=True, help="gs:// pipeline root, whose bucket keeps snapshots")
    parser.add_argument("--uri", required=True, help="the file to write: the snapshot's folder")
    parser.add_argument("--record", required=True, help="the JSON file to write")
    parser.add_argument("--executor_input", help="KFP's ExecutorInput; leave it out by hand")
    flags = parser.parse_args(argv)
    logged = ExecutorOutput(flags.executor_input)
    found = snapshot(Vertex(flags.project, flags.location), flags.pipeline, flags.source, flags.root)
    with executor.whole(Path(flags.record)) as aside:
        aside.write_text(json.dumps(dataclasses.asdict(found), indent=2) + "\n", encoding="utf-8")
    with executor.whole(Path(flags.uri)) as aside:
        aside.write_text(found.uri, encoding="utf-8")
    logged.log("record", **dataclasses.asdict(found), told=found.told)
    logged.write()
    print(found.told)


if __name__ == "__main__":
    executor.run(main)
