"""Protects the images: built once, rebuilt in their last layers alone, pushed whole, holding nothing but what runs."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from components import image
from pipelines.cli.registry import Registry
from tests.docker.conftest import House

if TYPE_CHECKING:
    from docker import DockerClient

ROOT = Path(image.__file__).resolve().parents[1]
IMAGES = ("trainer", "launcher", "server")
DEPENDENCIES = "COPY /opt/venv"
OF_BUILDING = ("gcc", "cc", "make", "ld")
EDITED = "images/trainer/evaluate.py"


def layers(engine: DockerClient, name: str) -> list[str]:
    """Digests of an image's layers up to and with its dependencies."""
    image = engine.images.get(name)
    # The base's layers have no step of ours: those of ours are counted from the last one on.
    steps = [step for step in image.history() if step["Size"] or "WORKDIR" in step["CreatedBy"]]
    after = next(number for number, step in enumerate(steps) if DEPENDENCIES in step["CreatedBy"])
    found: list[str] = image.attrs["RootFS"]["Layers"]
    return found[: len(found) - after]


def files(stage: str) -> set[Path]:
    """What decides the tag of a stage of crnn; nothing for stages that it does not have."""
    try:
        return image.files("crnn", stage)
    except FileNotFoundError:
        return set()


def locked(house: House, which: str) -> set[str]:
    """What an image's requirements name, as `name@version`."""
    text = (house.folder / f"images/{which}/requirements.txt").read_text()
    return {f"{name}@{version}" for name, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)}


def run(engine: DockerClient, name: str, *command: str, **more: object) -> str:
    """What a command prints in a container of an image."""
    options = {"entrypoint": command[0], "command": list(command[1:]), "network_mode": "none", "remove": True}
    return str(engine.containers.run(name, **(options | more)).decode())


@pytest.fixture(scope="module")
def one_of_each(engine: DockerClient, house: House, built: str) -> dict[str, str]:
    """A full name of each image."""
    return {which: next(iter(house.names(engine, which))) for which in IMAGES}


def test_all_stages_of_an_image_are_names_of_one(engine: DockerClient, house: House, built: str) -> None:
    for which in IMAGES:
        names = house.names(engine, which)
        assert len(set(names.values())) == 1
        assert re.search(rf"^{which}: [0-9,.]+ MB, tagged for .*crnn-", built, re.MULTILINE)
    stages = {name.rsplit(":", 1)[1].rsplit("-", 1)[0] for name in house.names(engine, "trainer")}
    assert stages >= {"crnn-ingest", "crnn-trial", "crnn-train", "crnn-evaluate", "crnn-export", "iris-skew"}


def test_what_is_there_is_not_built_again(house: House, built: str) -> None:
    done = house.pipelines("images")
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == [
        f"{which}: nothing to build" for which in IMAGES
    ]


@pytest.mark.parametrize("which", IMAGES)
def test_an_image_says_what_it_is_and_runs_as_nobody_special(
    engine: DockerClient, house: House, one_of_each: dict[str, str], which: str
) -> None:
    configuration = engine.images.get(one_of_each[which]).attrs["Config"]
    labels = configuration["Labels"]
    assert labels["org.opencontainers.image.revision"] == house.git("rev-parse", "HEAD").strip()
    assert re.fullmatch("[0-9a-f]{64}", labels["org.opencontainers.image.version"])
    assert "Apache-2.0" in labels["org.opencontainers.image.licenses"]
    assert configuration["User"] == which
    assert bool(configuration.get("Healthcheck")) == (which == "server")


@pytest.mark.parametrize("which", IMAGES)
def test_an_image_holds_its_code_and_locked_packages_and_no_tools(
    engine: DockerClient, house: House, one_of_each: dict[str, str], which: str
) -> None:
    look = (
        "import importlib.metadata as m, importlib.util as u, json, os, shutil, sys; "
        f"print(json.dumps([[[d.name, d.version] for d in m.distributions()], "
        f"[t for t in {OF_BUILDING} if shutil.which(t)], bool(u.find_spec('pip')), os.listdir('/app/images'), "
        "os.path.exists('/run/secrets/pip'), os.getuid()]))"
    )
    packages, tools, pip, code, secret, user = json.loads(run(engine, one_of_each[which], "python", "-c", look))
    canonical = {f"{re.sub(r'[-_.]+', '-', name).lower()}@{version}" for name, version in packages}
    assert canonical == locked(house, which)
    assert not tools and not pip and not secret and user == 1000
    assert set(code) == {"__init__.py", "executor.py", which, *(["trainer"] if which == "launcher" else [])}


def test_nothing_of_this_machine_is_in_a_layer(engine: DockerClient, one_of_each: dict[str, str]) -> None:
    settings = subprocess.run(["pip", "config", "list"], capture_output=True, text=True).stdout
    secrets = [word.strip("'\"") for word in re.findall(r"='?(\S+)'?", settings) if "://" in word]
    for name in one_of_each.values():
        history = json.dumps(engine.images.get(name).history())
        assert not [secret for secret in secrets if secret in history]


def test_the_bill_of_materials_names_every_package(house: House, built: str) -> None:
    for which in IMAGES:
        bill = json.loads((house.folder / f"build/{which}.cdx.json").read_text())
        found = {entry["purl"] for entry in bill["components"]}
        assert {f"pkg:pypi/{package}" for package in locked(house, which)} <= found
        assert any(purl.startswith("pkg:deb/debian/libc6@") for purl in found)


def test_an_edit_of_a_stage_rebuilds_its_last_layers_alone(engine: DockerClient, house: House, built: str) -> None:
    before = house.names(engine, "trainer")
    stage = house.folder / EDITED
    text = stage.read_text()
    stage.write_text(text + "\n# edited\n")
    started = time.monotonic()
    done = house.pipelines("images", "--image", "trainer")
    seconds = time.monotonic() - started
    stage.write_text(text)
    after = house.names(engine, "trainer")
    new = after.keys() - before.keys()
    stages = {stage for stage in image.STAGES if EDITED in {str(path.relative_to(ROOT)) for path in files(stage)}}
    assert {name.rsplit(":", 1)[1].split("-")[1] for name in new} == stages
    assert "evaluate" in stages and stages.isdisjoint({"ingest", "trial", "train", "export"})
    assert {name: after[name] for name in before} == before
    assert layers(engine, next(iter(new))) == layers(engine, next(iter(before)))
    assert re.search(r"layers of [0-9,.]+ MB kept, \d+ of [0-9.]+ MB made anew", done.stdout), done.stdout
    assert re.search(rf"crnn-evaluate: {EDITED} since ", done.stdout), done.stdout
    print(f"\nmake images after an edit of {EDITED}: {seconds:.1f} s\n{done.stdout}")


def test_pushing_what_is_not_committed_is_refused(house: House, built: str) -> None:
    file = house.folder / "images/launcher/notes.py"
    file.write_text("")
    try:
        done = house.pipelines("images", "--image", "launcher", "--push")
    finally:
        file.unlink()
    assert done.returncode == 2
    assert "error: not pushed: images/launcher/notes.py in images/ is not committed" in done.stderr


def test_what_the_registry_lacks_is_pushed_and_can_be_pulled_by_its_digest(
    engine: DockerClient, house: House, one_of_each: dict[str, str]
) -> None:
    registry = Registry(house.registry)
    name = one_of_each["launcher"]
    tag = name.rsplit(":", 1)[1]
    assert registry.digest("launcher", tag) is None
    done = house.pipelines("images", "--image", "launcher", "--push")
    assert done.returncode == 0, done.stderr
    assert f"pushed {name}\n" in done.stdout
    assert "pushed" not in house.pipelines("images", "--image", "launcher", "--push").stdout
    digest = registry.digest("launcher", tag)
    assert digest and digest.startswith("sha256:")
    pulled = engine.images.pull(f"{house.registry}/launcher@{digest}")
    assert pulled.id == engine.images.get(name).id
    assert registry.digest("launcher", "no-such-tag") is None
