"""A checkout of its own for each file of end-to-end tests: they edit stage code, change data and kill servers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.e2e.checkouts import NOT_COPIED, REPOSITORY, Checkout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A fresh copy of the repository, sharing only the Python environment; its localvertex is stopped at the end."""
    folder = tmp_path_factory.mktemp("e2e") / "checkout"
    shutil.copytree(REPOSITORY, folder, ignore=NOT_COPIED)
    (folder / ".venv").symlink_to(REPOSITORY / ".venv")
    copy = Checkout(folder)
    # It would be synchronised from the copy, and the repository's own environment would import the copy from then on.
    if "pip sync" in copy.make("--dry-run", "status").stdout:
        pytest.fail("the environment is not that of requirements.lock and setup.cfg: run make setup first")
    yield copy
    copy.make("stop", expect=None)
