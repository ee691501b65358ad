"""What the console's tests share: a server, endpoints that look at pictures, and a hand that draws."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from localvertex import daemon
from localvertex.access import client_token
from localvertex.console.sessions import Sessions, new_code
from localvertex.console.web import address
from localvertex.home import Home

PICTURES = Path(__file__).resolve().parents[3] / "build" / "pictures"
"""Where screenshots are kept; git does not see it."""

PATIENCE = 180_000
"""Milliseconds that a browser may take: what hangs fails, what is slow beside other work does not."""

Strokes = Sequence[Sequence[tuple[float, float]]]
PARENT = "v1/projects/localvertex/locations/us-central1"

# Says on which side of the picture the ink is, or how much there is; refuses a picture that is nearly all ink.
SERVER = """
import base64, http.server, io, json, os, sys
from PIL import Image

def look(picture):
    width, height = picture.size
    left, right = (sum(255 - grey for grey in picture.crop(box).tobytes()) for box in
                   ((0, 0, width // 2, height), (width // 2, 0, width, height)))
    if left + right > 0.9 * 255 * width * height:
        raise ValueError("there is no paper left in this picture")
    if sys.argv[-1] == "amount":
        return {"ink": round((left + right) / 255 / width / height, 3), "size": [width, height]}
    shares = [left / max(1, left + right), right / max(1, left + right)]
    return {"class": ["left", "right"][shares[1] > shares[0]], "confidence": max(shares), "probabilities": shares,
            "classes": ["left", "right"]}

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, {})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        try:
            files = [base64.b64decode(instance["bytes_inputs"]["b64"]) for instance in body["instances"]]
            self.answer(200, {"predictions": [look(Image.open(io.BytesIO(file)).convert("L")) for file in files]})
        except ValueError as error:
            self.answer(400, {"error": str(error)})

    def answer(self, status, said):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["AIP_HTTP_PORT"])), Handler).serve_forever()
"""


class Console:
    """A running server, seen from the command line and through its REST API.

    Args:
        home: its state folder.
    """

    def __init__(self, home: Home) -> None:
        self.home = home
        running = daemon.find(home)
        assert running is not None
        self.address = f"http://127.0.0.1:{running.port}"

    def link(self, page: str = "") -> str:
        """A new one-time link to a page, as `localvertex console` makes it."""
        return f"{self.address}/console/{page}?code={new_code(self.home)}"

    def submit(self, spec: dict[str, Any], id: str, parameters: dict[str, Any] | None = None) -> str:
        """Submit a compiled pipeline; returns the run's resource name."""
        config = {"gcsOutputDirectory": "gs://console-tests/root", "parameterValues": parameters or {}}
        body = {"pipelineSpec": spec, "runtimeConfig": config}
        return str(self.call(f"{PARENT}/pipelineJobs?pipelineJobId={id}", body)["name"])

    def ended(self, run: str) -> str:
        """Wait until a run has ended; returns its state."""
        while True:
            state = str(self.call(f"v1/{run}")["state"]).removeprefix("PIPELINE_STATE_")
            if state not in ("PENDING", "RUNNING", "CANCELLING"):
                return state
            time.sleep(0.05)

    def call(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call the REST API, and wait when it answers with an operation."""
        answer = self.answer(path, body)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        while "/operations/" in told.get("name", "") and not told.get("done"):
            time.sleep(0.05)
            told = self.call(f"v1/{told['name']}")
        assert not (told.get("done") and "error" in told), told
        return told.get("response", told)

    def answer(self, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        """What the REST API answers, whether or not it is an error."""
        headers = {"Authorization": f"Bearer {client_token(self.home)}"}
        verb = "GET" if body is None else "POST"
        return httpx.request(verb, f"{self.address}/{path}", json=body, headers=headers, timeout=60)

    def deploy(self, name: str, container: dict[str, Any], artifacts: str = "") -> str:
        """Deploy a model to an endpoint of the same name; returns the endpoint's resource name."""
        uploaded = self.call(
            f"{PARENT}/models:upload",
            {"model": {"displayName": name, "containerSpec": container, "artifactUri": artifacts}},
        )
        endpoint: str = self.call(f"{PARENT}/endpoints", {"displayName": name})["name"]
        machine = {"machineSpec": {"machineType": "n1-standard-2"}, "minReplicaCount": 1}
        deployed = {"model": uploaded["model"], "dedicatedResources": machine}
        self.call(f"v1/{endpoint}:deployModel", {"deployedModel": deployed, "trafficSplit": {"0": 100}})
        return endpoint


def looker(name: str) -> dict[str, Any]:
    """The container of the test's own model: `side` or `amount`."""
    return {"imageUri": "example.test/looker:1", "command": [sys.executable, "-c", SERVER], "args": [name]}


def browser_path() -> str | None:
    """Where a Chromium is."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def painted(page: Any) -> None:
    """Wait until a page is on the screen: before that, Chromium drops what a person types."""
    # Asked from outside: a page whose scripts are forbidden, as a report's are, may never call one that waits in it.
    while not page.evaluate("performance.getEntriesByName('first-contentful-paint').length"):
        page.wait_for_timeout(20)


class Sheet:
    """The drawing page in a browser, and a hand that draws on it.

    Args:
        page: a page of Playwright's.
        link: opens the console in it.
        endpoint: resource name of the one to ask.
    """

    def __init__(self, page: Any, link: str, endpoint: str) -> None:
        self.page = page
        page.set_default_timeout(PATIENCE)
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.goto(link.replace("/console/?", "/console/draw?"))
        page.wait_for_url("**/console/draw")
        page.wait_for_selector("#endpoint:enabled")
        painted(page)
        if page.locator("#endpoint").input_value() != endpoint:
            page.select_option("#endpoint", endpoint)

    def draw(self, strokes: Strokes, steps: int = 3) -> None:
        """Draw strokes with the mouse, places given as shares of the paper, and wait for the last one's answer."""
        box = self.page.locator("#paper").bounding_box()
        for stroke in strokes:
            for number, (x, y) in enumerate(stroke):
                self.page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=steps)
                if not number:
                    self.page.mouse.down()
            self.page.mouse.up()
            self.wait()

    def clear(self) -> None:
        """Take a new sheet."""
        self.page.get_by_role("button", name="Clear").click()

    def wait(self) -> None:
        """Wait until what has been asked is answered."""
        self.page.wait_for_selector("#answer:not([aria-busy=true])")

    def answer(self) -> str:
        """What the page says first, once it does."""
        self.wait()
        return str(self.page.locator("#answer strong").inner_text())

    def bars(self) -> dict[str, str]:
        """Class and probability of each bar."""
        rows = self.page.locator(".bars tr")
        return dict(rows.evaluate_all("rows => rows.map(row => [row.cells[0].innerText, row.cells[2].innerText])"))


class Window:
    """A browser that has been let in.

    Args:
        browser: Playwright's.
        console: what it looks at.
        width: of the window, in pixels.
        dark: whether the person prefers dark.
    """

    def __init__(self, browser: Any, console: Console, width: int = 1280, dark: bool = False) -> None:
        self._console = console
        scheme = "dark" if dark else "light"
        size = {"width": width, "height": 900}
        self.context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
        sessions = Sessions(console.home)
        cookie = {"name": sessions.cookie, "value": sessions.open(new_code(console.home))}
        self.context.add_cookies([{**cookie, "domain": "127.0.0.1", "path": "/console/"}])
        self.context.set_default_timeout(PATIENCE)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self.complaints.append(message.text))

    def open(self, path: str = "", **query: str | Sequence[str]) -> Any:
        """Open a page of the console; returns Playwright's."""
        answer = self.page.goto(self._console.address + address(path, **query))
        assert answer.ok, (path, answer.status)
        painted(self.page)
        return self.page

    def picture(self, name: str) -> None:
        """Keep how the page looks, all of it."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}.png", full_page=True)

    def close(self) -> None:
        """Close it; fails if a script of the page has complained."""
        self.context.close()
        assert self.complaints == []


@contextlib.contextmanager
def windows(browser: Any, console: Console, expected: re.Pattern[str]) -> Iterator[Callable[..., Window]]:
    """Opens windows; at the end no script of ours has complained, but for what matches."""
    opened: list[Window] = []

    def open_it(**options: Any) -> Window:
        opened.append(Window(browser, console, **options))
        return opened[-1]

    yield open_it
    for each in opened:
        each.complaints = [one for one in each.complaints if not expected.search(one)]
        each.close()
