"""Uploading an object in parts, several at a time: the one piece of the XML API that the storage SDK uses.

See https://cloud.google.com/storage/docs/multipart-uploads.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import shutil
from pathlib import Path
from xml.etree import ElementTree

from google.api_core import exceptions
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from localvertex.api.requests import read_body
from localvertex.api.uploads import receive
from localvertex.buckets import Buckets
from localvertex.checksums import BLOCK, Hashing

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_LIST_LIMIT = 4 << 20
_MOST_PARTS = 10_000
_SESSION = re.compile(r"[0-9a-f]{32}")
_ABOUT = "about.json"


class PartUploads:
    """Takes objects in parts; each upload has a folder until it is complete.

    Args:
        buckets: where objects go.
    """

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets

    async def answer(self, request: Request, bucket: str, name: str) -> Response:
        """Answer one request about an object.

        Raises:
            google.api_core.exceptions.GoogleAPICallError: the request's error.
        """
        query = request.query_params
        if request.method == "POST" and "uploads" in query:
            return await run_in_threadpool(self._begin, bucket, name, dict(request.headers))
        folder = self._folder(query.get("uploadId", ""), bucket, name)
        if request.method == "PUT":
            return await self._take_part(request, folder, query.get("partNumber", ""))
        if request.method == "POST":
            listed = _listed(await read_body(request, _LIST_LIMIT))
            return await run_in_threadpool(self._complete, bucket, name, folder, listed)
        if request.method == "DELETE":
            shutil.rmtree(folder)
            return Response(status_code=204)
        raise exceptions.MethodNotImplemented(f"localvertex does not serve {request.method} of an upload in parts.")

    def _begin(self, bucket: str, name: str, headers: dict[str, str]) -> Response:
        self._buckets.find(bucket, name)
        properties = {
            "contentType": headers.get("content-type", ""),
            "metadata": {
                key.removeprefix("x-goog-meta-"): value
                for key, value in headers.items()
                if key.startswith("x-goog-meta-")
            },
        }
        session = secrets.token_hex(16)
        folder = self._buckets.aside().with_name(session)
        fresh = folder.with_suffix(".new")
        fresh.mkdir()
        (fresh / _ABOUT).write_text(json.dumps({"bucket": bucket, "name": name, "properties": properties}))
        fresh.rename(folder)
        return _xml("InitiateMultipartUploadResult", Bucket=bucket, Key=name, UploadId=session)

    def _folder(self, session: str, bucket: str, name: str) -> Path:
        folder = self._buckets.aside().with_name(session or "none")
        if not _SESSION.fullmatch(session) or not folder.is_dir():
            raise exceptions.NotFound("The upload is not found: it was completed or aborted, or never begun.")
        about = json.loads((folder / _ABOUT).read_text())
        if (about["bucket"], about["name"]) != (bucket, name):
            raise exceptions.NotFound("The upload is one of another object.")
        return folder

    async def _take_part(self, request: Request, folder: Path, number: str) -> Response:
        if not (number.isascii() and number.isdigit() and 1 <= int(number) <= _MOST_PARTS):
            raise exceptions.InvalidArgument(f"partNumber: a whole number from 1 to {_MOST_PARTS}.")
        aside = self._buckets.aside()
        try:
            checksums = await receive(request, aside)
            tag = base64.b64decode(checksums.md5).hex()
            for earlier in folder.glob(f"{int(number)}.*"):
                earlier.unlink()
            aside.rename(folder / f"{int(number)}.{tag}")
        finally:
            aside.unlink(missing_ok=True)
        described = {"ETag": f'"{tag}"', "X-Goog-Hash": f"crc32c={checksums.crc32c},md5={checksums.md5}"}
        return Response(headers=described)

    def _complete(self, bucket: str, name: str, folder: Path, listed: list[tuple[int, str]]) -> Response:
        parts = [folder / f"{number}.{tag}" for number, tag in listed]
        if missing := [number for (number, _), part in zip(listed, parts, strict=True) if not part.is_file()]:
            raise exceptions.InvalidArgument(f"Part {missing[0]} was not uploaded, or with another ETag.")
        properties = json.loads((folder / _ABOUT).read_text())["properties"]
        aside, hashing = self._buckets.aside(), Hashing()
        try:
            with aside.open("xb") as whole:
                for part in parts:
                    with part.open("rb") as file:
                        while piece := file.read(BLOCK):
                            whole.write(piece)
                            hashing.update(piece)
            self._buckets.put(bucket, name, aside, properties, checksums=hashing.result())
        finally:
            aside.unlink(missing_ok=True)
        shutil.rmtree(folder)
        return _xml("CompleteMultipartUploadResult", Bucket=bucket, Key=name)


def _listed(body: bytes) -> list[tuple[int, str]]:
    """Numbers and ETags of the parts that a request to complete an upload lists, in order."""
    try:
        root = ElementTree.fromstring(body)
        listed = [
            (int(part.findtext("{*}PartNumber", "")), part.findtext("{*}ETag", "").strip('"'))
            for part in root.findall("{*}Part")
        ]
    except (ElementTree.ParseError, ValueError) as error:
        raise exceptions.InvalidArgument(f"Malformed list of parts: {error}") from error
    if not listed or not all(re.fullmatch("[0-9a-f]{32}", tag) for _, tag in listed):
        raise exceptions.InvalidArgument("Malformed list of parts: each has a PartNumber and an ETag.")
    return sorted(listed)


def _xml(root: str, **texts: str) -> Response:
    element = ElementTree.Element(root, xmlns=_NAMESPACE)
    for name, text in texts.items():
        ElementTree.SubElement(element, name).text = text
    return Response(ElementTree.tostring(element, xml_declaration=True, encoding="UTF-8"), media_type="application/xml")
