"""Places a folder in the bucket under the hash of its content: only changed data has a new URI."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from pipelines import UserError

ARCHIVE = "source.tar"


def files(folder: Path) -> list[Path]:
    """All regular files in a folder and below, without hidden ones, in a fixed order.

    Raises:
        UserError: there is no such folder, or it is empty.
    """
    if not folder.is_dir():
        raise UserError(f"DATA={folder}: no such folder")
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    found = sorted(path for path in found if path.is_file())
    if not found:
        raise UserError(f"DATA={folder}: no file in this folder")
    return found


def digest(folder: Path) -> str:
    """32 hexadecimal digits that depend on the names and contents of a folder's files, and on nothing else.

    Raises:
        UserError: there is no such folder, it is empty, or a file in it cannot be read.
    """
    whole = hashlib.sha256()
    for path in files(folder):
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UserError(f"DATA={folder}: cannot read {path}: {error.strerror}") from None
        whole.update(f"{content}  {path.relative_to(folder).as_posix()}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()[:32]


def pack(folder: Path, archive: Path) -> None:
    """Writes a folder's files to an uncompressed tar that is the same for the same names and contents."""
    with tarfile.open(archive, "w") as tar:
        for path in files(folder):
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.size, entry.mode = path.stat().st_size, 0o644
            with path.open("rb") as content:
                tar.addfile(entry, content)


def place(folder: Path, bucket: str, location: str, system: str, client: Any) -> str:
    """Uploads a folder as one archive unless its content is there already.

    Args:
        folder: the data.
        bucket: its name; made when it is missing.
        location: region to make it in.
        system: part of the destination.
        client: `google.cloud.storage.Client`.

    Returns:
        `gs://<bucket>/data/<system>/<digest>`, the folder that holds the archive.
    """
    from google.api_core.exceptions import Conflict

    prefix = f"data/{system}/{digest(folder)}"
    target = client.bucket(bucket)
    if not target.exists():
        # A run that begins at the same moment may make it first.
        with contextlib.suppress(Conflict):
            client.create_bucket(bucket, location=location)
    blob = target.blob(f"{prefix}/{ARCHIVE}")
    if not blob.exists():
        print(f"placing {folder} in gs://{bucket}/{prefix}", flush=True)
        with tempfile.TemporaryDirectory() as aside:
            archive = Path(aside, ARCHIVE)
            pack(folder, archive)
            blob.upload_from_filename(str(archive), content_type="application/x-tar")
    return f"gs://{bucket}/{prefix}"


def read(client: Any, uri: str) -> bytes:
    """The content of one object, given as gs:// URI."""
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    return bytes(client.bucket(bucket).blob(name).download_as_bytes())
