"""The images: how large they are, and how long until a container says and answers something; needs an engine.

Beside each stands what the image could not do without: the packages that it installs, a container of the base image
in which Python prints a line, and the same program as a process of this machine.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import httpx

from pipelines.cli import images
from tests.bench.measurement import Measurement, at_most
from tests.docker import engine as engines

if TYPE_CHECKING:
    from docker import DockerClient

ROUNDS = 10
PREDICTION_ROUNDS = 3
SAY = ("-c", "print('here', flush=True)")
PROGRAMS = {
    "trainer": ("-m", "images.trainer.train", "--help"),
    "launcher": ("-m", "images.launcher.deploy", "--help"),
    "server": ("-m", "images.server", "--help"),
}
"""What of each image says something before it loads a framework or a model."""
SAVE = """
import sys, tensorflow as tf
class Double(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def __call__(self, x): return {"y": 2 * x}
module = Double()
tf.saved_model.save(module, sys.argv[1], signatures={"serving_default": module.__call__})
"""


def measurements() -> Iterator[Measurement]:
    """Sizes against the packages inside, and times against the runtime's own."""
    try:
        with engines.running() as address:
            os.environ["DOCKER_HOST"] = address
            engines.provide_base()
            images.images(only="", device="cpu", push=False, dirty=False)
            yield from _measured()
    except engines.NoEngine as reason:
        print(f"images not measured: {reason}")


def _measured() -> Iterator[Measurement]:
    client = images.engine.connect()
    names = {each.image: next(iter(each.names)) for each in images.wanted()}
    base = int(client.images.get(engines.BASE).attrs["Size"])
    for image, name in names.items():
        size = int(client.images.get(name).attrs["Size"])
        packages = _packages(client, name)
        told = f"{size / 1e6:,.0f} MB; base {base / 1e6:,.0f} MB, packages {packages / 1e6:,.0f} MB"
        yield at_most(f"size of {image} to base and packages", size / (base + packages), 1.05, told)
    starts = [(engines.BASE, SAY), *((names[image], program) for image, program in PROGRAMS.items())]
    floor, *first_lines = _best([lambda start=start: _first_line(client, *start) for start in starts], ROUNDS)
    for image, seconds in zip(PROGRAMS, first_lines, strict=True):
        told = f"{seconds:.2f} s; Python in the base image {floor:.2f} s"
        yield at_most(f"container start to first line, {image}", seconds / floor, 2.5, told)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", SAVE, folder], check=True, capture_output=True)
        ways = [lambda: _first_prediction(folder, client, names["server"]), lambda: _first_prediction(folder)]
        contained, alone = _best(ways, PREDICTION_ROUNDS)
        told = f"{contained:.1f} s; as a process {alone:.1f} s"
        yield at_most("start to first prediction, container to process", contained / alone, 1.5, told)


def _packages(client: DockerClient, name: str) -> int:
    """Bytes of the Python packages that an image holds."""
    said = client.containers.run(name, ["-sb", "/opt/venv"], entrypoint="du", network_mode="none", remove=True)
    return int(said.split()[0])


def _best(ways: Sequence[Callable[[], float]], rounds: int) -> list[float]:
    """The shortest time that each says. They take turns, so that other load weighs on all alike."""
    return [min(times) for times in zip(*([way() for way in ways] for _ in range(rounds)), strict=True)]


def _first_line(client: DockerClient, name: str, program: Sequence[str]) -> float:
    started = time.perf_counter()
    container = client.containers.create(name, list(program), entrypoint="python", network_mode="host", init=True)
    try:
        output = container.attach(stream=True)
        container.start()
        next(iter(output))
        return time.perf_counter() - started
    finally:
        container.remove(force=True)


def _first_prediction(folder: str, client: DockerClient | None = None, name: str = "") -> float:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {"AIP_HTTP_PORT": str(port), "AIP_STORAGE_URI": folder, "UVICORN_HOST": "127.0.0.1"}
    started = time.perf_counter()
    running: Any
    if client is None:
        command = [sys.executable, "-m", "images.server"]
        running = subprocess.Popen(command, env=os.environ | variables, stdout=subprocess.DEVNULL)
    else:
        volumes = {folder: {"bind": folder, "mode": "ro"}}
        options = {"network_mode": "host", "environment": variables, "user": f"{os.getuid()}:{os.getgid()}"}
        running = client.containers.run(name, detach=True, volumes=volumes, **options)
    try:
        return _answered(f"http://127.0.0.1:{port}/predict") - started
    finally:
        running.kill()
        running.wait()
        if client is not None:
            running.remove()


def _answered(address: str) -> float:
    while True:
        try:
            answer = httpx.post(address, content=json.dumps({"instances": [{"x": 2.0}]}), timeout=60)
        except httpx.TransportError:
            time.sleep(0.02)
            continue
        assert answer.json() == {"predictions": [{"y": 4.0}]}, answer.text
        return time.perf_counter()
