"""Says what a pipeline is to do, and holds a run of it against that."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from kfp import compiler

from tests.localvertex.engine.support import Bench, Result


class Conformance:
    """Runs pipelines on a fresh engine.

    Args:
        bench: the engine.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def __call__(
        self,
        pipeline: Any,
        *,
        ran: str,
        states: Mapping[str, str] | None = None,
        outputs: Mapping[str, Any] | None = None,
        ends: str = "SUCCEEDED",
        parameters: dict[str, Any] | None = None,
        **config: Any,
    ) -> Result:
        """Run a pipeline and assert all that it does.

        Args:
            pipeline: a pipeline function, or a PipelineSpec.
            ran: paths of the tasks whose containers ran, once per attempt.
            states: states by path of all other tasks, and of those that did not succeed. The DAGs and loops around the
                tasks that ran need not be named if they succeeded.
            outputs: the pipeline's; a file stands for its text, a folder for the texts of its files by name.
            ends: state of the run.
            parameters: of the run.
            config: further fields of the runtime configuration.
        """
        spec = pipeline if isinstance(pipeline, dict) else compiled(pipeline, self.bench.folder)
        result = self.bench.run(spec, parameters=parameters, **config)
        told = f"{result.job.error.message} {result.states}"
        expected = {path: "SUCCEEDED" for task in ran.split() for path in _with_parents(task)}
        assert result.states == {**expected, **(states or {})}, told
        assert sorted(name.replace(".", "/") for name in result.executed()) == sorted(ran.split()), told
        assert result.state == ends, told
        assert self.outputs(spec, result) == (outputs or {})
        return result

    def seen(self, place: str) -> str:
        """Where a task finds what is at `gs://<place>`."""
        return self.bench.runner.path(self.bench.home.gcs.resolve() / place, "any:1")

    def shared(self) -> str:
        """A folder that outlives tasks, as they find it."""
        (self.bench.home.gcs / "shared").mkdir(exist_ok=True)
        return self.seen("shared")

    def outputs(self, spec: Mapping[str, Any], result: Result) -> dict[str, Any]:
        """The pipeline's outputs, with files read."""
        if not result.records[""].outputs:
            return {}
        found = {name: result.output("", name) for name in _declared(spec, "parameters") if result.has_output("", name)}
        for name, declared in _declared(spec, "artifacts").items():
            contents = [_content(self.bench.buckets.path(item["uri"])) for item in result.artifacts("", name)]
            found[name] = contents if declared.get("isArtifactList") else contents[0]
        return found


def compiled(pipeline: Any, folder: Path) -> dict[str, Any]:
    """The pipeline as the compiler writes it; what it says about one platform, in a second document, is added."""
    file = folder / "pipeline.yaml"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiler.Compiler().compile(pipeline, str(file))
    documents = yaml.load_all(file.read_text(), Loader=yaml.CSafeLoader)
    return {field: part for document in documents for field, part in document.items()}


def _declared(spec: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    declared: Mapping[str, Any] = spec["root"].get("outputDefinitions", {}).get(kind, {})
    return declared


def _with_parents(path: str) -> list[str]:
    return [path, *(str(parent) for parent in PurePosixPath(path).parents if parent.name)]


def _content(path: Path) -> Any:
    if path.is_dir():
        return {file.relative_to(path).as_posix(): file.read_text() for file in path.rglob("*") if file.is_file()}
    return path.read_text()
