"""Names of container images, tagged by a hash of what the stage runs: its code decides its cache key."""

import dataclasses
import functools
import hashlib
import importlib.util
from pathlib import Path

import grimp

PACKAGE = "images"


@dataclasses.dataclass(frozen=True)
class Stage:
    """What a stage runs.

    Attributes:
        image: the folder in `images/` with its Dockerfile and requirements.
        modules: where execution starts.
        roles: modules of `images.trainer.systems.<system>` that it loads by name, with no
            import statement to show it.
    """

    image: str
    modules: tuple[str, ...]
    roles: tuple[str, ...] = ()


STAGES = {
    "ingest": Stage("trainer", ("images.trainer.ingest",), ("data",)),
    "tune": Stage("launcher", ("images.launcher.tune",), ("hyperparameters",)),
    "cross_validate": Stage(
        "trainer", ("images.trainer.cross_validate",), ("baselines", "hyperparameters", "metrics", "model")
    ),
    "compare": Stage("trainer", ("images.trainer.compare",)),
    "skew": Stage("trainer", ("images.trainer.skew",), ("data",)),
    "preset": Stage("trainer", ("images.trainer.preset",), ("hyperparameters",)),
    "trial": Stage("trainer", ("images.trainer.trial",), ("hyperparameters", "model", "metrics")),
    "train": Stage("trainer", ("images.trainer.train",), ("hyperparameters", "model", "metrics")),
    "place": Stage("trainer", ("images.trainer.place",)),
    "follow": Stage("trainer", ("images.trainer.follow",), ("hyperparameters", "model", "metrics", "report")),
    "evaluate": Stage("trainer", ("images.trainer.evaluate",), ("hyperparameters", "model", "metrics", "report")),
    "accelerators": Stage("trainer", ("images.trainer.accelerators",), ("hyperparameters", "model", "metrics")),
    "export": Stage("trainer", ("images.trainer.export",), ("hyperparameters", "model", "serving")),
    "challenge": Stage("trainer", ("images.trainer.challenge",), ("hyperparameters", "metrics", "model", "release")),
    "champion": Stage("launcher", ("images.launcher.champion",)),
    "deploy": Stage("launcher", ("images.launcher.deploy",)),
    "snapshot": Stage("launcher", ("images.launcher.snapshot",)),
    "requests": Stage("launcher", ("images.launcher.requests_log",)),
    "notify": Stage("launcher", ("images.launcher.notify",)),
    "serve": Stage("server", ("images.server", "images.server.__main__")),
}


@dataclasses.dataclass(frozen=True)
class Images:
    """The images of one system's stages.

    Args:
        registry: Artifact Registry repository, such as `europe-docker.pkg.dev/my-project/pipelines`.
        system: a folder of `images/trainer/systems`, such as `crnn`.
    """

    registry: str
    system: str

    def __getitem__(self, stage: str) -> str:
        """The full name `<registry>/<image>:<system>-<stage>-<12 hex>` of a stage's image."""
        return f"{self.registry}/{STAGES[stage].image}:{self.system}-{stage}-{digest(self.system, stage)[:12]}"


def digest(system: str, stage: str) -> str:
    """SHA-256 over the names and contents of everything that decides what a stage does.

    Raises:
        KeyError: no such stage.
        FileNotFoundError: a file that the stage table promises is not there.
    """
    root = _package_folder().parent
    names = (path.relative_to(root).as_posix() for path in files(system, stage))
    lines = (f"{hashlib.sha256((root / name).read_bytes()).hexdigest()}  {name}\n" for name in sorted(names))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def files(system: str, stage: str) -> set[Path]:
    """The Dockerfile, the requirements and the import closure of a stage."""
    entry = STAGES[stage]
    modules = {*entry.modules, *(f"{PACKAGE}.trainer.systems.{system}.{role}" for role in entry.roles)}
    folder = _package_folder() / entry.image
    return {folder / "Dockerfile", *folder.glob("requirements*.txt"), *map(_file, closure(modules))}


def closure(modules: set[str]) -> set[str]:
    """These modules, all of ours that they import, and the packages these are in, which Python imports first.

    Raises:
        FileNotFoundError: a module is not in the package.
    """
    graph = _graph()
    for module in sorted(modules - graph.modules):
        raise FileNotFoundError(f"module {module} is in the stage table of {__name__} but not in {_package_folder()}")
    waiting, found = set(modules), set()
    while waiting:
        found.add(name := waiting.pop())
        waiting |= {name.rpartition(".")[0], *graph.find_modules_directly_imported_by(name)} - {""} - found
    return found


def _file(module: str) -> Path:
    path = _package_folder().parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@functools.cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph(PACKAGE, cache_dir=None)


@functools.cache
def _package_folder() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"package {PACKAGE} is not importable: run from the repository's root")
    return Path(next(iter(spec.submodule_search_locations))).resolve()
