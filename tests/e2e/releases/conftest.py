"""The releases that every system goes through, in a checkout of its own."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.checkouts import Checkout
from tests.e2e.releases.scenario import ASKED_AT_ONCE, RIGHT_ORDER, USER, WRONG_ORDER, System, User


@pytest.fixture(scope="module")
def labelled(checkout: Checkout, system: System) -> Callable[[float], Path]:
    """Makes a copy of the sample in which a share of the labels is wrong."""
    checkout.make("sample", f"PIPELINE={system.name}", *system.sample)

    def made(share: float) -> Path:
        folder = checkout.folder / "labelled" / f"{share:g}"
        shutil.copytree(checkout.folder / "data" / system.name, folder)
        system.mislabel(folder, share, random.Random(1))
        return folder

    return made


@pytest.fixture(scope="module")
def first(checkout: Checkout, system: System, labelled: Callable[[float], Path]) -> dict[str, Any]:
    data = labelled(system.wrong_at_first)
    return checkout.run(system.name, system.arguments, f"DATA={data}", *system.first)


@pytest.fixture(scope="module")
def user(
    checkout: Checkout, system: System, first: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[User]:
    """Somebody who predicts without pause from the first release on."""
    folder = tmp_path_factory.mktemp("user")
    (smoke,) = (checkout.folder / ".localvertex" / "gcs").rglob("smoke.jsonl")
    lines = smoke.read_text().splitlines()[:ASKED_AT_ONCE]
    (folder / "instances.json").write_text(json.dumps([json.loads(line)["instance"] for line in lines]))
    process = subprocess.Popen(
        [checkout.python, "-c", USER, system.name, first["run"], str(folder)],
        cwd=checkout.folder,
        env=checkout.redirected(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    somebody = User(process, folder)
    try:
        somebody.wait()
        yield somebody
        somebody.close()
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def tick(user: User) -> dict[str, Any]:
    return user.told("tick")


@pytest.fixture(scope="module")
def right(labelled: Callable[[float], Path]) -> Path:
    """The data whose labels are right."""
    return labelled(0)


@pytest.fixture(scope="module")
def better(checkout: Checkout, system: System, right: Path, tick: dict[str, Any]) -> dict[str, Any]:
    return checkout.run(system.name, system.arguments, f"DATA={right}")


@pytest.fixture(scope="module")
def worse(
    checkout: Checkout, system: System, labelled: Callable[[float], Path], better: dict[str, Any]
) -> dict[str, Any]:
    return checkout.run(system.name, system.arguments, f"DATA={labelled(1)}")


@pytest.fixture(scope="module")
def broken(checkout: Checkout, system: System, right: Path, worse: dict[str, Any]) -> str:
    """What a run said whose new model has a server that is at fault."""
    server = checkout.folder / "images" / "server" / "servable.py"
    before = server.read_text()
    assert RIGHT_ORDER in before
    server.write_text(before.replace(RIGHT_ORDER, WRONG_ORDER))
    try:
        return checkout.make("run", f"PIPELINE={system.name}", system.arguments, f"DATA={right}", expect=2).stderr
    finally:
        server.write_text(before)
