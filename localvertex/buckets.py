"""Cloud Storage buckets as folders: `gs://bucket/name` is the file `<home>/gcs/bucket/name`, and back.

Tasks write straight into the folders and clients upload through the API; both see the same objects. What the
API knows beyond the file itself (content type, metadata) is kept in the store for as long as the file
is the one it was said of.
"""

from __future__ import annotations

import contextlib
import mimetypes
import os
import re
import secrets
import shutil
import stat as modes
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from google.api_core import exceptions

from localvertex.checksums import ChecksumCache, Checksums, Hashing, folder_digest
from localvertex.home import Home
from localvertex.store import Store, tables

SCHEME = "gs://"

_LONGEST_NAME, _LONGEST_FILE_NAME = 1024, 255
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")

_buckets = sa.Table(
    "buckets",
    tables,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("project_number", sa.String, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("properties", sa.JSON, nullable=False),
)
_objects = sa.Table(
    "objects",
    tables,
    sa.Column("bucket", sa.String, primary_key=True),
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("metageneration", sa.Integer, nullable=False),
    sa.Column("properties", sa.JSON, nullable=False),
)


@dataclass(frozen=True)
class Bucket:
    """A bucket and what was said of it; `properties` in the JSON API's words (`location`, `labels`)."""

    name: str
    project_number: str
    created: float
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Object:
    """One object; `properties` are the settable ones, in the JSON API's words (`contentType`, `metadata`).

    `generation` is the file's modification time in microseconds.
    """

    bucket: str
    name: str
    path: Path
    size: int
    generation: int
    metageneration: int
    properties: dict[str, Any]

    @property
    def updated(self) -> float:
        """When its content was written, in seconds since 1970."""
        return self.generation / 1e6


@dataclass(frozen=True)
class Conditions:
    """Preconditions on the object that is there now; generation 0 stands for "there is none"."""

    generation_match: int | None = None
    generation_not_match: int | None = None
    metageneration_match: int | None = None
    metageneration_not_match: int | None = None

    def check(self, current: Object | None, *, reading: bool = False) -> None:
        """Raise unless all hold.

        Raises:
            google.api_core.exceptions.PreconditionFailed: one does not hold.
            google.api_core.exceptions.NotModified: a "not match" one does not hold, when reading.
        """
        generation = current.generation if current else 0
        metageneration = current.metageneration if current else 0
        for actual, wanted in (
            (generation, self.generation_match),
            (metageneration, self.metageneration_match),
        ):
            if wanted is not None and actual != wanted:
                raise _condition_not_met()
        for actual, unwanted in (
            (generation, self.generation_not_match),
            (metageneration, self.metageneration_not_match),
        ):
            if unwanted is not None and actual == unwanted:
                raise exceptions.NotModified("Not modified.") if reading else _condition_not_met()


@dataclass(frozen=True)
class Page:
    """Part of a listing: objects, common prefixes, and the token of the next page (empty at the end)."""

    objects: list[Object]
    prefixes: list[str]
    next_token: str


ANY = Conditions()


class Buckets:
    """The buckets of one state folder.

    Args:
        home: whose `gcs` folder holds them.
        store: keeps what files cannot say.
    """

    def __init__(self, home: Home, store: Store) -> None:
        self._home = home
        self._store = store
        self._checksums = ChecksumCache(store)
        self._writing = threading.RLock()

    def path(self, uri: str) -> Path:
        """Where `gs://bucket/name` lies on disk; a trailing slash is dropped.

        Raises:
            google.api_core.exceptions.InvalidArgument: not a gs:// URI, or a name that files cannot have.
        """
        bucket, name = split(uri)
        return self._file(bucket, name.rstrip("/")) if name.strip("/") else self._folder(bucket)

    def uri(self, path: Path) -> str:
        """The `gs://` URI of a path under the buckets' folder.

        Raises:
            ValueError: the path lies elsewhere.
        """
        return SCHEME + Path(os.path.abspath(path)).relative_to(self._home.gcs).as_posix()

    def _folder(self, bucket: str) -> Path:
        if not _BUCKET_NAME.fullmatch(bucket):
            raise exceptions.InvalidArgument(f"Invalid bucket name: {bucket!r:.300}")
        return self._home.gcs / bucket

    def _file(self, bucket: str, name: str) -> Path:
        folder = self._folder(bucket)
        _check_object_name(name)
        parts = name.removesuffix("/").split("/")
        path = folder.joinpath(*parts)
        if not path.resolve().is_relative_to(folder.resolve()):
            raise exceptions.InvalidArgument(f"Object name '{name}' leads out of the bucket through a link.")
        return path

    def create(self, name: str, project_number: str, properties: Mapping[str, Any] | None = None) -> Bucket:
        """Make a bucket.

        Raises:
            google.api_core.exceptions.Conflict: there is one of that name.
        """
        folder = self._folder(name)
        with self._writing:
            if folder.exists():
                raise exceptions.Conflict(
                    "Your previous request to create the named bucket succeeded and you already own it."
                )
            bucket = Bucket(name, project_number, time.time(), dict(properties or {}))
            self._save_bucket(bucket)
            folder.mkdir(parents=True)
        return bucket

    def ensure(self, name: str) -> Path:
        """The folder of a bucket, made when missing: nothing is written to a bucket that is not there."""
        folder = self._folder(name)
        if not folder.exists():
            with contextlib.suppress(exceptions.Conflict):
                self.create(name, self._home.project_number)
        return folder

    def bucket(self, name: str) -> Bucket:
        """The bucket of that name; a folder made by hand is a bucket too.

        Raises:
            google.api_core.exceptions.NotFound: there is none.
        """
        folder = self._folder(name)
        if not folder.is_dir():
            raise exceptions.NotFound("The specified bucket does not exist.")
        with self._store.read() as connection:
            row = connection.execute(sa.select(_buckets).where(_buckets.c.name == name)).one_or_none()
        if row is None:
            return Bucket(name, self._home.project_number, folder.stat().st_mtime)
        return Bucket(row.name, row.project_number, row.created, row.properties)

    def buckets(self) -> list[Bucket]:
        """All buckets by name."""
        names = sorted(entry.name for entry in os.scandir(self._home.gcs) if entry.is_dir())
        return [self.bucket(name) for name in names if _BUCKET_NAME.fullmatch(name)]

    def update_bucket(self, name: str, changes: Mapping[str, Any]) -> Bucket:
        """Merge properties into a bucket's; None removes one."""
        with self._writing:
            bucket = self.bucket(name)
            changed = Bucket(name, bucket.project_number, bucket.created, merge_patch(bucket.properties, changes))
            self._save_bucket(changed)
        return changed

    def delete_bucket(self, name: str) -> None:
        """Remove an empty bucket.

        Raises:
            google.api_core.exceptions.Conflict: it holds objects.
        """
        with self._writing:
            self.bucket(name)
            if self.list(name, limit=1).objects:
                raise exceptions.Conflict("The bucket you tried to delete is not empty.")
            shutil.rmtree(self._folder(name))
            with self._store.write() as connection:
                connection.execute(_buckets.delete().where(_buckets.c.name == name))

    def _save_bucket(self, bucket: Bucket) -> None:
        with self._store.write() as connection:
            connection.execute(_buckets.delete().where(_buckets.c.name == bucket.name))
            connection.execute(_buckets.insert().values(**vars(bucket)))

    def find(self, bucket: str, name: str) -> Object | None:
        """The object of that name, or None."""
        path = self._file(bucket, name)
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if modes.S_ISDIR(found.st_mode) != name.endswith("/") or not _is_content(found.st_mode):
            return None
        with self._store.read() as connection:
            row = connection.execute(sa.select(_objects).where(*_key(bucket, name))).one_or_none()
        if name.endswith("/") and row is None:
            return None
        return _object(bucket, name, path, found, row)

    def get(self, bucket: str, name: str, conditions: Conditions = ANY) -> Object:
        """The object of that name.

        Raises:
            google.api_core.exceptions.NotFound: there is none.
            google.api_core.exceptions.PreconditionFailed, NotModified: it does not meet the conditions.
        """
        found = self.find(bucket, name)
        if found is None:
            self.bucket(bucket)
            raise exceptions.NotFound(f"No such object: {bucket}/{name}")
        conditions.check(found, reading=True)
        return found

    def list(
        self,
        bucket: str,
        prefix: str = "",
        *,
        delimiter: str = "",
        start: str = "",
        end: str = "",
        after: str = "",
        matching: re.Pattern[str] | None = None,
        limit: int = 1000,
    ) -> Page:
        """Objects in the order of their names.

        Args:
            prefix: only names that begin so.
            delimiter: names that hold it after the prefix are folded into one common prefix.
            start, end: only names in `[start, end)`.
            after: where the previous page ended: its `next_token`.
            matching: only names that it matches in full.
            limit: objects and prefixes a page.
        """
        self.bucket(bucket)
        page = Page([], [], "")
        last = ""
        for name, path, found in self._walk(bucket, prefix, delimiter, after):
            if name < start or (end and name >= end) or (after and name <= after):
                continue
            if matching is not None and not matching.fullmatch(name):
                continue
            if len(page.objects) + len(page.prefixes) == limit:
                return Page(page.objects, page.prefixes, last)
            if path is None:
                page.prefixes.append(name)
            else:
                assert found is not None
                page.objects.append(self._with_properties(bucket, name, path, found))
            last = name
        return page

    def _walk(
        self, bucket: str, prefix: str, delimiter: str, after: str
    ) -> Iterator[tuple[str, Path | None, os.stat_result | None]]:
        """Names with their files, in order; a common prefix comes once, without a file."""
        markers = self._folder_markers(bucket, prefix)
        folded = ""
        for name, path, found in _files(self._folder(bucket), "", prefix, after, markers):
            cut = name.find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                yield name, path, found
            elif name[: cut + len(delimiter)] != folded:
                folded = name[: cut + len(delimiter)]
                yield folded, None, None

    def _folder_markers(self, bucket: str, prefix: str) -> set[str]:
        query = sa.select(_objects.c.name).where(
            _objects.c.bucket == bucket, _objects.c.name.endswith("/"), _objects.c.name.startswith(prefix)
        )
        with self._store.read() as connection:
            return set(connection.execute(query).scalars())

    def _with_properties(self, bucket: str, name: str, path: Path, found: os.stat_result) -> Object:
        with self._store.read() as connection:
            row = connection.execute(sa.select(_objects).where(*_key(bucket, name))).one_or_none()
        return _object(bucket, name, path, found, row)

    def aside(self) -> Path:
        """A fresh path outside the buckets for content that is still being written."""
        return self._home.uploads / secrets.token_hex(16)

    def put(
        self,
        bucket: str,
        name: str,
        content: Path,
        properties: Mapping[str, Any],
        *,
        checksums: Checksums,
        conditions: Conditions = ANY,
    ) -> Object:
        """Publish a file written aside as an object, in one step; the file is moved.

        Args:
            content: a path from `aside()`.
            properties: settable properties in the words of the JSON API.
            checksums: of the content.
            conditions: on the object that is there now.
        """
        path = self._file(bucket, name)
        self.ensure(bucket)
        with self._writing:
            current = self.find(bucket, name)
            conditions.check(current)
            self._place(content, path, name, current)
            self._save_properties(bucket, name, path, dict(properties))
            if not name.endswith("/"):
                self._checksums.keep(bucket, name, path, checksums)
            return self.get(bucket, name)

    def _place(self, content: Path, path: Path, name: str, current: Object | None) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("/"):
                path.mkdir(exist_ok=True)
                content.unlink()
                return
            # The clock that stamps files is coarse: two versions within a tick must differ in generation.
            written = max(time.time_ns(), (current.generation + 1) * 1000 if current else 0)
            os.utime(content, ns=(written, written))
            os.replace(content, path)
        except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
            raise exceptions.Conflict(
                f"Object '{name}' cannot be kept as a file: a name cannot be both a file and a folder."
            ) from error

    def _save_properties(
        self, bucket: str, name: str, path: Path, properties: dict[str, Any], metageneration: int = 1
    ) -> None:
        with self._store.write() as connection:
            connection.execute(_objects.delete().where(*_key(bucket, name)))
            connection.execute(
                _objects.insert().values(
                    bucket=bucket,
                    name=name,
                    generation=_generation(path.stat()),
                    metageneration=metageneration,
                    properties=properties,
                )
            )

    def update(self, bucket: str, name: str, properties: Mapping[str, Any], conditions: Conditions = ANY) -> Object:
        """Replace an object's settable properties, its content untouched."""
        with self._writing:
            current = self.get(bucket, name)
            conditions.check(current)
            self._save_properties(bucket, name, current.path, dict(properties), current.metageneration + 1)
            return self.get(bucket, name)

    def delete(self, bucket: str, name: str, conditions: Conditions = ANY) -> None:
        """Remove an object.

        Raises:
            google.api_core.exceptions.NotFound: there is none.
            google.api_core.exceptions.PreconditionFailed: it does not meet the conditions.
        """
        with self._writing:
            current = self.get(bucket, name)
            conditions.check(current)
            if not name.endswith("/"):
                current.path.unlink()
            with self._store.write() as connection:
                connection.execute(_objects.delete().where(*_key(bucket, name)))
            self._checksums.forget(bucket, name)

    def checksums(self, found: Object) -> Checksums:
        """An object's checksums, read anew only when its file changed."""
        if found.name.endswith("/"):
            return Hashing().result()
        return self._checksums.of(found.bucket, {found.name: found.path})[found.name]

    def digest(self, uri: str) -> str | None:
        """SHA-256 in hex over the content at a `gs://` URI, or None when nothing is there.

        Of a file: of its bytes. Of a folder: of the relative paths and digests of all its files, in order;
        times, owners and empty folders do not count.
        """
        bucket, name = split(uri)
        path = self.path(uri)
        name = name.rstrip("/")
        if path.is_file():
            return self._checksums.of(bucket, {name: path})[name].sha256
        if not path.is_dir():
            return None
        under = f"{name}/" if name else ""
        files = {under + relative: path / relative for relative in _content_files(path)}
        known = self._checksums.of(bucket, files, under)
        return folder_digest({each.removeprefix(under): known[each].sha256 for each in files})


def split(uri: str) -> tuple[str, str]:
    """`gs://bucket/a/b` -> (`bucket`, `a/b`).

    Raises:
        google.api_core.exceptions.InvalidArgument: not a gs:// URI.
    """
    if not uri.startswith(SCHEME):
        raise exceptions.InvalidArgument(f"'{uri}' is not a Cloud Storage URI: it must start with {SCHEME}")
    bucket, _, name = uri.removeprefix(SCHEME).partition("/")
    return bucket, name


def glob_pattern(glob: str) -> re.Pattern[str]:
    """The names that a glob stands for: `*` and `?` within a folder, `**` across, `[...]` and `{a,b}`.

    See https://cloud.google.com/storage/docs/json_api/v1/objects/list#list-objects-and-prefixes-using-glob.

    Raises:
        google.api_core.exceptions.InvalidArgument: it is none.
    """
    tokens = {"**": ".*", "*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")", ",": "|"}
    pieces, depth = [], 0
    for token in re.findall(r"\*\*|\[[^\]]+\]|\\.|.", glob, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(token, 0)
        if token.startswith("[") and len(token) > 2:
            pieces.append(token.replace("[!", "[^", 1))
        elif token == "," and depth <= 0:
            pieces.append(",")
        else:
            pieces.append(tokens.get(token) or re.escape(token.removeprefix("\\") or token))
    try:
        return re.compile("".join(pieces), re.DOTALL)
    except re.error as error:
        raise exceptions.InvalidArgument(f"Invalid glob '{glob}': {error}") from error


def merge_patch(current: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """JSON merge patch (RFC 7396): mappings merge, None removes, all else replaces."""
    merged = dict(current)
    for key, value in changes.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            inside = merged.get(key)
            merged[key] = merge_patch(inside if isinstance(inside, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def _check_object_name(name: str) -> None:
    # https://cloud.google.com/storage/docs/objects#naming
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise exceptions.InvalidArgument(f"Object name {name!a:.300} is not valid Unicode.") from None
    if not 1 <= size <= _LONGEST_NAME or "\r" in name or "\n" in name:
        raise exceptions.InvalidArgument(
            f"Object name {name!r:.300}: a name has 1 to {_LONGEST_NAME} bytes in UTF-8, and no line breaks."
        )
    parts = name.removesuffix("/").split("/")
    if any(part in ("", ".", "..") or "\0" in part or len(part.encode()) > _LONGEST_FILE_NAME for part in parts):
        raise exceptions.InvalidArgument(
            f"Object name {name!r:.300} cannot be kept as a file: each part between slashes must be a plain file name "
            f"of at most {_LONGEST_FILE_NAME} bytes."
        )


def _files(
    folder: Path, base: str, prefix: str, after: str, markers: set[str]
) -> Iterator[tuple[str, Path, os.stat_result]]:
    """Files whose names begin with the prefix, by name; only folders that can matter are opened."""
    if base and base in markers and base.startswith(prefix):
        yield base, folder, folder.stat()
    try:
        entries = sorted(os.scandir(folder), key=_place_in_order)
    except FileNotFoundError:
        return
    for entry in entries:
        name = base + entry.name
        if entry.is_dir(follow_symlinks=False):
            inside = name + "/"
            if (inside.startswith(prefix) or prefix.startswith(inside)) and (
                inside >= after or after.startswith(inside)
            ):
                yield from _files(Path(entry.path), inside, prefix, after, markers)
        elif name.startswith(prefix) and not entry.is_symlink():
            try:
                found = entry.stat()
            except FileNotFoundError:
                continue
            if modes.S_ISREG(found.st_mode):
                yield name, Path(entry.path), found


def _place_in_order(entry: os.DirEntry[str]) -> str:
    return entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name


def _content_files(folder: Path) -> Iterator[str]:
    """Relative paths of all regular files under a folder, links to files included."""
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            if os.path.isfile(path):
                yield os.path.relpath(path, folder).replace(os.sep, "/")


def _object(bucket: str, name: str, path: Path, found: os.stat_result, row: Any) -> Object:
    generation = row.generation if row is not None and name.endswith("/") else _generation(found)
    current = row is not None and row.generation == generation
    properties = dict(row.properties) if current else {}
    if not properties.get("contentType"):
        properties["contentType"] = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Object(
        bucket=bucket,
        name=name,
        path=path,
        size=0 if name.endswith("/") else found.st_size,
        generation=generation,
        metageneration=row.metageneration if current else 1,
        properties=properties,
    )


def _key(bucket: str, name: str) -> tuple[sa.ColumnElement[bool], ...]:
    return _objects.c.bucket == bucket, _objects.c.name == name


def _is_content(mode: int) -> bool:
    return modes.S_ISREG(mode) or modes.S_ISDIR(mode)


def _generation(found: os.stat_result) -> int:
    return found.st_mtime_ns // 1000


def _condition_not_met() -> exceptions.PreconditionFailed:
    return exceptions.PreconditionFailed("At least one of the pre-conditions you specified did not hold.")
