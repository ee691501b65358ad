"""Stands in for a pre-built training image: installs Python packages for one process and runs a module of theirs.

Run as a script by the interpreter that the image table names, so it needs the standard library only:

    python_package.py MODULE PACKAGE… -- ARGUMENT…
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import distributions
from importlib.util import find_spec


def main(arguments: list[str]) -> None:
    """Install the packages, then become the module."""
    module, *rest = arguments
    end = rest.index("--")
    install(rest[:end])
    os.execv(sys.executable, [sys.executable, "-m", module, *rest[end + 1 :]])


def install(packages: Iterable[str]) -> None:
    """Install package files into $PIP_TARGET, and of what they require whatever the interpreter lacks."""
    # Where pip would first fetch setuptools to build a source package, the interpreter's own will do.
    building = ["--no-build-isolation"] if find_spec("setuptools") else []
    for package in packages:
        _pip("--no-deps", *building, package)
    # One by one, as pip would install again what is there already along with what is not.
    for requirement in _requirements(os.environ["PIP_TARGET"]):
        _pip(requirement)


def _pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *arguments])
    if done.returncode:
        raise SystemExit(f"error: pip could not install {arguments[-1]}")


def _requirements(folder: str) -> Iterator[str]:
    for package in distributions(path=[folder]):
        for requirement in package.requires or ():
            if "extra ==" not in requirement:
                yield requirement


if __name__ == "__main__":
    main(sys.argv[1:])
