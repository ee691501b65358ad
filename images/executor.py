"""How a stage meets its caller: one clear message for a mistake, outputs that are whole, metadata for KFP."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn


class UserError(Exception):
    """A mistake of the person who called: the message says what is wrong, where, and what to do."""


def run(main: Callable[[Sequence[str]], None]) -> NoReturn:
    """Runs a stage's `main` on the command line and ends the process.

    Args:
        main: takes the arguments without the program's name; raises `UserError` for a mistake of the caller.

    Exits with 0, or with 2 and one line on stderr after a `UserError`.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)


@contextlib.contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a path aside to write a file or a folder to; it takes its name only when it is whole.

    Args:
        path: where the finished file or folder is to be. What stands there is replaced.

    Yields:
        `<path>.partial-<pid>`, not yet there; its parent is. Removed if the block raises.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    for left_over in target.parent.glob(f"{target.name}.partial-*"):
        remove(left_over)
    aside = target.with_name(f"{target.name}.partial-{os.getpid()}")
    try:
        yield aside
        if aside.is_dir():
            remove(target)
            _rename_folder(aside, target)
        else:
            os.replace(aside, target)
    except BaseException:
        remove(aside)
        raise


def _rename_folder(aside: Path, target: Path) -> None:
    try:
        os.rename(aside, target)
    except OSError:  # A bucket mount refuses to rename a folder that is not empty: objects have no folders.
        shutil.copytree(aside, target)
        shutil.rmtree(aside)


def remove(path: Path) -> None:
    """Removes a file or a folder with all that is in it; nothing there is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, or of a folder's listing: `<sha256>  <relative path>` lines sorted by path.

    Args:
        path: a file or a folder. Names, times and places outside the folder do not count.

    Returns:
        64 hexadecimal digits.

    Raises:
        UserError: there is nothing at `path`.
    """
    root = Path(path)
    if root.is_file():
        return _file_digest(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such file or folder")
    files = sorted((file.relative_to(root).as_posix(), file) for file in root.rglob("*") if file.is_file())
    listing = "".join(f"{_file_digest(file)}  {name}\n" for name, file in files)
    return hashlib.sha256(listing.encode()).hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ExecutorOutput:
    """Metadata of a task's output artifacts, in KFP's executor_output.json.

    Args:
        executor_input: KFP's ExecutorInput as JSON (what `{{$}}` becomes), or None or "" when a person calls
            the stage by hand: then nothing is written.

    Raises:
        UserError: the text is not an ExecutorInput.

    Source: github.com/kubeflow/pipelines api/v2alpha1/pipeline_spec.proto, ExecutorInput and ExecutorOutput.
    """

    def __init__(self, executor_input: str | None) -> None:
        self._file: Path | None = None
        self._declared: dict[str, dict[str, Any]] = {}
        self._logged: dict[str, dict[str, Any]] = {}
        if not executor_input:
            return
        try:
            outputs = json.loads(executor_input)["outputs"]
            self._file = Path(outputs["outputFile"])
            self._declared = {name: entry["artifacts"][0] for name, entry in outputs.get("artifacts", {}).items()}
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise UserError(f"--executor_input: not a KFP ExecutorInput ({error!r}); leave it out by hand") from error

    def log(self, artifact_name: str, uri: str | None = None, **metadata: Any) -> None:
        """Adds metadata to one output artifact; a later value of the same key wins.

        Args:
            artifact_name: the output's name in the component.
            uri: where the artifact is, when it is not where KFP put it.
            **metadata: JSON values.

        Raises:
            KeyError: the component declares no such output.
        """
        if self._file is None:
            return
        if artifact_name not in self._declared:
            raise KeyError(f"no output artifact {artifact_name!r}; declared: {', '.join(self._declared) or 'none'}")
        declared = self._declared[artifact_name]
        logged = self._logged.setdefault(
            artifact_name, {"name": declared.get("name", ""), "uri": declared.get("uri", ""), "metadata": {}}
        )
        if uri is not None:
            logged["uri"] = uri
        logged["metadata"].update(metadata)

    def write(self) -> None:
        """Writes executor_output.json at once and whole; does nothing when a person called the stage."""
        if self._file is None:
            return
        artifacts = {name: {"artifacts": [artifact]} for name, artifact in self._logged.items()}
        with whole(self._file) as aside:
            aside.write_text(json.dumps({"artifacts": artifacts}, allow_nan=False))
