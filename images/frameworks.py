"""TensorFlow and Keras, imported without packages that they look for and that nothing here uses through them.

Where scikit-learn, matplotlib, pandas or JAX are installed, Keras and TensorFlow import them for wrappers, galleries
and converters; where they are not, both do without. That takes about as long as all the rest of the import, and each
stage is a process of its own.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_FRAMEWORKS = frozenset({"tensorflow", "keras"})
_LOOKED_FOR = frozenset({"sklearn", "matplotlib", "pandas", "jax"})


def import_lean() -> None:
    """From now on, let TensorFlow and Keras find none of the others while they are imported.

    Afterwards these can be imported as ever. JAX is left to Keras where it is the backend.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _FRAMEWORKS:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec and spec.loader:
            spec.loader.exec_module = partial(_execute, spec.loader.exec_module)  # type: ignore[method-assign]
        return spec


def _execute(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    absent = _LOOKED_FOR - sys.modules.keys() - {os.environ.get("KERAS_BACKEND")}
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # importing what is None here fails
    collected = gc.isenabled()
    gc.disable()  # all that is made here stays
    try:
        execute(module)
    finally:
        for name in absent:
            del sys.modules[name]
        if collected:
            gc.freeze()
            gc.enable()
