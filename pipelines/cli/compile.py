"""Compiles a pipeline to the JSON that Vertex Pipelines executes, unless it is there and still right."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines import UserError
from pipelines.settings.schema import nearest

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
COMPILERS = ("kfp", "google-cloud-pipeline-components")


PARTS = ("monitor", "release")
"""Modules of `pipelines/` that pipelines have in common."""


def names() -> list[str]:
    """All pipelines: the modules directly in `pipelines/`."""
    found = (path.stem for path in (ROOT / "pipelines").glob("*.py"))
    return sorted(name for name in found if name not in PARTS and not name.startswith("_"))


def systems() -> list[str]:
    """The systems that have a pipeline, which is named as they are; others are of the same systems."""
    return [name for name in names() if (ROOT / "images" / "trainer" / "systems" / name).is_dir()]


def check_name(pipeline: str, origin: str = "PIPELINE=") -> None:
    """Raises UserError if there is no such pipeline.

    Args:
        pipeline: what a person wrote.
        origin: what stands before it where it was written, for the message.
    """
    if pipeline not in names():
        raise UserError(f"{origin}{pipeline}: no such pipeline{nearest(pipeline, names())}")


def compiled(pipeline: str) -> Path:
    """Gives the compiled pipeline, compiling it only when something that it is made from has changed.

    Args:
        pipeline: a module of `pipelines/`, which holds a pipeline function of the same name.

    Returns:
        `build/<pipeline>.json`.

    Raises:
        UserError: there is no such pipeline.
    """
    check_name(pipeline)
    output, note = BUILD / f"{pipeline}.json", BUILD / f"{pipeline}.json.made-from"
    made_from = _inputs_digest()
    if not (output.exists() and note.exists() and note.read_text() == f"{made_from} {_sha256(output)}"):
        print(f"compiling {pipeline}", flush=True)
        write(pipeline, output)
        _replace(note, f"{made_from} {_sha256(output)}".encode())
    return output


def write(pipeline: str, output: Path) -> None:
    """Compiles a pipeline into a file, which is whole or not there.

    Args:
        pipeline: a module of `pipelines/`.
        output: the JSON file.

    Raises:
        UserError: code that the pipeline runs is missing or is no Python.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from grimp.exceptions import GrimpException
        from kfp import compiler

        try:
            function = getattr(importlib.import_module(f"pipelines.{pipeline}"), pipeline)
        except (GrimpException, SyntaxError, FileNotFoundError) as error:
            raise UserError(f"{pipeline} does not compile: {error}") from error
        output.parent.mkdir(parents=True, exist_ok=True)
        aside = output.with_name(f".{output.stem}.partial-{os.getpid()}.json")
        try:
            compiler.Compiler().compile(function, package_path=str(aside))
            _replace(output, aside.read_bytes())
        finally:
            aside.unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any]:
    """Reads a compiled pipeline."""
    spec: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return spec


def interface(spec: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """The parameters that a compiled pipeline takes, by name."""
    parameters: Mapping[str, Mapping[str, Any]] = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    return parameters


def _inputs_digest() -> str:
    """SHA-256 of all that can change a compiled pipeline: code, images, build settings and the compilers."""
    versions = "".join(f"{name}=={importlib.metadata.version(name)}\n" for name in COMPILERS)
    files = "".join(f"{_sha256(path)}  {path.relative_to(ROOT).as_posix()}\n" for path in sorted(_inputs()))
    return hashlib.sha256((versions + files).encode()).hexdigest()


def _inputs() -> Iterator[Path]:
    yield from (ROOT / "pipelines").glob("*.py")
    yield from (ROOT / "pipelines" / "settings").glob("*.py")
    yield ROOT / "pipelines" / "settings" / "build.yaml"
    yield ROOT / "pipelines" / "settings" / "prices.yaml"
    yield from (ROOT / "components").rglob("*.py")
    yield from (ROOT / "images").rglob("*.py")
    yield from (ROOT / "images").glob("*/Dockerfile")
    yield from (ROOT / "images").glob("*/requirements*.txt")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _replace(path: Path, content: bytes) -> None:
    aside = path.with_name(f"{path.name}.partial-{os.getpid()}")
    aside.write_bytes(content)
    os.replace(aside, path)
