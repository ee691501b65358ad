"""A server of its own, two endpoints that look at pictures, and a headless browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localvertex import daemon
from localvertex.home import Home
from tests.localvertex.console.support import Console, browser_path


@pytest.fixture(scope="session")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """A running server and the way to its console."""
    home = Home(tmp_path_factory.mktemp("console") / "state")
    daemon.start(home)
    yield Console(home)
    daemon.stop(home)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Headless Chromium, driven by Playwright; skips where there is none.

    For one module at a time: while it is there, asyncio takes its loop for running, and refuses to run another.
    """
    driver = pytest.importorskip("playwright.sync_api")
    executable = browser_path()
    if executable is None:
        pytest.skip("no chromium on the path")
    with driver.sync_playwright() as playwright:
        # Without its sandbox: that needs rights which a container does not give, and the pages are our own.
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for screenshots, kept by pytest as other temporary folders are."""
    return tmp_path_factory.mktemp("pictures")
