"""The Docker engine that builds and pushes, asked through Docker's library and, for builds, through its client."""

from __future__ import annotations

import ast
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines import UserError
from pipelines.cli.targets import ServiceError

if TYPE_CHECKING:
    from docker import DockerClient

FOR_PIP = ("index-url", "extra-index-url", "trusted-host", "proxy")
PATIENCE = 120
"""Seconds without a word from the engine, or of a registry that it pushes to, after which neither is waited for."""


def connect() -> DockerClient:
    """The engine.

    Raises:
        UserError: none answers.
    """
    import docker
    from docker.errors import DockerException

    try:
        engine: DockerClient = docker.from_env(timeout=PATIENCE)
        engine.ping()
    except DockerException as error:
        raise UserError(
            f"no Docker engine answers ({error}): start one (as root: dockerd), or name one with DOCKER_HOST"
        ) from None
    return engine


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Turns what an engine refuses, and its silence, into one message.

    Raises:
        ServiceError: says which of the two it was.
    """
    from docker.errors import DockerException
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except DockerException as error:
        raise ServiceError(f"the Docker engine: {getattr(error, 'explanation', None) or error}") from None
    except (RequestException, HTTPError) as error:
        raise ServiceError(f"the Docker engine stopped answering ({error}); what it has made so far stays") from None


def push(client: DockerClient, name: str) -> None:
    """Pushes an image under one of its names.

    Raises:
        ServiceError: the registry refuses it, or nothing has been heard of it for `PATIENCE` seconds.
    """
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    repository, _, tag = name.rpartition(":")
    try:
        for line in client.api.push(repository, tag, stream=True, decode=True):
            if "error" in line:
                raise ServiceError(f"{name}: {line['error']}")
            if str(line.get("status", "")).startswith("Retrying"):
                print(f"  {repository.partition('/')[0]} fails: {line['status'].lower()}", flush=True)
    except (RequestException, HTTPError):
        raise ServiceError(
            f"{name}: not pushed: nothing heard of {repository.partition('/')[0]} for {client.api.timeout} s; "
            "what it has taken so far stays: once it answers, run this again"
        ) from None


def build(folder: Path, file: Path, names: Sequence[str], arguments: Mapping[str, str]) -> None:
    """Builds an image with BuildKit, and gives it names.

    How this machine reaches package indexes goes along as secrets, which no layer keeps.

    Args:
        folder: what the Dockerfile copies from.
        file: the Dockerfile.
        names: full names with tags.
        arguments: of the build.

    Raises:
        UserError: no client with BuildKit is installed.
        ServiceError: the build failed; what was wrong has been printed.
    """
    with _secrets() as secrets:
        command = [
            *client(),
            "build",
            # A proxy or an index on this machine's loopback is reached from there alone.
            "--network=host",
            f"--file={file}",
            *(f"--secret=id={name},src={path}" for name, path in secrets.items()),
            *(f"--build-arg={name}={value}" for name, value in arguments.items()),
            *(f"--tag={name}" for name in names),
            str(folder),
        ]
        if subprocess.run(command, env={**os.environ, "DOCKER_BUILDKIT": "1"}).returncode:
            raise ServiceError(f"{file}: the build failed")


def client() -> list[str]:
    """A Docker client that can build with BuildKit: of its own up to version 20.10, with its plugin buildx since.

    Raises:
        UserError: there is none.
    """
    found = [shutil.which("docker", path=folder) for folder in os.environ.get("PATH", os.defpath).split(os.pathsep)]
    for command in dict.fromkeys(filter(None, found)):
        version = subprocess.run([command, "--version"], capture_output=True, text=True).stdout
        has_plugin = subprocess.run([command, "buildx", "version"], capture_output=True).returncode == 0
        if has_plugin or "version 20." in version:
            return [command]
    raise UserError("no Docker client with BuildKit: install docker.io (Debian), or Docker's plugin buildx")


@contextlib.contextmanager
def _secrets() -> Iterator[dict[str, Path]]:
    """Files with pip's settings on this machine and the certificates that it trusts, for the time of a build."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    settings: dict[str, str] = {}
    # What the environment says comes last, since it holds against what files say.
    for line in sorted(listed.stdout.splitlines(), key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = str(ast.literal_eval(value))
    certificates = settings.get("cert", "")
    lines = ["[global]", *(f"{name} = {_remote(settings[name])}" for name in FOR_PIP if name in settings)]
    with tempfile.TemporaryDirectory(prefix="secrets-") as folder:
        pip, trusted = Path(folder, "pip"), Path(folder, "certificates")
        trusted.write_bytes(Path(certificates).read_bytes() if certificates else b"")
        if certificates:
            lines.append("cert = /run/secrets/certificates")
        pip.write_text("\n".join(lines) + "\n")
        yield {"pip": pip, "certificates": trusted}


def _remote(addresses: str) -> str:
    """Without folders of this machine, which no build can see."""
    return " ".join(address for address in addresses.split() if not address.startswith("file:"))
