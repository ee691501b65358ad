"""The Cloud Storage JSON API over the bucket folders (https://cloud.google.com/storage/docs/json_api/v1)."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

from google.api_core import exceptions
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from localvertex.api.batches import answer_batch
from localvertex.api.downloads import download
from localvertex.api.methods import calls, unserved
from localvertex.api.part_uploads import PartUploads
from localvertex.api.requests import raw_path, read_body
from localvertex.api.storage_json import (
    Json,
    bucket_resource,
    conditions,
    integer,
    mapping,
    object_resource,
    parse_json,
    settable,
    text,
)
from localvertex.api.uploads import Uploads
from localvertex.buckets import Buckets, Conditions, Object, Page, glob_pattern, merge_patch
from localvertex.checksums import BLOCK, Hashing
from localvertex.services.projects import Projects

_JSON_LIMIT = 8 << 20
_PAGE = 1000
_COMPOSE_LIMIT = 32
_IN_PARTS = {"uploads", "uploadId"}


@dataclass(frozen=True)
class Call:
    """A JSON request: what its path names, its query, its body."""

    names: tuple[str, ...]
    query: QueryParams
    body: Json


class StorageFrontend:
    """Answers the storage SDK.

    Args:
        buckets: what is served.
        projects: whose buckets they are.
    """

    def __init__(self, buckets: Buckets, projects: Projects) -> None:
        self._buckets = buckets
        self._projects = projects
        self._uploads = Uploads(buckets)
        self._parts = PartUploads(buckets)
        bucket, item = "/storage/v1/b/([^/]+)", "/storage/v1/b/([^/]+)/o/([^/]+)"
        self._routes: list[tuple[str, re.Pattern[str], Callable[[Call], Json | None]]] = [
            (verb, re.compile(pattern), handler)
            for verb, pattern, handler in (
                ("GET", "/storage/v1/b", self._list_buckets),
                ("POST", "/storage/v1/b", self._insert_bucket),
                ("GET", bucket, self._get_bucket),
                ("PATCH", bucket, self._patch_bucket),
                ("PUT", bucket, self._patch_bucket),
                ("DELETE", bucket, self._delete_bucket),
                ("GET", f"{bucket}/iam", self._get_policy),
                ("PUT", f"{bucket}/iam", self._set_policy),
                ("GET", f"{bucket}/iam/testPermissions", self._test_permissions),
                ("GET", f"{bucket}/o", self._list_objects),
                ("GET", item, self._get_object),
                ("PATCH", item, self._patch_object),
                ("PUT", item, self._update_object),
                ("DELETE", item, self._delete_object),
                ("POST", f"{item}/compose", self._compose),
                ("POST", f"{item}/copyTo/b/([^/]+)/o/([^/]+)", self._copy),
                ("POST", f"{item}/rewriteTo/b/([^/]+)/o/([^/]+)", self._rewrite),
                ("GET", "/storage/v1/projects/([^/]+)/serviceAccount", self._service_account),
            )
        ]
        for _, _, handler in self._routes:
            calls.debug("serves rest storage%s", handler.__name__)

    @property
    def calls(self) -> list[str]:
        """Names of the JSON calls, in words."""
        return [handler.__name__.strip("_").replace("_", " ") for _, _, handler in self._routes]

    async def answer(self, request: Request) -> Response:
        """Answer one request.

        Raises:
            google.api_core.exceptions.GoogleAPICallError: the request's error.
        """
        path = raw_path(request)
        if match := re.fullmatch(r"(?:/resumable)?/upload/storage/v1/b/([^/]+)/o", path):
            return await self._upload(request, unquote(match[1]))
        match = re.fullmatch(r"(?:/download)?/storage/v1/b/([^/]+)/o/([^/]+)", path)
        if match and request.method == "GET" and request.query_params.get("alt") == "media":
            return await run_in_threadpool(
                self._download, unquote(match[1]), unquote(match[2]), request.query_params, request.headers
            )
        if not path.startswith(("/storage/", "/batch/")):
            return await self._xml(request, path)
        body = await read_body(request, _JSON_LIMIT)
        if request.method == "POST" and path == "/batch/storage/v1":
            content_type = request.headers.get("content-type", "")
            return await run_in_threadpool(answer_batch, body, content_type, self._json)
        return await run_in_threadpool(self._json, request.method, path, request.query_params, body)

    async def _xml(self, request: Request, path: str) -> Response:
        """What the XML API is used for beside the JSON API: uploads in parts, and TensorFlow's reading."""
        named = re.fullmatch(r"/([^/]+)/(.+)", path)
        if named and request.query_params.keys() & _IN_PARTS:
            calls.debug("rest storage_upload_parts")
            return await self._parts.answer(request, unquote(named[1]), unquote(named[2]))
        if named and request.method == "GET":
            return await run_in_threadpool(
                self._download, unquote(named[1]), unquote(named[2]), request.query_params, request.headers
            )
        raise unserved(
            f"{request.method} {unquote(path)}: of Cloud Storage's XML API, only downloads and uploads in parts"
        )

    def _json(self, verb: str, path: str, query: QueryParams, body: bytes) -> Response:
        for wanted, pattern, handler in self._routes:
            if wanted == verb and (match := pattern.fullmatch(path)):
                calls.debug("rest storage%s", handler.__name__)
                call = Call(tuple(map(unquote, match.groups())), query, parse_json(body))
                answer = handler(call)
                return Response(status_code=204) if answer is None else JSONResponse(answer)
        raise exceptions.NotFound(f"localvertex serves no storage call at {verb} {unquote(path)}.")

    def _download(self, bucket: str, name: str, query: QueryParams, headers: Headers) -> Response:
        return download(self._buckets, self._find(bucket, name, query), headers)

    async def _upload(self, request: Request, bucket: str) -> Response:
        uploaded = await self._uploads.take(request, bucket)
        if isinstance(uploaded, Response):
            return uploaded
        return JSONResponse(await run_in_threadpool(self._resource, uploaded))

    def _list_buckets(self, call: Call) -> Json:
        number = self._projects.number_of(call.query.get("project", ""))
        prefix = call.query.get("prefix", "")
        found = [
            bucket_resource(bucket)
            for bucket in self._buckets.buckets()
            if bucket.project_number == number and bucket.name.startswith(prefix)
        ]
        return {"kind": "storage#buckets", "items": found}

    def _insert_bucket(self, call: Call) -> Json:
        number = self._projects.number_of(call.query.get("project", ""))
        properties = {key: value for key, value in call.body.items() if key not in ("name", "kind")}
        if "location" in properties:
            properties["location"] = text(properties["location"], "location").upper()
        return bucket_resource(self._buckets.create(text(call.body.get("name"), "name"), number, properties))

    def _get_bucket(self, call: Call) -> Json:
        return bucket_resource(self._buckets.bucket(call.names[0]))

    def _patch_bucket(self, call: Call) -> Json:
        return bucket_resource(self._buckets.update_bucket(call.names[0], call.body))

    def _delete_bucket(self, call: Call) -> None:
        self._buckets.delete_bucket(call.names[0])

    def _get_policy(self, call: Call) -> Json:
        policy = self._buckets.bucket(call.names[0]).properties.get("iamPolicy", {})
        return {"kind": "storage#policy", "resourceId": f"projects/_/buckets/{call.names[0]}", **policy}

    def _set_policy(self, call: Call) -> Json:
        policy = {key: call.body[key] for key in ("bindings", "version") if key in call.body}
        self._buckets.update_bucket(call.names[0], {"iamPolicy": policy})
        return self._get_policy(call)

    def _test_permissions(self, call: Call) -> Json:
        self._buckets.bucket(call.names[0])
        wanted = call.query.getlist("permissions")
        return {"kind": "storage#testIamPermissionsResponse", "permissions": wanted}

    def _list_objects(self, call: Call) -> Json:
        query = call.query
        page: Page = self._buckets.list(
            call.names[0],
            query.get("prefix", ""),
            delimiter=query.get("delimiter", ""),
            start=query.get("startOffset", ""),
            end=query.get("endOffset", ""),
            after=_read_token(query.get("pageToken", "")),
            matching=glob_pattern(query["matchGlob"]) if "matchGlob" in query else None,
            limit=max(1, min(integer(query.get("maxResults")) or _PAGE, _PAGE)),
        )
        answer: Json = {"kind": "storage#objects", "items": [self._resource(each) for each in page.objects]}
        if page.prefixes:
            answer["prefixes"] = page.prefixes
        if page.next_token:
            answer["nextPageToken"] = base64.urlsafe_b64encode(page.next_token.encode()).decode()
        return answer

    def _find(self, bucket: str, name: str, query: QueryParams) -> Object:
        found = self._buckets.get(bucket, name, conditions(query))
        _check_generation(found, query.get("generation"))
        return found

    def _get_object(self, call: Call) -> Json:
        return self._resource(self._find(call.names[0], call.names[1], call.query))

    def _patch_object(self, call: Call) -> Json:
        bucket, name = call.names
        found = self._find(bucket, name, call.query)
        return self._replace_properties(call, merge_patch(found.properties, settable(call.body)))

    def _update_object(self, call: Call) -> Json:
        return self._replace_properties(call, settable(call.body))

    def _replace_properties(self, call: Call, properties: Json) -> Json:
        bucket, name = call.names
        return self._resource(self._buckets.update(bucket, name, properties, conditions(call.query)))

    def _delete_object(self, call: Call) -> None:
        bucket, name = call.names
        found = self._buckets.get(bucket, name)
        _check_generation(found, call.query.get("generation"))
        self._buckets.delete(bucket, name, conditions(call.query))

    def _compose(self, call: Call) -> Json:
        bucket, name = call.names
        sources = call.body.get("sourceObjects") or []
        if not isinstance(sources, list):
            raise exceptions.InvalidArgument("Invalid value for: sourceObjects: expected a list")
        if not 1 <= len(sources) <= _COMPOSE_LIMIT:
            raise exceptions.InvalidArgument(
                f"The number of source components provided ({len(sources)}) must be 1 to {_COMPOSE_LIMIT}."
            )
        parts = []
        for source in sources:
            said = mapping(source, "sourceObjects")
            part = self._buckets.get(bucket, text(said.get("name"), "sourceObjects.name"))
            wanted = mapping(said.get("objectPreconditions"), "objectPreconditions").get("ifGenerationMatch")
            Conditions(generation_match=integer(wanted)).check(part)
            parts.append(part)
        properties = settable(call.body.get("destination"))
        properties.setdefault("contentType", parts[0].properties["contentType"])
        written = self._write(bucket, name, parts, properties, conditions(call.query))
        return {**self._resource(written), "componentCount": len(parts)}

    def _copy(self, call: Call) -> Json:
        return self._resource(self._copied(call))

    def _rewrite(self, call: Call) -> Json:
        written = self._copied(call)
        return {
            "kind": "storage#rewriteResponse",
            "totalBytesRewritten": str(written.size),
            "objectSize": str(written.size),
            "done": True,
            "resource": self._resource(written),
        }

    def _copied(self, call: Call) -> Object:
        source_bucket, source_name, bucket, name = call.names
        source = self._buckets.get(source_bucket, source_name, conditions(call.query, "ifSource"))
        _check_generation(source, call.query.get("sourceGeneration"))
        properties = settable(call.body) or source.properties
        return self._write(bucket, name, [source], properties, conditions(call.query))

    def _write(self, bucket: str, name: str, parts: list[Object], properties: Json, wanted: Conditions) -> Object:
        aside, hashing = self._buckets.aside(), Hashing()
        try:
            with aside.open("xb") as file:
                for part in parts:
                    if part.name.endswith("/"):
                        continue
                    with part.path.open("rb") as source:
                        while piece := source.read(BLOCK):
                            file.write(piece)
                            hashing.update(piece)
            return self._buckets.put(bucket, name, aside, properties, checksums=hashing.result(), conditions=wanted)
        finally:
            aside.unlink(missing_ok=True)

    def _service_account(self, call: Call) -> Json:
        number = self._projects.number_of(call.names[0])
        email = f"service-{number}@gs-project-accounts.iam.gserviceaccount.com"
        return {"kind": "storage#serviceAccount", "email_address": email}

    def _resource(self, found: Object) -> Json:
        return object_resource(found, self._buckets.checksums(found))


def _check_generation(found: Object, wanted: str | None) -> None:
    if wanted and wanted != str(found.generation):
        raise exceptions.NotFound(f"No such object: {found.bucket}/{found.name}#{wanted}")


def _read_token(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except ValueError as error:
        raise exceptions.InvalidArgument(f"Invalid page token: '{token}'") from error
