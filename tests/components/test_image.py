"""Protects the image tags: a stage's tag changes if, and only if, something that it runs changes."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from components import image

ROOT = Path(__file__).resolve().parents[2]
OF_TABLES = ("cross_validate", "compare", "skew")
"""Stages that only systems of tables have."""
OPTIONAL = {"jax", "HersheyFonts"}
"""What the trainer imports where it was built with it, and for samples, which no container draws."""
STAGES = [stage for stage in image.STAGES if stage not in OF_TABLES]


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the packages, free to be edited."""
    for package in ("images", "components"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def tags(house: Path) -> dict[str, str]:
    """The tags as a process that starts in this folder computes them."""
    code = f"from components import image; print(*(image.digest('crnn', s) for s in {STAGES}))"
    environment = {**os.environ, "PYTHONPATH": str(house), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=house, env=environment, capture_output=True, text=True, check=True
    )
    return dict(zip(STAGES, done.stdout.split(), strict=True))


def changed(house: Path, *paths: str) -> set[str]:
    """The stages whose tag changes when a comment is added to these files."""
    before = tags(house)
    for path in paths:
        with (house / path).open("a") as file:
            file.write("\n# edited\n")
    after = tags(house)
    return {stage for stage in STAGES if before[stage] != after[stage]}


def test_editing_evaluate_changes_evaluate_alone(house: Path) -> None:
    assert changed(house, "images/trainer/evaluate.py") == {"evaluate"}
    assert changed(house, "images/trainer/systems/crnn/report.py") == {"evaluate", "follow"}


def test_editing_ingest_changes_ingest_alone(house: Path) -> None:
    assert changed(house, "images/trainer/ingest.py") == {"ingest"}


def test_editing_the_network_leaves_ingest_and_the_launchers(house: Path) -> None:
    asking = {"evaluate", "accelerators", "challenge", "follow"}
    assert changed(house, "images/trainer/systems/crnn/model.py") == {"trial", "train", "export"} | asking


def test_editing_the_space_changes_who_searches_and_who_trains(house: Path) -> None:
    found = changed(house, "images/trainer/systems/crnn/hyperparameters.py")
    assert {"tune", "trial", "train"} <= found
    assert found.isdisjoint({"ingest", "deploy", "serve"})


def test_what_a_package_imports_counts_for_all_within_it(house: Path) -> None:
    without = {"champion", "deploy", "snapshot", "requests", "notify"}
    assert set(STAGES) - changed(house, "images/frameworks.py") == without


def test_another_system_changes_nothing(house: Path) -> None:
    before = tags(house)
    shutil.copytree(house / "images/trainer/systems/crnn", house / "images/trainer/systems/other")
    assert tags(house) == before


def test_requirements_count(house: Path) -> None:
    launched = {"tune", "champion", "deploy", "snapshot", "requests", "notify"}
    assert changed(house, "images/launcher/requirements.txt") == launched


def test_place_and_time_do_not_count(house: Path) -> None:
    here = {stage: image.digest("crnn", stage) for stage in STAGES}
    for path in house.rglob("*.py"):
        os.utime(path, (0, 0))
    assert tags(house) == here


def test_name() -> None:
    images = image.Images("europe-docker.pkg.dev/p/r", "crnn")
    name, tag = images["train"].split(":")
    assert name == "europe-docker.pkg.dev/p/r/trainer"
    assert tag.startswith("crnn-train-")
    assert len(tag) == len("crnn-train-") + 12


def test_unknown_system_is_refused() -> None:
    with pytest.raises(FileNotFoundError, match=r"images\.trainer\.systems\.nothing"):
        image.digest("nothing", "train")


def test_editing_the_report_of_a_table_leaves_its_training() -> None:
    training, comparing = image.files("iris", "cross_validate"), image.files("iris", "compare")
    report = ROOT / "images/trainer/report.py"
    assert report in comparing - training
    assert not {path for path in comparing if "systems/iris" in path.as_posix()}


@pytest.mark.parametrize("stage", image.STAGES)
def test_the_table_names_every_role_that_a_stage_can_load(stage: str) -> None:
    """A role that is loaded by name but not in the table could change without the cache seeing it."""
    system = "iris" if stage in OF_TABLES else "crnn"
    sources = [path for path in image.files(system, stage) if path.suffix == ".py"]
    loaded = {role for path in sources for role in roles_loaded(path)}
    assert loaded <= set(image.STAGES[stage].roles)


def roles_loaded(path: Path) -> Iterator[str]:
    """Roles that a module loads: the last text argument of each call of `load`, or of `import_module`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name == "load" and len(node.args) == 2 and isinstance(node.args[1], ast.Constant):
            yield str(node.args[1].value)
        if name == "import_module" and isinstance(node.args[0], ast.JoinedStr):
            last = node.args[0].values[-1]
            if isinstance(last, ast.Constant):
                yield str(last.value).rpartition(".")[2]


@pytest.mark.parametrize("name", ["trainer", "launcher", "server"])
def test_an_image_holds_what_its_code_imports(name: str) -> None:
    required = {line.partition("==")[0] for line in (ROOT / f"images/{name}/requirements.txt").read_text().splitlines()}
    distributions = metadata.packages_distributions()
    modules = {path: top_levels(path) for path in (ROOT / "images" / name).rglob("*.py")}
    assert any(modules.values())
    for path, imported in modules.items():
        for module in imported - sys.stdlib_module_names - {"images"} - (OPTIONAL if name == "trainer" else set()):
            assert required & {canonical(each) for each in distributions[module]}, f"{path}: {module}"


def top_levels(path: Path) -> set[str]:
    """Top-level packages that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def canonical(distribution: str) -> str:
    """A name as requirements files write it; TensorFlow's build for CPUs stands for TensorFlow."""
    name = distribution.lower().replace("_", "-")
    return "tensorflow-cpu" if name == "tensorflow" else name
