"""A Docker engine of the tests' own, and what they need in it: a base image, and one with kfp."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pipelines.cli import engine as client

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BASE = "python:3.11-slim"
KFP = "localvertex-tests/kfp:1"
"""Python with kfp: in it the tests run that pipelines of any image must pass."""
VARIABLE = "TEST_DOCKER"
"""Set where DOCKER_HOST is an engine for tests."""
DEVICES = "TEST_DEVICES"
"""Set to `gpu`, `tpu` or both where the trainer's images for them are to be built too."""
_START_SECONDS = 60
_ROOM = 25 << 30  # bytes
_KEPT = "10GB"
"""Layers of builds: those of all images for CPUs, and none of the larger ones for other devices."""


class NoEngine(Exception):
    """Why no engine can be started here."""


def cache() -> Path:
    """Where the engine keeps its images between runs; delete it to have the room back."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vertex-pipelines" / "docker"


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Starts an engine with images of its own, apart from any other; gives its address for DOCKER_HOST.

    Raises:
        NoEngine: the reason, for people to read.
    """
    if os.geteuid():
        raise NoEngine("a Docker engine is started by root only")
    if shutil.which("dockerd") is None:
        raise NoEngine("there is no dockerd: apt-get install docker.io docker-registry debootstrap")
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(folder).free) < _ROOM and not (folder / "images").is_dir():
        raise NoEngine(f"{free >> 30} GB free at {folder}; images and their layers take {_ROOM >> 30} GB")
    with tempfile.TemporaryDirectory(prefix="docker-") as state, open(folder / "dockerd.log", "wb") as log:
        address = f"unix://{state}/docker.sock"
        process = subprocess.Popen(
            [
                "dockerd",
                f"--data-root={folder}/images",
                f"--exec-root={state}/exec",
                f"--host={address}",
                f"--pidfile={state}/dockerd.pid",
                # All that runs here uses the host's network: that of the machine is left alone.
                "--bridge=none",
                "--iptables=false",
                "--ip-forward=false",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait(process, address, folder / "dockerd.log")
            _check_storage(address)
            yield address
        finally:
            process.terminate()
            process.wait()
            # What it leaves mounted keeps the folder from being deleted.
            mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
            for place in reversed([place for place in mounted if place.startswith(f"{state}/")]):
                subprocess.run(["umount", place], check=True)


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while subprocess.run(["docker", f"--host={address}", "version"], capture_output=True).returncode:
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text(errors="replace").strip().splitlines()
            raise NoEngine(f"dockerd did not start: {said[-1] if said else 'it said nothing'}")
        time.sleep(0.2)


def _check_storage(address: str) -> None:
    command = ["docker", f"--host={address}", "info", "--format={{.Driver}}"]
    driver = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    if driver == "vfs":  # It copies all of an image for each of its layers.
        raise NoEngine("the engine can only store images as vfs here, for which no disk is large enough")


def provide_base() -> None:
    """Makes the stand-in for the public base image, unless the engine of $DOCKER_HOST has it.

    Raises:
        NoEngine: it cannot be made here.
    """
    if not _has(BASE) and subprocess.run([str(HERE / "base.sh"), str(cache())]).returncode:
        raise NoEngine(f"{BASE} cannot be made; the lines above say why")


def provide_kfp() -> None:
    """Builds the image that has kfp, as locked, unless the engine has it."""
    if _has(KFP):
        return
    lock = (ROOT / "requirements.lock").read_text()
    pins = re.findall(r"^([a-z0-9].*?)(?: \\)?$", lock, re.MULTILINE)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "constraints.txt").write_text("\n".join(pins) + "\n")
        Path(folder, "Dockerfile").write_text(
            f"FROM {BASE}\nCOPY constraints.txt /tmp/\n"
            "RUN --mount=type=secret,id=pip --mount=type=secret,id=certificates PIP_CONFIG_FILE=/run/secrets/pip "
            "pip install --quiet --no-cache-dir --constraint /tmp/constraints.txt kfp\n"
        )
        client.build(Path(folder), Path(folder, "Dockerfile"), [KFP], {})


def _has(image: str) -> bool:
    return not subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode


def prune() -> None:
    """Frees what no image uses any more, so that the cache does not grow from run to run."""
    subprocess.run([*client.client(), "image", "prune", "--force"], stdout=subprocess.DEVNULL)
    command = [*client.client(), "builder", "prune", "--force", f"--keep-storage={_KEPT}"]
    subprocess.run(command, stdout=subprocess.DEVNULL)
