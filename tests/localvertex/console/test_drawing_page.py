"""Protects the drawing page in a real browser: what is drawn is what is sent, and answers are told as they are."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from localvertex import daemon
from localvertex.home import Home
from tests.localvertex.console.accessibility import check
from tests.localvertex.console.support import Console, Sheet, looker

LEFT, RIGHT = [[(0.2, 0.3), (0.25, 0.7)]], [[(0.7, 0.2), (0.8, 0.5), (0.7, 0.8)]]
SENT = "**/api/predict"
EXPECTED = re.compile("status of 400|ERR_INTERNET_DISCONNECTED")  # what two of the tests provoke
# The ratio of WCAG 2: of each element's colour with the nearest background behind it.
CONTRAST = """
(selectors) => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map((each) => each / 255)
      .map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const colour = getComputedStyle(element).backgroundColor;
    return colour === "rgba(0, 0, 0, 0)" ? ground(element.parentElement) : colour;
  };
  return selectors.map((selector) => {
    const element = document.querySelector(selector);
    const [low, high] = [light(getComputedStyle(element).color), light(ground(element))].sort((a, b) => a - b);
    return [selector, (high + 0.05) / (low + 0.05)];
  });
}
"""
TEXTS = [
    ".brand",
    "h1",
    ".lead",
    ".field span",
    "button",
    ".button",
    ".hint",
    "select",
    "#answer",
    ".bars th",
    ".bars td",
]


@pytest.fixture(scope="module")
def side(console: Console, browser: Any) -> str:
    """The endpoint that says on which side the ink is."""
    return console.deploy("side", looker("side"))


@pytest.fixture(scope="module")
def amount(console: Console, side: str) -> str:
    """The endpoint that says how much ink there is; the newer one."""
    return console.deploy("amount", looker("amount"))


@pytest.fixture
def open_sheet(console: Console, browser: Any, side: str) -> Iterator[Callable[..., Sheet]]:
    """Opens the page, in a browser set up as asked; at the end no script has failed and nothing was blocked."""
    opened: list[Sheet] = []

    def open_it(endpoint: str = side, **options: Any) -> Sheet:
        page = browser.new_context(**options).new_page()
        opened.append(Sheet(page, console.link(), endpoint))
        return opened[-1]

    yield open_it
    for sheet in opened:
        assert [each for each in sheet.complaints if not EXPECTED.search(each)] == []
        sheet.page.context.close()


def sent(action: Callable[[], None], sheet: Sheet) -> Image.Image:
    """The picture that an action sends."""
    with sheet.page.expect_request(SENT) as request:
        action()
    (instance,) = json.loads(request.value.post_data)["instances"]
    return Image.open(io.BytesIO(base64.b64decode(instance["bytes_inputs"]["b64"])))


def test_every_stroke_is_answered_and_can_be_taken_back(open_sheet: Callable[..., Sheet]) -> None:
    sheet = open_sheet()
    undo = sheet.page.get_by_role("button", name="Undo")
    assert undo.is_disabled() and sheet.page.locator("#answer").inner_text() == "Nothing is drawn yet."
    sheet.draw(LEFT)
    assert sheet.answer() == "left"
    assert sheet.bars() == {"left": "100%", "right": "0%"}
    sheet.draw(RIGHT)
    assert sheet.answer() == "right"
    both = {name: float(share.rstrip("%")) for name, share in sheet.bars().items()}
    assert both["right"] > both["left"] > 10 and sum(both.values()) == pytest.approx(100, abs=0.2)
    assert sheet.page.get_by_role("img", name="Paper, showing 2 strokes").is_visible()
    undo.click()
    assert sheet.answer() == "left"
    sheet.draw(RIGHT)
    sheet.page.keyboard.press("Control+z")
    assert sheet.answer() == "left"
    sheet.page.locator("#paper").press("Delete")
    assert sheet.bars() == {} and undo.is_disabled()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_picture_is_dark_on_white_whatever_the_screen_shows(open_sheet: Callable[..., Sheet], scheme: Any) -> None:
    sheet = open_sheet(color_scheme=scheme, device_scale_factor=2)
    picture = sent(lambda: sheet.draw([[(0.5, 0.2), (0.5, 0.8)]]), sheet).convert("L")
    assert picture.size == (280, 280)
    box = picture.point(lambda grey: 255 * (grey < 128)).getbbox()
    # A pen of 8 % of the side, with round ends.
    assert box == pytest.approx((140 - 11, 56 - 11, 140 + 11, 224 + 11), abs=2)
    assert {picture.getpixel(place) for place in ((0, 0), (279, 0), (40, 140), (279, 279))} == {255}
    assert picture.getpixel((140, 140)) == 0


def test_a_wider_pen_and_a_single_dot(open_sheet: Callable[..., Sheet]) -> None:
    sheet = open_sheet()
    sheet.page.get_by_role("slider", name="Width of the pen").fill("16")
    dot = sent(lambda: sheet.draw([[(0.25, 0.5)]]), sheet).convert("L")
    box = dot.point(lambda grey: 255 * (grey < 128)).getbbox()
    assert box is not None and box[2] - box[0] == pytest.approx(0.16 * 280, abs=3)
    assert sheet.answer() == "left"


def test_a_finger_draws_and_the_page_stays_where_it_is(open_sheet: Callable[..., Sheet], pictures: Path) -> None:
    sheet = open_sheet(has_touch=True, is_mobile=True, viewport={"width": 360, "height": 740})
    page, box = sheet.page, sheet.page.locator("#paper").bounding_box()
    finger = page.context.new_cdp_session(page)

    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]} for x, y in places]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def stroke() -> None:
        touch("touchStart", (0.8, 0.8))
        for y in (0.7, 0.6, 0.5, 0.4, 0.3, 0.2):
            touch("touchMove", (0.8, y))
        touch("touchEnd")

    picture = sent(stroke, sheet).convert("L")
    assert picture.getpixel((224, 140)) == 0
    assert sheet.answer() == "right"
    assert page.evaluate("scrollY") == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "fits a telephone"
    page.screenshot(path=pictures / "telephone.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read(open_sheet: Callable[..., Sheet], scheme: Any, pictures: Path) -> None:
    sheet = open_sheet(color_scheme=scheme)
    sheet.draw(LEFT)
    low = {name: ratio for name, ratio in sheet.page.evaluate(CONTRAST, TEXTS) if ratio < 4.5}
    assert not low
    sheet.page.screenshot(path=pictures / f"{scheme}.png")


def test_other_answers_are_a_table_and_the_choice_is_in_the_address(
    open_sheet: Callable[..., Sheet], side: str, amount: str
) -> None:
    sheet = open_sheet()
    sheet.draw(LEFT)
    sheet.page.select_option("#endpoint", amount)
    sheet.page.wait_for_selector(".values")
    assert "[280,280]" in sheet.page.locator(".values").inner_text()
    assert sheet.page.locator("#answer").inner_text() == ""
    sheet.page.select_option("#endpoint", side)
    assert sheet.answer() == "left"
    sheet.page.reload()
    sheet.page.wait_for_selector("#endpoint:enabled")
    assert sheet.page.locator("#endpoint").input_value() == side, "not the newer one, which a fresh page asks"


def test_a_picture_is_opened_with_the_keyboard_alone(open_sheet: Callable[..., Sheet], tmp_path: Path) -> None:
    picture = Image.new("L", (200, 100), 255)
    picture.paste(0, (150, 20, 180, 80))
    picture.save(tmp_path / "right.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    sheet = open_sheet()
    page = sheet.page
    page.locator("#paper").focus()
    page.keyboard.press("Tab")  # past the buttons, which do nothing yet
    page.wait_for_selector("#file:focus", state="attached")
    # What Enter does on a browser's own input is the browser's; its dialog now and then fails to reach Playwright.
    assert sent(lambda: page.set_input_files(":focus", tmp_path / "right.png"), sheet).size == (200, 100), "as it is"
    assert sheet.answer() == "right"
    assert page.get_by_role("img", name="Paper, showing right.png").is_visible()
    sheet.draw(LEFT)
    assert sheet.answer() == "left", "a stroke begins a sheet of its own"
    page.set_input_files("#file", tmp_path / "broken.png")
    page.get_by_text("broken.png is no picture that this browser can read.").wait_for()


def test_errors_are_one_sentence_and_pass(open_sheet: Callable[..., Sheet]) -> None:
    sheet = open_sheet()
    alert = sheet.page.get_by_role("alert")
    sheet.page.get_by_role("slider", name="Width of the pen").fill("16")
    rows = [[(0.02, y / 20), (0.98, y / 20)] for y in range(1, 20)]
    sheet.draw([[place for row in rows for place in row]], steps=4)
    alert.wait_for()
    assert "there is no paper left in this picture" in alert.inner_text()
    sheet.clear()
    sheet.draw(LEFT)
    assert sheet.answer() == "left" and alert.is_hidden()
    sheet.page.context.set_offline(True)
    sheet.page.locator("#paper").click()
    sheet.page.get_by_text("localvertex does not answer. Start it again with `localvertex start`.").wait_for()
    sheet.page.context.set_offline(False)
    sheet.draw(LEFT)
    assert sheet.answer() == "left" and alert.is_hidden()


def test_where_there_is_nothing_pages_say_what_to_do(browser: Any, tmp_path: Path) -> None:
    home = Home(tmp_path / "state")
    daemon.start(home)
    try:
        page = browser.new_page()
        page.goto(Console(home).link("draw"))
        page.get_by_text("No endpoint has a deployed model yet.").wait_for()
        assert page.get_by_role("combobox", name="Endpoint").is_disabled()
        for path, said in (
            ("", "localvertex run PIPELINE.json"),
            ("runs", "localvertex run PIPELINE.json"),
            ("schedules", "create_schedule(cron="),
            ("artifacts", "localvertex run pipeline.json"),
            ("tuning", "HyperparameterTuningJob"),
            ("models", "aiplatform.Model.upload()"),
            ("endpoints", "aiplatform.Endpoint.create()"),
            ("compare", "Add them here, or choose them in the list of runs."),
        ):
            page.goto(f"{Console(home).address}/console/{path}")
            assert said in page.locator("main").inner_text(), path
            check(page, keys=4)
        page.context.close()
    finally:
        daemon.stop(home)


def test_a_browser_without_the_cookie_is_told_how_to_get_in(console: Console, browser: Any) -> None:
    page = browser.new_page()
    page.goto(f"{console.address}/console/draw")
    assert "localvertex console" in page.get_by_role("paragraph").inner_text()
    page.context.close()
