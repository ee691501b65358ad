"""Checksums of files in buckets, read anew only when a file has changed."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import sqlalchemy as sa

from localvertex.store import Store, tables

BLOCK = 1 << 20

# A file may change again within the tick of the clock that stamped it: younger checksums are not kept.
_SETTLED_SECONDS = 2.0

_checksums = sa.Table(
    "checksums",
    tables,
    sa.Column("bucket", sa.String, primary_key=True),
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("signature", sa.String, nullable=False),
    sa.Column("md5", sa.String, nullable=False),
    sa.Column("crc32c", sa.String, nullable=False),
    sa.Column("sha256", sa.String, nullable=False),
)


@dataclass(frozen=True)
class Checksums:
    """Of one file's content: MD5 and CRC32C in base64 as Cloud Storage writes them, SHA-256 in hex."""

    md5: str
    crc32c: str
    sha256: str


class Hashing:
    """Checksums of content that arrives piece by piece."""

    def __init__(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()
        self._crc32c = 0

    def update(self, piece: bytes) -> None:
        """Take in the next piece."""
        self._md5.update(piece)
        self._sha256.update(piece)
        self._crc32c = google_crc32c.extend(self._crc32c, piece)

    def result(self) -> Checksums:
        """The checksums of everything taken in."""
        return Checksums(
            md5=base64.b64encode(self._md5.digest()).decode(),
            crc32c=base64.b64encode(self._crc32c.to_bytes(4, "big")).decode(),
            sha256=self._sha256.hexdigest(),
        )


class ChecksumCache:
    """Checksums by bucket and object name, each kept with the signature of the file it was read from.

    Args:
        store: where they are kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def of(self, bucket: str, files: Mapping[str, Path], under: str | None = None) -> dict[str, Checksums]:
        """Checksums of files by object name.

        Args:
            files: object name -> path.
            under: the prefix that all names share, if they are everything under a folder.
        """
        known = self._known(bucket, files, under)
        result, fresh = {}, {}
        for name, path in files.items():
            signature, kept = known.get(name, ("", None))
            if kept is not None and signature == _signature(path.stat()):
                result[name] = kept
                continue
            signature, result[name] = _read_settled(path)
            if signature:
                fresh[name] = (signature, result[name])
        self._keep(bucket, fresh)
        return result

    def keep(self, bucket: str, name: str, path: Path, checksums: Checksums) -> None:
        """Remember what was computed while the file was written."""
        self._keep(bucket, {name: (_signature(path.stat()), checksums)})

    def forget(self, bucket: str, name: str) -> None:
        """Drop what is known of a deleted file."""
        with self._store.write() as connection:
            connection.execute(_checksums.delete().where(_checksums.c.bucket == bucket, _checksums.c.name == name))

    def _known(self, bucket: str, files: Mapping[str, Path], under: str | None) -> dict[str, tuple[str, Checksums]]:
        query = sa.select(_checksums).where(_checksums.c.bucket == bucket)
        if under is None:
            query = query.where(_checksums.c.name.in_(list(files)))
        elif under:
            query = query.where(_checksums.c.name.startswith(under, autoescape=True))
        with self._store.read() as connection:
            rows = connection.execute(query).all()
        return {row.name: (row.signature, Checksums(row.md5, row.crc32c, row.sha256)) for row in rows}

    def _keep(self, bucket: str, fresh: Mapping[str, tuple[str, Checksums]]) -> None:
        if not fresh:
            return
        rows = [
            {"bucket": bucket, "name": name, "signature": signature, **vars(checksums)}
            for name, (signature, checksums) in fresh.items()
        ]
        replaced = _checksums.delete().where(
            _checksums.c.bucket == bucket, _checksums.c.name == sa.bindparam("of_name")
        )
        with self._store.write() as connection:
            connection.execute(replaced, [{"of_name": name} for name in fresh])
            connection.execute(_checksums.insert(), rows)


def checksum_file(path: Path) -> Checksums:
    """Read a file's checksums."""
    hashing = Hashing()
    with path.open("rb") as file:
        while piece := file.read(BLOCK):
            hashing.update(piece)
    return hashing.result()


def folder_digest(digests: Mapping[str, str]) -> str:
    """SHA-256 in hex over files' digests by relative path, in the order of the paths."""
    lines = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()


def _read_settled(path: Path) -> tuple[str, Checksums]:
    """Checksums with the signature of their file; no signature if the file may still be changing."""
    before = path.stat()
    checksums = checksum_file(path)
    settled = time.time() - before.st_ctime > _SETTLED_SECONDS
    signature = _signature(before)
    return signature if settled and signature == _signature(path.stat()) else "", checksums


def _signature(found: os.stat_result) -> str:
    # Programs cannot set the change time, so a file rewritten under its old modification time still shows.
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"
