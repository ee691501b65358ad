"""The bill of materials of an image: every Python and Debian package that it holds, in CycloneDX's JSON.

Source: https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docker import DockerClient

LOOK = """
import importlib.metadata as m, json, subprocess
python = [[d.name, d.version, d.metadata.get("License-Expression") or ""] for d in m.distributions()]
try:
    form = "${Package}\\t${Version}\\n"
    debian = subprocess.run(["dpkg-query", "-W", "-f", form], capture_output=True, text=True).stdout
except FileNotFoundError:
    debian = ""
print(json.dumps({"pypi": python, "deb": [line.split("\\t") + [""] for line in debian.splitlines()]}))
"""
"""Runs in the image, with nothing but Python."""


def write(client: DockerClient, name: str, file: Path) -> None:
    """Looks into an image and writes down what is there.

    Args:
        client: the engine that has it.
        name: of the image, full and with a tag.
        file: where to write.
    """
    said = client.containers.run(name, ["-c", LOOK], entrypoint="python", network_mode="none", remove=True)
    found: dict[str, list[list[str]]] = json.loads(said)
    file.parent.mkdir(exist_ok=True)
    aside = file.with_name(f"{file.name}.partial-{os.getpid()}")
    aside.write_text(_document(name, client.images.get(name).labels, found))
    os.replace(aside, file)


def subject(file: Path) -> str:
    """The full name of the image that a bill is of; empty if there is no bill."""
    try:
        return str(json.loads(file.read_text())["metadata"]["component"]["bom-ref"])
    except FileNotFoundError:
        return ""


def _document(name: str, labels: dict[str, str], found: dict[str, list[list[str]]]) -> str:
    from cyclonedx.factory.license import LicenseFactory
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    licences = LicenseFactory()

    def component(kind: str, package: str, version: str, licence: str) -> Any:
        owner = "debian" if kind == "deb" else None
        return Component(
            name=package,
            version=version,
            type=ComponentType.LIBRARY,
            purl=PackageURL(kind, owner, package, version),
            bom_ref=f"{kind}:{package}",
            licenses=[licences.make_from_string(licence)] if licence else [],
        )

    bom = Bom(components=[component(kind, *package) for kind, packages in found.items() for package in packages])
    repository, _, tag = name.rpartition(":")
    whole = Component(name=repository, version=tag, type=ComponentType.CONTAINER, bom_ref=name)
    whole.description = labels.get("org.opencontainers.image.description")
    bom.metadata.component = whole
    bom.register_dependency(whole, bom.components)
    return str(JsonV1Dot6(bom).output_as_string(indent=2))
