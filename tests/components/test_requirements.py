"""Protects what the images install: pinned and hashed as the lock file has it, and complete."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "images").glob("*/requirements*.txt"))
PINNED = re.compile(
    r"^([a-z0-9._-]+(?:\[[a-z0-9,-]+\])?)==(\S+)[^\\\n]*\\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)",
    re.MULTILINE,
)
OF_ONE_DEVICE = ("nvidia-", "libtpu", "tensorflow")
"""Packages that only one kind of device has, which this machine's environment does not."""


def pinned(file: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and hashes by package; nothing else may be in the file."""
    text = file.read_text()
    assert not PINNED.sub("", text).strip(), f"{file.relative_to(ROOT)}: run make lock"
    return {
        name.partition("[")[0]: (version, frozenset(re.findall("[0-9a-f]{64}", hashes)))
        for name, version, hashes in PINNED.findall(text)
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_an_image_installs_what_is_locked(file: Path) -> None:
    locked, found = pinned(ROOT / "requirements.lock"), pinned(file)
    assert found
    for name, (version, hashes) in found.items():
        if name in locked:
            assert (version, hashes) == locked[name], f"{name}: run make lock"
        else:
            assert name.startswith(OF_ONE_DEVICE) and file.stem != "requirements", f"{name}: run make lock"


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_an_image_installs_what_it_asks_for(file: Path) -> None:
    found = pinned(file)
    for wanted in asked(file.with_suffix(".in")):
        assert wanted in found, f"{file.relative_to(ROOT)} lacks {wanted}: run make lock"


def asked(file: Path) -> list[str]:
    """Names in a list of what is wanted, and in those that it includes."""
    names: list[str] = []
    for line in file.read_text().splitlines():
        if line.startswith("-r "):
            names += asked(file.parent / line.removeprefix("-r "))
        elif line and not line.startswith("#"):
            names.append(line.partition("[")[0])
    return names
