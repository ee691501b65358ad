"""Makes the README's pictures of the console: `python -m tests.pictures run=ADDRESS lineage=ADDRESS drawing=draw`.

An address is a page's path behind `/console/`, as the browser shows it, or all of it. The server is the one that
`localvertex status` tells of. Each picture goes to `docs/pictures/NAME.png`, at most 150 KB of it.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from localvertex import daemon
from localvertex.console.sessions import Sessions, new_code
from localvertex.console.web import PREFIX
from localvertex.home import Home
from tests.localvertex.console.support import browser_path

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "pictures"
SIZE = {"width": 1180, "height": 800}
MOST_BYTES = 150_000
# A three, in shares of the paper: a drawing page without a drawing says little.
_STROKE = [(0.34, 0.26), (0.5, 0.17), (0.66, 0.28), (0.62, 0.42), (0.46, 0.48), (0.64, 0.54), (0.68, 0.7), (0.5, 0.82)]
_STROKE += [(0.33, 0.74)]


def main(asked: list[str]) -> int:
    """Make the pictures `name=address`; returns an exit code."""
    pairs = [each.partition("=") for each in asked]
    home = Home.find()
    running = daemon.find(home)
    executable = browser_path()
    if not pairs or not all(name and equals for name, equals, _ in pairs):
        print(__doc__, file=sys.stderr)
        return 2
    if running is None or executable is None:
        missing = "no server runs: localvertex start" if running is None else "there is no chromium on the path"
        print(f"error: {missing}", file=sys.stderr)
        return 2
    from playwright.sync_api import sync_playwright

    FOLDER.mkdir(parents=True, exist_ok=True)
    sessions = Sessions(home)
    cookie = {"name": sessions.cookie, "value": sessions.open(new_code(home))}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        context = browser.new_context(viewport=SIZE, color_scheme="light", reduced_motion="reduce")
        context.add_cookies([{**cookie, "domain": "127.0.0.1", "path": PREFIX}])
        for name, _, address in pairs:
            page = context.new_page()
            answer = page.goto(f"http://127.0.0.1:{running.port}{path_of(address)}", wait_until="load")
            if not answer.ok:
                print(f"error: {address}: the console answered {answer.status}", file=sys.stderr)
                return 2
            _draw(page)
            picture = small(page.screenshot())
            (FOLDER / f"{name}.png").write_bytes(picture)
            print(f"{FOLDER / name}.png: {len(picture) / 1000:.0f} KB")
        browser.close()
    return 0


def path_of(address: str) -> str:
    """The path and query of a page, from either form of its address."""
    parts = urlsplit(address)
    path = parts.path if parts.path.startswith(PREFIX) else PREFIX + parts.path.lstrip("/")
    return f"{path}?{parts.query}" if parts.query else path


def small(picture: bytes) -> bytes:
    """A PNG with few enough colours to be of MOST_BYTES at most."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    for colours in (256, 128, 64, 32):
        told = io.BytesIO()
        image.quantize(colours, dither=Image.Dither.NONE).save(told, "PNG", optimize=True)
        if told.tell() <= MOST_BYTES:
            break
    return told.getvalue()


def _draw(page: Any) -> None:
    paper = page.locator("#paper")
    if not paper.count():
        return
    page.wait_for_selector("#endpoint:enabled", state="attached")
    box = paper.bounding_box()
    for number, (x, y) in enumerate(_STROKE):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
        if not number:
            page.mouse.down()
    page.mouse.up()
    page.wait_for_selector("#answer:not([aria-busy=true])")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
