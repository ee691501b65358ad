"""Runs at the start of every Python process of a workload: makes kfp, GCPC and pip work without a container.

Nothing is imported before the program itself imports it, so that Python starts as fast as without.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_POLL = {"_POLLING_INTERVAL_IN_SECONDS": 1}
_GCPC = "google_cloud_pipeline_components.container.v1."


def _constants() -> Mapping[str, Mapping[str, object]]:
    """Module -> constants to change in it."""
    folders = {"_GCS_LOCAL_MOUNT_PREFIX": os.environ.get("LOCALVERTEX_GCS_MOUNT", "/gcs") + "/"}
    if "LOCALVERTEX_WORKSPACE" in os.environ:
        folders["WORKSPACE_MOUNT_PATH"] = os.environ["LOCALVERTEX_WORKSPACE"]
    return {
        "kfp.dsl.types.artifact_types": folders,
        _GCPC + "gcp_launcher.job_remote_runner": _POLL,
        _GCPC + "gcp_launcher.lro_remote_runner": _POLL,
        _GCPC + "wait_gcp_resources.remote_runner": _POLL,
    }


class _SetAfterImport:
    """Finder that lets the next finders find a module and sets constants in it once it is loaded."""

    def __init__(self, constants: Mapping[str, Mapping[str, object]]) -> None:
        self._constants = constants

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._constants:
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_set(module: ModuleType) -> None:
            execute(module)
            for constant, value in self._constants[name].items():
                if hasattr(module, constant):
                    setattr(module, constant, value)

        spec.loader.exec_module = execute_and_set  # type: ignore[method-assign]
        return spec


def _prepare_pip() -> None:
    """Ends `python -m pip install REQUIREMENT…` at once if all of it is there; else lets it out to package indexes."""
    words = sys.orig_argv[1:]
    if words[:3] != ["-m", "pip", "install"]:
        return
    if _satisfied(words[3:]):
        os._exit(0)
    import json

    for name, value in json.loads(os.environ.get("LOCALVERTEX_OUTSIDE", "{}")).items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _satisfied(words: Sequence[str]) -> bool:
    try:
        from importlib.metadata import PackageNotFoundError, version

        from packaging.requirements import InvalidRequirement, Requirement
    except ImportError:
        return False
    quiet = {"--quiet", "--no-warn-script-location", "--no-deps", "--disable-pip-version-check"}
    try:
        wanted = [Requirement(word) for word in words if word not in quiet]
        return all(
            not each.url and each.specifier.contains(version(each.name), prereleases=True)
            for each in wanted
            if each.marker is None or each.marker.evaluate()
        )
    except (InvalidRequirement, PackageNotFoundError):
        return False


def _run_hidden() -> None:
    """Runs the sitecustomize that this one hides, if there is one."""
    here = os.path.dirname(os.path.abspath(__file__))
    for folder in sys.path:
        file = os.path.join(folder, "sitecustomize.py")
        if os.path.abspath(folder) != here and os.path.isfile(file):
            import runpy

            runpy.run_path(file)
            return


sys.meta_path.insert(0, _SetAfterImport(_constants()))
_prepare_pip()
_run_hidden()
