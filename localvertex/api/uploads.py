"""Uploading objects: in one request, as metadata and content together, or in chunks that can be resumed.

Content is written aside and becomes an object in one step when it is whole
(https://cloud.google.com/storage/docs/uploads-downloads).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from email.message import Message
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from google.api_core import exceptions
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from localvertex.api.requests import disk_full, is_disk_full, read_body
from localvertex.api.storage_json import conditions, parse_json, settable, text
from localvertex.buckets import Buckets, Conditions, Object
from localvertex.checksums import BLOCK, Checksums, Hashing, checksum_file

_JSON_LIMIT = 8 << 20
RESERVE = 64 << 20
"""Bytes of the disk that uploads leave free."""
_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18}|\*)")
_SESSION = re.compile(r"[0-9a-f]{32}")
_ABANDONED_SECONDS = 7 * 24 * 3600
"""How long an unfinished upload can be resumed, as in Cloud Storage."""


class Uploads:
    """Takes uploads into buckets.

    Args:
        buckets: where they go.
    """

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        # A client that lost its connection may come back while its last chunk is still being written.
        self._appending: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        _drop_abandoned(buckets.aside().parent)

    async def take(self, request: Request, bucket: str) -> Object | Response:
        """One upload request: the object it completed, or what else to answer.

        Raises:
            google.api_core.exceptions.GoogleAPICallError: the request's error.
        """
        kind = request.query_params.get("uploadType", "")
        if kind == "resumable":
            if session := request.query_params.get("upload_id"):
                return await self._continue(request, session)
            return await self._begin(request, bucket)
        if kind not in ("media", "multipart"):
            raise exceptions.InvalidArgument(f"Unknown uploadType: '{kind}'")
        aside = self._buckets.aside()
        _check_room(aside.parent, int(request.headers.get("content-length", 0)))
        try:
            checksums = await receive(request, aside)
            if kind == "media":
                resource = {"name": request.query_params.get("name", "")}
                content_type = request.headers.get("content-type", "")
            else:
                resource, content_type, checksums = await run_in_threadpool(
                    _keep_content_alone, aside, request.headers.get("content-type", "")
                )
            upload = _Upload.of(bucket, resource, content_type, request.query_params)
            return await run_in_threadpool(self._publish, upload, aside, checksums)
        finally:
            aside.unlink(missing_ok=True)
            _content(aside).unlink(missing_ok=True)

    def _publish(self, upload: _Upload, aside: Path, checksums: Checksums) -> Object:
        for given, actual in ((upload.md5, checksums.md5), (upload.crc32c, checksums.crc32c)):
            if given and given != actual:
                raise exceptions.InvalidArgument(f"Provided hash '{given}' doesn't match calculated hash '{actual}'.")
        return self._buckets.put(
            upload.bucket,
            upload.name,
            aside,
            upload.properties,
            checksums=checksums,
            conditions=Conditions(**upload.conditions),
        )

    async def _begin(self, request: Request, bucket: str) -> Response:
        resource = parse_json(await read_body(request, _JSON_LIMIT))
        resource.setdefault("name", request.query_params.get("name", ""))
        content_type = request.headers.get("x-upload-content-type", "")
        upload = _Upload.of(bucket, resource, content_type, request.query_params)
        aside = self._buckets.aside()
        await run_in_threadpool(upload.save, aside)
        link = (
            f"https://storage.googleapis.com/upload/storage/v1/b/{quote(bucket, safe='')}/o"
            f"?uploadType=resumable&upload_id={aside.name}"
        )
        return Response(headers={"Location": link, "X-GUploader-UploadID": aside.name})

    async def _continue(self, request: Request, session: str) -> Object | Response:
        aside = self._buckets.aside().with_name(session)
        if not _SESSION.fullmatch(session) or not _description(aside).exists():
            raise exceptions.NotFound("The upload session is not found: it has ended, or was never begun.")
        if request.method == "DELETE":
            _forget(aside)
            return Response(status_code=499)
        start, total = _content_range(request.headers)
        async with self._appending[session]:
            try:
                _check_room(aside.parent, int(request.headers.get("content-length", 0)))
                await _append(request, aside, start)
            except Exception as error:
                # What cannot be completed must not hold the room that is wanting.
                if is_disk_full(error):
                    _forget(aside)
                raise
        received = aside.stat().st_size
        if total is None or received < total:
            headers = {"Range": f"bytes=0-{received - 1}"} if received else {}
            return Response(status_code=308, headers=headers)
        uploaded = await run_in_threadpool(self._finish, aside)
        self._appending.pop(session, None)
        return uploaded

    def _finish(self, aside: Path) -> Object:
        uploaded = self._publish(_Upload.load(aside), aside, checksum_file(aside))
        _forget(aside)
        return uploaded


class _Upload:
    """What an upload is to become, as its first request said."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        self._said = dict(said)
        self.bucket: str = said["bucket"]
        self.name: str = said["name"]
        self.properties: dict[str, Any] = said["properties"]
        self.conditions: dict[str, int | None] = said["conditions"]
        self.md5: str = said["md5"]
        self.crc32c: str = said["crc32c"]

    @classmethod
    def of(cls, bucket: str, resource: Mapping[str, Any], content_type: str, query: Mapping[str, str]) -> _Upload:
        if not text(resource.get("name"), "name"):
            raise exceptions.InvalidArgument("Required: the object's name")
        properties = settable(resource)
        if content_type:
            properties.setdefault("contentType", content_type)
        return cls(
            {
                "bucket": bucket,
                "name": resource["name"],
                "properties": properties,
                "conditions": vars(conditions(query)),
                "md5": text(resource.get("md5Hash", ""), "md5Hash"),
                "crc32c": text(resource.get("crc32c", ""), "crc32c"),
            }
        )

    def save(self, aside: Path) -> None:
        aside.touch()
        description = _description(aside)
        fresh = description.with_suffix(".new")
        fresh.write_text(json.dumps(self._said))
        os.replace(fresh, description)

    @classmethod
    def load(cls, aside: Path) -> _Upload:
        return cls(json.loads(_description(aside).read_text()))


def _check_room(folder: Path, size: int) -> None:
    """Refuse content that would leave the store no room for its own commits.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: it would (507).
    """
    free = shutil.disk_usage(folder).free
    if size + RESERVE > free:
        raise disk_full(f"{size} bytes, with {free} free and {RESERVE} kept free for the store")


async def receive(request: Request, aside: Path) -> Checksums:
    """Write a request's body to a new file.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: the disk has no room for it (507).
    """
    hashing = Hashing()
    with aside.open("xb") as file:
        async for piece in _blocks(request):
            _check_room(aside.parent, len(piece))
            await run_in_threadpool(_write, file, piece, hashing)
    return hashing.result()


async def _append(request: Request, aside: Path, start: int | None) -> None:
    """Add a chunk that begins at byte `start` of the content; what is held already is not written again."""
    with aside.open("r+b") as file:
        held = file.seek(0, os.SEEK_END)
        # A chunk beyond the end of what is held is answered with how far that is, and sent again.
        skip = 0 if start is None else held - start
        async for piece in _blocks(request):
            if start is None or skip < 0:
                continue
            if skip >= len(piece):
                skip -= len(piece)
                continue
            _check_room(aside.parent, len(piece))
            await run_in_threadpool(file.write, piece[skip:])
            skip = 0
        file.flush()


async def _blocks(request: Request) -> AsyncIterator[bytes]:
    """A request's body in pieces large enough to be worth a thread."""
    pending = bytearray()
    async for piece in request.stream():
        pending += piece
        if len(pending) >= BLOCK:
            yield bytes(pending)
            pending.clear()
    if pending:
        yield bytes(pending)


def _write(file: BinaryIO, piece: bytes, hashing: Hashing) -> None:
    file.write(piece)
    hashing.update(piece)


def _keep_content_alone(aside: Path, content_type: str) -> tuple[dict[str, Any], str, Checksums]:
    """Reduce a multipart/related body on disk (RFC 2387) to the content in its second part.

    Returns:
        The object resource in the first part, the content's type, its checksums.
    """
    header = Message()
    header["content-type"] = content_type
    delimiter = b"--" + str(header.get_param("boundary", "")).encode()
    size = aside.stat().st_size
    with aside.open("rb") as body:
        head = body.read(_JSON_LIMIT)
        try:
            first = head.index(delimiter) + len(delimiter)
            resource_start = head.index(b"\r\n\r\n", first) + 4
            second = head.index(b"\r\n" + delimiter, resource_start)
            content_start = head.index(b"\r\n\r\n", second + 2 + len(delimiter)) + 4
            body.seek(max(content_start, size - len(delimiter) - 16))
            tail_start = body.tell()
            content_end = tail_start + body.read().rindex(b"\r\n" + delimiter + b"--")
        except ValueError as error:
            raise exceptions.InvalidArgument("Malformed multipart body.") from error
        part = head[second + 2 + len(delimiter) : content_start].decode("latin-1")
        hashing = _copy_range(body, _content(aside), content_start, content_end)
    os.replace(_content(aside), aside)
    kind = re.search(r"content-type:\s*([^\r\n]+)", part, re.IGNORECASE)
    resource = parse_json(head[resource_start:second])
    return resource, kind[1].strip() if kind else "", hashing.result()


def _copy_range(source: BinaryIO, target: Path, start: int, end: int) -> Hashing:
    hashing = Hashing()
    source.seek(start)
    with target.open("wb") as file:
        while start < end and (piece := source.read(min(BLOCK, end - start))):
            start += len(piece)
            _write(file, piece, hashing)
    return hashing


def _content_range(headers: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Where a chunk begins (None: it is empty and asks how far the upload is), the total size if known."""
    header = headers.get("content-range")
    if header is None:
        return 0, int(headers.get("content-length", 0))
    match = _CONTENT_RANGE.fullmatch(header)
    if match is None:
        raise exceptions.InvalidArgument(f"Invalid Content-Range: '{header}'")
    start, _, total = match.groups()
    return int(start) if start else None, None if total == "*" else int(total)


def _content(aside: Path) -> Path:
    return aside.with_suffix(".content")


def _description(aside: Path) -> Path:
    return aside.with_suffix(".json")


def _forget(aside: Path) -> None:
    _description(aside).unlink(missing_ok=True)
    aside.unlink(missing_ok=True)


def _drop_abandoned(uploads: Path) -> None:
    """Remove what a kill cut short, at once, and sessions nobody came back to, after their time."""
    for path in uploads.iterdir():
        # A folder holds the parts of an upload in parts, a description says what a resumable one is to become.
        session = path.suffix == ".json" or (path.suffix == "" and (path.is_dir() or _description(path).exists()))
        if session and time.time() - path.stat().st_mtime <= _ABANDONED_SECONDS:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
