"""Protects the arrows: pipelines -> components -> (by name only) images; localvertex apart."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("pipelines", "components", "images", "localvertex")
MAY_IMPORT = {
    "pipelines": {"pipelines", "components"},
    "components": {"components"},
    "images": {"images"},
    "localvertex": {"localvertex"},
}
HEAVY = ("tensorflow", "keras", "google.cloud", "kfp", "matplotlib", "pandas", "sklearn", "optuna")


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imports(path: Path, only_at_start: bool = False) -> Iterator[str]:
    """Full names of what a module imports; with `only_at_start`, without what its functions import."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in walk(tree) if only_at_start else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).with_suffix("").parts[: -node.level] if node.level else ()
            base = ".".join((*package, *([node.module] if node.module else [])))
            yield from (f"{base}.{alias.name}" for alias in node.names)


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported: not the bodies of functions, nor what only type checkers read."""
    for child in ast.iter_child_nodes(node):
        checked = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not checked and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from walk(child)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_one_way(room: str) -> None:
    assert modules(room)
    for path in modules(room):
        rooms = {name.split(".")[0] for name in imports(path)} & set(ROOMS)
        assert rooms <= MAY_IMPORT[room], f"{path.relative_to(ROOT)} imports {rooms - MAY_IMPORT[room]}"


def test_images_know_nothing_of_pipelines_and_only_the_launcher_of_google_cloud() -> None:
    for path in modules("images"):
        launcher = path.is_relative_to(ROOT / "images" / "launcher")
        for name in imports(path):
            assert not within(name, "kfp"), f"{path.relative_to(ROOT)} imports {name}"
            assert launcher or not within(name, "google.cloud"), f"{path.relative_to(ROOT)} imports {name}"


def test_the_launcher_has_no_tensorflow() -> None:
    for path in modules("images/launcher"):
        assert not any(within(name, heavy) for name in imports(path) for heavy in ("tensorflow", "keras"))


@pytest.mark.parametrize("folder", ["images/launcher", "pipelines/cli", "pipelines/settings"])
def test_heavy_packages_are_imported_when_they_are_used(folder: str) -> None:
    for path in modules(folder):
        for name in imports(path, only_at_start=True):
            heavy = [package for package in HEAVY if within(name, package)]
            assert not heavy, f"{path.relative_to(ROOT)} imports {name} on its own import"


def test_localvertex_knows_no_system_and_no_image_of_ours() -> None:
    for path in modules("localvertex"):
        text = path.read_text(encoding="utf-8").lower()
        for ours in ("crnn", "images.trainer", "images.launcher", "images.server", "mnist"):
            assert ours not in text, f"{path.relative_to(ROOT)} names {ours}"


def test_only_the_table_of_targets_knows_the_local_one() -> None:
    for path in modules("pipelines") + modules("components") + modules("images"):
        if path != ROOT / "pipelines" / "cli" / "targets.py":
            assert "localvertex" not in path.read_text(encoding="utf-8"), path.relative_to(ROOT)
