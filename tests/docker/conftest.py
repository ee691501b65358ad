"""What tests of containers share: the engine, a registry of this machine, a checkout whose images are built."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import yaml

from tests.docker import engine as engines
from tests.e2e.checkouts import NOT_COPIED, REPOSITORY, Checkout

if TYPE_CHECKING:
    from docker import DockerClient

MEASURED = "measured"
CONFIGURATION = """
version: 0.1
storage: {filesystem: {rootdirectory: "%s"}, delete: {enabled: true}}
http: {addr: "127.0.0.1:%d"}
log: {accesslog: {disabled: true}, level: error}
"""


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Prints what a test has measured when all tests have run, whichever process runs it."""
    return lambda text: request.node.add_report_section("call", MEASURED, text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what tests have measured."""
    for report in terminalreporter.getreports("passed"):
        for title, text in report.sections:
            if MEASURED in title.split():
                terminalreporter.write_line(text)


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerClient]:
    """The engine that `make test-docker` started; skips in any other run of the tests."""
    if not os.environ.get(engines.VARIABLE):
        pytest.skip("containers are tested by make test-docker")
    import docker

    client = docker.from_env(timeout=300)
    yield client
    client.close()


@pytest.fixture(scope="session")
def registry(engine: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an empty registry; skips where there is no program for one."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("there is no docker-registry: apt-get install docker-registry")
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = folder / "config.yml"
    file.write_text(CONFIGURATION % (folder / "images", port))
    with subprocess.Popen(
        [program, "serve", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            while not _answers(f"http://127.0.0.1:{port}/v2/"):
                assert server.poll() is None, "docker-registry does not start"
                time.sleep(0.05)
            yield f"127.0.0.1:{port}"
        finally:
            server.terminate()


def _answers(address: str) -> bool:
    try:
        return httpx.get(address).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


@dataclass(frozen=True)
class House(Checkout):
    """A copy of the repository with git, whose images are named after a registry."""

    registry: str = ""

    def git(self, *arguments: str) -> str:
        """Runs git as somebody."""
        who = ("-c", "user.name=a", "-c", "user.email=a@example.test")
        done = subprocess.run(["git", *who, *arguments], cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout

    def names(self, engine: DockerClient, image: str) -> dict[str, str]:
        """Ids of an image's builds by the tags that the engine has of it here."""
        repository = f"{self.registry}/{image}"
        return {tag: str(each.id) for each in engine.images.list(repository) for tag in each.tags}


@pytest.fixture(scope="session")
def house(engine: DockerClient, registry: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A copy whose images can be built; all names of its images go at the end."""
    folder = tmp_path_factory.mktemp("house") / "checkout"
    shutil.copytree(REPOSITORY, folder, ignore=NOT_COPIED)
    (folder / ".venv").symlink_to(REPOSITORY / ".venv")
    copy = House(folder, f"{registry}/pipelines")
    file = folder / "pipelines" / "settings" / "build.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"registry": copy.registry}))
    copy.git("init", "--quiet")
    copy.git("add", "--all")
    copy.git("commit", "--quiet", "--message=all")
    yield copy
    for image in engine.images.list():
        for name in image.tags:
            if name.startswith(copy.registry):
                engine.images.remove(name, force=True)


@pytest.fixture(scope="session")
def built(house: House) -> str:
    """What `make images` prints where nothing is built."""
    done = house.pipelines("images")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def stop(folder: Path) -> None:
    """Ends a checkout's localvertex."""
    python = folder / ".venv" / "bin" / "python"
    subprocess.run([str(python), "-m", "localvertex", "stop"], cwd=folder, stdout=subprocess.DEVNULL)
