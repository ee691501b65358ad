"""What is in an artifact's files: listed, recognised by their names and first bytes, and shown by their beginnings.

Files are whatever a task has written. So everything here is bounded, nothing is trusted to be what its name says, and
no path leads out of the artifact's own folder.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from google.api_core import exceptions

from localvertex.buckets import SCHEME, Buckets, split

PICTURE, TABLE, REPORT, TEXT, RECORDS, OTHER = "picture", "table", "report", "text", "records", "other"

PAGE_FILES = 100
MOST_FILES = 5000
"""So many files are looked at to say how many there are and to find what can be shown."""

MOST_SHOWN_BYTES = 32 << 20
"""Of what a browser is given to show; anything can be downloaded."""

_HEAD_BYTES = 64 << 10
_ROWS, _COLUMNS, _CELL = 20, 24, 160
_LINES = 60

_BY_SUFFIX = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".svg"), PICTURE),
    **dict.fromkeys((".csv", ".tsv", ".jsonl", ".ndjson"), TABLE),
    **dict.fromkeys((".html", ".htm"), REPORT),
    **dict.fromkeys((".txt", ".md", ".json", ".yaml", ".yml", ".log", ".toml", ".ini", ".xml"), TEXT),
    **dict.fromkeys((".tfrecord", ".tfrecords"), RECORDS),
}
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
)
_MEDIA = {PICTURE: "application/octet-stream", REPORT: "text/html; charset=utf-8"}


@dataclass(frozen=True)
class File:
    """One file of an artifact.

    Args:
        path: within the artifact's folder; '' when the artifact is one file.
        name: what to call it when it is saved.
        size: bytes.
    """

    path: str
    name: str
    size: int


@dataclass(frozen=True)
class Listing:
    """The files of an artifact, as far as they are counted.

    Args:
        files: in the order of their names.
        more: whether there are more than these.
    """

    files: Sequence[File]
    more: bool = False

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class Table:
    """The beginning of a table: all cells are text.

    Args:
        columns: their names.
        rows: as many as are shown.
        more: whether the file goes on.
        hidden: how many columns are not shown.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    more: bool = False
    hidden: int = 0


class Contents:
    """Reads what artifacts hold.

    Args:
        buckets: where their files are.
    """

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets

    def list(self, uri: str) -> Listing:
        """The files at an artifact's URI; none where it is no place in a bucket, or nothing is there."""
        if not uri.startswith(SCHEME):
            return Listing([])
        try:
            place = self._buckets.path(uri)
            if place.is_file():
                return Listing([File("", place.name, place.stat().st_size)])
            bucket, name = split(uri)
            under = f"{name.rstrip('/')}/" if name.strip("/") else ""
            page = self._buckets.list(bucket, under, limit=MOST_FILES)
        except (exceptions.InvalidArgument, exceptions.NotFound, OSError, ValueError):
            return Listing([])
        files = [File(each.name.removeprefix(under), each.path.name, each.size) for each in page.objects]
        return Listing([file for file in files if not file.path.endswith("/")], bool(page.next_token))

    def path(self, uri: str, path: str) -> Path:
        """Where one file of an artifact lies on disk.

        Args:
            path: within the artifact's folder; '' for an artifact that is one file.

        Raises:
            google.api_core.exceptions.NotFound: there is no such file, or the path leads elsewhere.
        """
        refusal = exceptions.NotFound(f"This artifact has no file {path!r:.300}.")
        try:
            root = self._buckets.path(uri)
            found = self._buckets.path(f"{uri.rstrip('/')}/{path}").resolve() if path else root.resolve()
            if not found.is_relative_to(root.resolve()) or not found.is_file():
                raise refusal
        except (exceptions.InvalidArgument, OSError, ValueError):
            raise refusal from None
        return found


def kind_by_name(name: str) -> str:
    """What a file is shown as, by its name; '' where the name does not tell."""
    name = name.lower()
    return RECORDS if ".tfrecord-" in name else _BY_SUFFIX.get(PurePosixPath(name).suffix, "")


def kind_of(path: Path, schema: str = "") -> str:
    """What a file is shown as: by its name, else by what its artifact is declared to be, else by its first bytes.

    Args:
        schema: the artifact's schema title, such as `system.HTML`.
    """
    if known := kind_by_name(path.name):
        return known
    if schema == "system.HTML":
        return REPORT
    head = _head(path, 4096)
    if media_type(head):
        return PICTURE
    if not head or b"\0" in head:
        return OTHER
    start = head.lstrip()[:15].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return REPORT
    try:
        head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            return OTHER
    return TEXT


def media_type(head: bytes) -> str:
    """The type of a picture by its first bytes; '' where it is none that browsers show."""
    for magic, media in _MAGIC:
        if head.startswith(magic):
            return media
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return ""


def shown_type(path: Path, kind: str) -> str:
    """The media type with which a file is handed to a browser to show it."""
    if kind == PICTURE:
        return "image/svg+xml" if path.suffix.lower() == ".svg" else media_type(_head(path, 16)) or _MEDIA[PICTURE]
    return _MEDIA.get(kind, "text/plain; charset=utf-8")


def text_head(path: Path) -> tuple[str, bool]:
    """The first lines of a text, JSON laid out, and whether it goes on."""
    head = _head(path, _HEAD_BYTES)
    text = head.decode(errors="replace")
    whole = len(head) < _HEAD_BYTES
    if whole and text.lstrip()[:1] in ("{", "["):
        with contextlib.suppress(ValueError, RecursionError):
            text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    lines = text.splitlines()
    shown = "\n".join(line[:400] for line in lines[:_LINES])
    return shown, not whole or len(lines) > _LINES


def table_head(path: Path) -> Table | None:
    """The first rows of a CSV, TSV or JSON Lines file; None where it is no such table."""
    head = _head(path, _HEAD_BYTES)
    whole = len(head) < _HEAD_BYTES
    lines = head.decode(errors="replace").splitlines()
    if not whole:
        lines = lines[:-1]  # which may break off
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return _json_table(lines, whole)
    try:
        rows = list(csv.reader(io.StringIO("\n".join(lines)), delimiter="\t" if suffix == ".tsv" else ","))
    except csv.Error:
        return None
    rows = [row for row in rows if row]
    if not rows:
        return None
    return _table(rows[0], rows[1:], whole)


def _json_table(lines: Sequence[str], whole: bool) -> Table | None:
    entries = []
    for line in lines[: _ROWS + 1]:
        try:
            entries.append(json.loads(line))
        except (ValueError, RecursionError):
            return None
    entries = [each if isinstance(each, dict) else {"": each} for each in entries]
    if not entries:
        return None
    columns = list(dict.fromkeys(key for entry in entries for key in entry))
    rows = [[_cell(entry[key]) if key in entry else "" for key in columns] for entry in entries]
    return _table(columns, rows, whole and len(lines) <= len(entries))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], whole: bool) -> Table:
    width = max(len(columns), *map(len, rows[:_ROWS])) if rows else len(columns)
    named = [*columns, *[""] * (width - len(columns))]
    filled = [[*row, *[""] * (width - len(row))] for row in rows[:_ROWS]]
    return Table(
        columns=[_short(name) for name in named[:_COLUMNS]],
        rows=[[_short(cell) for cell in row[:_COLUMNS]] for row in filled],
        more=not whole or len(rows) > _ROWS,
        hidden=max(0, width - _COLUMNS),
    )


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(text: str) -> str:
    return text if len(text) <= _CELL else text[: _CELL - 1] + "…"


def _head(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


def pieces(path: Path, size: int = 1 << 20) -> Iterator[bytes]:
    """A file's bytes, piece by piece."""
    # Not what a link points to that somebody has put there since it was looked at.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        while piece := file.read(size):
            yield piece
