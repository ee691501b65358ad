"""The image table: which interpreter, folder and serving command stand in for a container image.

Known without a file are the images that Google publishes: of Google Cloud Pipeline Components, whose commands run as
they are, and Vertex AI's pre-built prediction images
(https://cloud.google.com/vertex-ai/docs/predictions/pre-built-containers).
"""

from __future__ import annotations

import fnmatch
import os
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from localvertex.workloads import WorkloadError

FILE_NAME = "localvertex.toml"
LOCATION_VARIABLE = "LOCALVERTEX_IMAGES"
_FIELDS = {"pattern", "python", "workdir", "serve", "build"}
_PREBUILT_SERVER = str(Path(__file__).with_name("prebuilt_server.py"))
_BUILT_IN = {
    "gcr.io/ml-pipeline/google-cloud-pipeline-components:*": "",
    "*-docker.pkg.dev/vertex-ai/prediction/tf*": "tensorflow",
    "*-docker.pkg.dev/vertex-ai-restricted/prediction/tf*": "tensorflow",
    "gcr.io/cloud-aiplatform/prediction/tf*": "tensorflow",
    "*-docker.pkg.dev/vertex-ai/prediction/sklearn-*": "sklearn",
    "gcr.io/cloud-aiplatform/prediction/sklearn-*": "sklearn",
}
"""Patterns of images, and the framework that an image serves."""


class _HasPath(Protocol):
    @property
    def path(self) -> Path: ...


@dataclass(frozen=True)
class Entry:
    """What runs in place of the images whose name matches a pattern.

    Args:
        pattern: shell-style pattern over the full image name, such as `*/trainer:*`.
        python: interpreter that `python` and `python3` mean.
        workdir: folder that the process starts in.
        serve: command of a prediction server, for images that are deployed without one.
        build: what a person types to make the image itself, for containers.
    """

    pattern: str
    python: Path
    workdir: Path
    serve: tuple[str, ...] = ()
    build: str = ""


class ImageTable:
    """The entries of a `localvertex.toml` in order, then those built in; the first that matches decides.

    Args:
        entries: from the file.
        workdir: where the processes of other images start.
    """

    def __init__(self, entries: Sequence[Entry], workdir: Path) -> None:
        self.entries = tuple(entries)
        self._built_in = [_built_in(pattern, framework, workdir) for pattern, framework in _BUILT_IN.items()]
        self._default = Entry("*", Path(sys.executable), workdir)

    @classmethod
    def load(cls, home: _HasPath) -> ImageTable:
        """Read the state folder's table.

        Raises:
            WorkloadError: the file is missing where the variable says, is not TOML, or has an unknown or bad field.
        """
        file = find_table(home)
        return cls.read(file) if file else cls((), home.path.resolve().parent)

    @classmethod
    def read(cls, file: Path) -> ImageTable:
        """The table in a file; paths in it are relative to the file.

        Raises:
            WorkloadError: it is not TOML, or has an unknown or bad field.
        """
        folder = file.resolve().parent
        try:
            content = tomllib.loads(file.read_text())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise WorkloadError(f"{file}: not valid TOML: {error}") from error
        unknown = sorted(set(content) - {"image"})
        if unknown:
            raise WorkloadError(f"{file}: unknown table '{unknown[0]}'; the file has [[image]] tables only.")
        rows = content.get("image", [])
        if not isinstance(rows, list):
            raise WorkloadError(f"{file}: write [[image]] (an array of tables), not [image].")
        return cls([_entry(row, folder, f"{file}: image {index + 1}") for index, row in enumerate(rows)], folder)

    def entry(self, image: str) -> Entry:
        """What runs in place of an image: the first matching entry, else the interpreter localvertex runs in.

        An entry of the file without a serving command keeps the one that the image has built in.
        """
        built_in = _first(self._built_in, image) or self._default
        found = _first(self.entries, image) or built_in
        return found if found.serve else replace(found, serve=built_in.serve)

    def is_published(self, image: str) -> bool:
        """Whether it is one of Google's, which localvertex stands in for."""
        return _first(self._built_in, image) is not None


def find_table(home: _HasPath) -> Path | None:
    """The file `$LOCALVERTEX_IMAGES`, else the `localvertex.toml` in the state folder, else the one beside it.

    Raises:
        WorkloadError: the file is missing where the variable says.
    """
    named = os.environ.get(LOCATION_VARIABLE)
    if named and not Path(named).is_file():
        raise WorkloadError(f"{LOCATION_VARIABLE} names {named}, which is not a file.")
    candidates = [Path(named)] if named else [home.path / FILE_NAME, home.path.resolve().parent / FILE_NAME]
    return next((file.resolve() for file in candidates if file.is_file()), None)


def _first(entries: Sequence[Entry], image: str) -> Entry | None:
    return next((entry for entry in entries if fnmatch.fnmatchcase(image, entry.pattern)), None)


def _built_in(pattern: str, framework: str, workdir: Path) -> Entry:
    serve = ("python", _PREBUILT_SERVER, framework) if framework else ()
    return Entry(pattern, Path(sys.executable), workdir, serve)


def _entry(row: dict[str, Any], folder: Path, where: str) -> Entry:
    for name in sorted(set(row) - _FIELDS):
        raise WorkloadError(f"{where}: unknown field '{name}'; known are {', '.join(sorted(_FIELDS))}.")
    for name in ("pattern", "python", "workdir", "build"):
        if not isinstance(row.get(name, ""), str):
            raise WorkloadError(f"{where}: field '{name}' must be a string.")
    serve = row.get("serve", [])
    if not isinstance(serve, list) or not all(isinstance(part, str) for part in serve):
        raise WorkloadError(f"{where}: field 'serve' must be a list of strings.")
    if not row.get("pattern"):
        raise WorkloadError(f"{where}: field 'pattern' is missing.")
    # Not resolved: a virtual environment's interpreter is a link, and following it leaves the environment.
    python = Path(os.path.normpath(folder / row["python"])) if "python" in row else Path(sys.executable)
    return Entry(row["pattern"], python, folder / row.get("workdir", "."), tuple(serve), row.get("build", ""))
