"""Where raw data is read from: a folder of files, or a folder holding one `source.tar`, read in place."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from images.executor import UserError

TAR = "source.tar"
_READ_AHEAD = 4 << 20  # Headers lie a picture apart: large reads index a tar on a bucket mount in one sweep.


class _Extent(NamedTuple):
    """Where in the tar a file's bytes lie."""

    offset: int
    size: int


class Source:
    """The files of a source by their path inside it, whatever holds them.

    It can be pickled or inherited by a forked process: each process opens the tar for itself.

    Args:
        root: the folder given by the user.

    Raises:
        UserError: `root` is no readable folder, or its tar is damaged or compressed.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            kind = "a file, not a folder" if self.root.exists() else "no such folder"
            raise UserError(f"--source={self.root}: {kind}; give a folder of raw data")
        visible = [entry.name for entry in os.scandir(self.root) if not entry.name.startswith(".")]
        self._tar = self.root / TAR if visible == [TAR] else None
        self._extents: Mapping[str, _Extent | None] = (
            _tar_extents(self._tar) if self._tar else dict.fromkeys(_files(self.root))
        )
        self._opened: tuple[int, int] | None = None

    @property
    def names(self) -> list[str]:
        """Paths of all files inside the source, with `/` between folders, sorted."""
        return sorted(self._extents)

    def __contains__(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return name in self._extents

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """Reads a file, or `size` bytes of it from `offset` on.

        Only what was there when the source was opened can be read: a name with `..` reaches nothing outside.

        Raises:
            FileNotFoundError: there is no file of this name.
        """
        if name not in self._extents:
            raise FileNotFoundError(name)
        extent = self._extents[name]
        if extent is not None:
            rest = max(0, extent.size - offset)
            return _read(self._tar_descriptor(), rest if size is None else min(size, rest), extent.offset + offset)
        descriptor = os.open(f"{self.root}/{name}", os.O_RDONLY)
        try:
            return _read(descriptor, os.fstat(descriptor).st_size if size is None else size, offset)
        finally:
            os.close(descriptor)

    def text(self, name: str) -> str:
        """Reads a text file with any line ends and with or without a byte order mark.

        Bytes that are no UTF-8 become lone surrogates, so that one bad line spoils only itself.
        """
        data = self.read(name)
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            return data.decode("utf-16", errors="replace")
        return data.decode("utf-8-sig", errors="surrogateescape")

    def _tar_descriptor(self) -> int:
        if self._opened is None or self._opened[0] != os.getpid():
            assert self._tar is not None
            self._opened = os.getpid(), os.open(self._tar, os.O_RDONLY)
        return self._opened[1]

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_opened": None}


def _read(descriptor: int, size: int, offset: int) -> bytes:
    """Up to `size` bytes from an offset on. The system gives no more than 2 GB at a time."""
    data = os.pread(descriptor, size, offset)
    while len(data) < size and (more := os.pread(descriptor, size - len(data), offset + len(data))):
        data += more
    return data


def _files(root: Path) -> Iterator[str]:
    pending = [""]
    while pending:
        folder = pending.pop()
        for entry in os.scandir(root / folder):
            if entry.is_dir(follow_symlinks=False):
                pending.append(f"{folder}{entry.name}/")
            elif entry.is_file():
                yield f"{folder}{entry.name}"


def _tar_extents(path: Path) -> dict[str, _Extent]:
    try:
        with open(path, "rb", buffering=_READ_AHEAD) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            return {
                os.path.normpath(member.name): _Extent(member.offset_data, member.size)
                for member in tar
                if member.isreg() and not member.sparse
            }
    except tarfile.TarError as error:
        raise UserError(f"{path}: not a plain tar file ({error}); pack it again, uncompressed") from error
