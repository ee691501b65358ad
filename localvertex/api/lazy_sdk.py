"""Import the SDK's messages and transports without its sixty clients: half a second, not four.

`google.cloud.aiplatform_v1` declares its parts lazy, which Pythons before 3.15 do not heed. Here its packages
start empty: a submodule asked for by name is imported alone, only another name runs the package's `__init__`.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

PACKAGES = ("google.cloud.aiplatform_v1", "google.cloud.resourcemanager_v3")


def install() -> None:
    """From now on in this process, load these packages and those under them lazily."""
    if not any(isinstance(finder, _LazyPackages) for finder in sys.meta_path):
        sys.meta_path.insert(0, _LazyPackages())


class _LazyPackages(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(PACKAGES):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.submodule_search_locations is None or spec.loader is None:
            return None
        spec.loader = _LazyPackageLoader(spec.loader)
        return spec


class _LazyPackageLoader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def exec_module(self, module: ModuleType) -> None:
        loader = self._loader

        def load_name(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            qualified = f"{module.__name__}.{name}"
            if importlib.util.find_spec(qualified) is not None:
                return importlib.import_module(qualified)
            if module.__name__ in PACKAGES and hasattr(messages := load_name("types"), name):
                return getattr(messages, name)
            del module.__dict__["__getattr__"]
            loader.exec_module(module)
            return getattr(module, name)

        module.__dict__["__getattr__"] = load_name
