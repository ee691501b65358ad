"""Protects the images: built once, rebuilt in their last layers alone, pushed whole, holding nothing but what runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

import docker
import psutil
import pytest

from components import image
from pipelines.cli import engine as engines
from pipelines.cli.registry import Registry
from pipelines.cli.targets import ServiceError
from tests.docker.conftest import House
from tests.docker.engine import BASE, DEVICES
from tests.e2e.checkouts import environment

if TYPE_CHECKING:
    from docker import DockerClient

# The first test waits until all images are built; those for accelerators take long, too.
pytestmark = pytest.mark.timeout(3600)
ROOT = Path(image.__file__).resolve().parents[1]
IMAGES = ("trainer", "launcher", "server")
DEPENDENCIES = "--require-hashes"
OF_BUILDING = ("gcc", "cc", "make", "ld")
EDITED = "images/trainer/evaluate.py"
SLOW = "sleep 77"
LOADED = {
    "gpu": ("tensorflow", "import tensorflow; assert tensorflow.test.is_built_with_cuda()"),
    "tpu": ("jax", "import jax, libtpu, tensorflow"),
}
"""The backend that an image for a device trains with, and what it must be able to load on a machine without one."""


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
    shared = {"__init__.py", "executor.py", "frameworks.py"}
    assert set(code) == shared | {which} | ({"trainer"} if which == "launcher" else set())


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


def test_an_edit_of_a_stage_rebuilds_its_last_layers_alone(
    engine: DockerClient, house: House, built: str, tell: Callable[[str], None]
) -> None:
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
    tell(f"make images after an edit of {EDITED}: {seconds:.1f} s\n{done.stdout}")


def test_a_build_that_is_ended_half_way_leaves_nothing(
    engine: DockerClient, house: House, built: str, tmp_path: Path
) -> None:
    before = house.names(engine, "launcher")
    file = house.folder / "images/launcher/Dockerfile"
    text = file.read_text()
    file.write_text(f"{text}RUN {SLOW}\n")
    try:
        building = subprocess.Popen(
            [".venv/bin/python", "-m", "pipelines", "images", "--image", "launcher"],
            cwd=house.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment() | {"TMPDIR": str(tmp_path)},
        )
        while not sleeping():
            assert building.poll() is None, "it was built already"
            time.sleep(0.05)
        building.terminate()
        assert building.wait() == 143
    finally:
        file.write_text(text)
    while sleeping():
        time.sleep(0.05)
    assert house.names(engine, "launcher") == before
    assert list(tmp_path.iterdir()) == []


def sleeping() -> list[psutil.Process]:
    """Processes of the build that takes long."""
    return [each for each in psutil.process_iter(["cmdline"]) if each.info["cmdline"] == SLOW.split()]


@pytest.mark.parametrize("device", LOADED)
def test_what_an_image_for_an_accelerator_installs_can_be_had(engine: DockerClient, device: str) -> None:
    lock = ROOT / f"images/trainer/requirements-{device}.txt"
    command = [
        *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate"),
        # Only what the image can install counts: wheels, for its Python and its platform.
        *("--no-build", "--python-version=3.11", "--python-platform=x86_64-manylinux_2_31"),
        *(f"--constraint={lock}", str(lock.with_suffix(".in"))),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if "Failed to fetch" in done.stderr:
        pytest.skip(f"no package index can be reached: {done.stderr}")
    assert done.returncode == 0, done.stderr
    offered, wanted = hashes(done.stdout), hashes(lock.read_text())
    assert offered.keys() == wanted.keys()
    assert not [package for package in wanted if not wanted[package] <= offered[package]]


def hashes(requirements: str) -> dict[str, set[str]]:
    """Those of each `name==version`."""
    parts = re.split(r"^(\S+==\S+)", requirements, flags=re.MULTILINE)[1:]
    files = zip(parts[::2], parts[1::2], strict=True)
    return {package: set(re.findall("sha256:[0-9a-f]{64}", text)) for package, text in files}


@pytest.mark.parametrize("device", LOADED)
def test_an_image_for_an_accelerator_is_built_and_its_stages_answer(
    engine: DockerClient, house: House, device: str, tell: Callable[[str], None]
) -> None:
    if device not in os.environ.get(DEVICES, "").split():
        pytest.skip(f"it takes gigabytes and minutes: {DEVICES}={device} make test-docker builds it")
    started = time.monotonic()
    done = house.pipelines("images", "--device", device)
    assert done.returncode == 0, done.stdout + done.stderr
    seconds = time.monotonic() - started
    name = next(name for name in house.names(engine, "trainer") if name.endswith(f"-{device}"))
    backend, load = LOADED[device]
    assert run(engine, name, "python", "-c", f"{load}; import keras; print(keras.backend.backend())") == f"{backend}\n"
    assert "--hyperparameters" in run(engine, name, "python", "-m", "images.trainer.train", "--help")
    tell(f"make images DEVICE={device}: {seconds:.0f} s\n{done.stdout}")


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


class _Stalls(BaseHTTPRequestHandler):
    """A registry that has nothing, and says no more once something is sent to it."""

    ended = Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.end_headers()

    def do_POST(self) -> None:
        self.ended.wait()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def stalling(engine: DockerClient) -> Iterator[str]:
    """A name of an image in a registry that stops answering."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Stalls) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        name = f"127.0.0.1:{server.server_port}/stalling:1"
        engine.images.get(BASE).tag(name)
        yield name
        _Stalls.ended.set()
        server.shutdown()
    engine.images.remove(name)


def test_a_registry_that_stops_answering_is_told(stalling: str) -> None:
    impatient = docker.from_env(timeout=2)
    with pytest.raises(ServiceError, match=f"^{stalling}: not pushed: nothing heard of 127.*for 2 s"):
        engines.push(impatient, stalling)
    impatient.close()
