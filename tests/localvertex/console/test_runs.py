"""Protects the pages of runs in a real browser: what they show is what is so, and each button does what it says."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localvertex.console.web import address
from tests.localvertex.console.accessibility import check
from tests.localvertex.console.pipelines import specs
from tests.localvertex.console.support import PARENT, Console, Window

HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>'\"`{{ 7 * 7 }}"
Specs = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Specs:
    return specs(tmp_path_factory.mktemp("specs"))


@pytest.fixture(scope="module")
def window(browser: Any, console: Console) -> Iterator[Window]:
    window = Window(browser, console)
    yield window
    window.close()


@pytest.fixture(scope="module")
def finished(console: Console, compiled: Specs, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two runs of one pipeline with different parameters; the second finds some of its tasks in the cache."""
    gate = tmp_path_factory.mktemp("gates") / "open"
    gate.touch()
    found = []
    for number, rate in enumerate((0.5, 0.75), 1):
        run = console.submit(compiled["lively"], f"finished-{number}", {"gate": str(gate), "rate": rate})
        assert console.ended(run) == "SUCCEEDED"
        found.append(run)
    return found


@pytest.fixture(scope="module")
def failed(console: Console, compiled: Specs) -> str:
    run = console.submit(compiled["failing"], "failed-1", {"reason": HOSTILE})
    assert console.ended(run) == "FAILED"
    return run


@pytest.fixture(scope="module")
def schedule(console: Console, compiled: Specs) -> str:
    job = {"pipelineSpec": compiled["failing"], "runtimeConfig": {"gcsOutputDirectory": "gs://console-tests/root"}}
    job["runtimeConfig"]["parameterValues"] = {"reason": "as asked"}
    request = {"parent": PARENT.removeprefix("v1/"), "pipelineJob": job}
    body = {"displayName": "nightly", "cron": "0 3 * * *", "createPipelineJobRequest": request}
    return str(console.call(f"{PARENT}/schedules", {**body, "maxConcurrentRunCount": "1"})["name"])


def box(page: Any, task: str) -> Any:
    return page.locator(f'[id="box-{task}"]')


def states(page: Any) -> dict[str, str]:
    """What the graph says of each task, by its label."""
    labels = page.locator(".box a:not(.toggle)").evaluate_all("all => all.map(each => each.getAttribute('aria-label'))")
    return dict(label.split(": ", 1) for label in labels)


def test_a_run_is_watched_from_start_to_end(
    window: Window, console: Console, compiled: Specs, tmp_path: Path, finished: list[str]
) -> None:
    gate = tmp_path / "gate"
    run = console.submit(compiled["lively"], "watched", {"gate": str(gate), "rate": 0.9})
    page = window.open(run)
    loop = "for-loop-2"
    page.wait_for_selector(f'[id="box-{loop}/1/hold"]')  # which is drawn when the loop is unrolled, with no reload
    page.wait_for_function("() => document.querySelector('[aria-label^=\"hold: running\"]')")
    box(page, f"{loop}/0/hold").click()
    page.get_by_text("number 1 begins").wait_for()
    assert "number 1 ends" not in page.locator("#log").inner_text()
    loaded = page.evaluate("() => (window.loaded = 'once')")
    window.picture("run-live")
    check(page)
    gate.touch()
    page.get_by_text("number 1 ends").wait_for()
    page.locator("#summary .state.good").wait_for()
    page.wait_for_selector("main:not([data-follow])", state="attached")
    assert page.evaluate("window.loaded") == loaded, "it has never been loaded again"
    said = states(page)
    assert said["write"] == "cached" and said["left"] == "cached"
    assert said["right"] == "not triggered" and said["hold"] == "succeeded"
    assert said["score"] == "succeeded" and said[loop].startswith("succeeded, loop, 3 of 3")
    assert page.locator("#log").inner_text() == "number 1 begins\nnumber 1 ends"


def test_groups_fold_and_unfold(window: Window, finished: list[str]) -> None:
    page = window.open(finished[0])
    assert "write inner" in states(page)
    page.get_by_role("link", name="Fold inner").click()
    page.get_by_role("link", name="Unfold inner").wait_for()
    assert "write inner" not in states(page) and "hold" in states(page)
    page.reload()
    assert "write inner" not in states(page), "the address tells what is folded"
    page.get_by_role("link", name="Unfold inner").press("Enter")
    page.get_by_role("link", name="Fold inner", exact=True).wait_for()
    assert "write inner" in states(page)
    page.go_back()
    page.get_by_role("link", name="Unfold inner").wait_for()
    page.get_by_role("link", name="Fold for-loop-2").click()
    page.get_by_role("link", name="Unfold for-loop-2").wait_for()
    assert "iteration 0" not in states(page)


def test_a_graph_is_made_smaller_and_larger(window: Window, finished: list[str]) -> None:
    page = window.open(finished[0])
    width = page.locator(".graph svg").bounding_box()["width"]
    page.get_by_role("link", name="Smaller").click()
    page.wait_for_url("**scale=80")
    page.wait_for_function(f"() => document.querySelector('.graph svg').clientWidth < {width} - 9")
    page.get_by_role("link", name="Larger").click()
    page.wait_for_function(f"() => Math.abs(document.querySelector('.graph svg').clientWidth - {width}) < 2")


def test_a_task_tells_all_about_itself(window: Window, console: Console, finished: list[str]) -> None:
    page = window.open(finished[1])
    box(page, "score").click()
    panel = page.locator("#panel")
    panel.get_by_text("executed because").wait_for()
    assert "parameter value was 0.5, is 0.75" in panel.inner_text()
    assert "system.Metrics" in panel.inner_text() and "system.HTML" in panel.inner_text()
    window.picture("run-task")
    box(page, "write").click()
    panel.get_by_text("those of run finished-1").wait_for()
    assert page.get_by_role("link", name="file", exact=True).get_attribute("href").startswith(address("projects/"))
    page.get_by_role("link", name="Close").click()
    page.wait_for_function("() => !document.querySelector('.panel')")


def test_the_command_does_the_task_again(console: Console, window: Window, finished: list[str]) -> None:
    page = window.open(finished[1], task="score")
    page.get_by_text("Run it by hand").click()
    command = (
        page.locator("#command pre").inner_text().replace("localvertex env", f"{sys.executable} -m localvertex env")
    )
    subprocess.run(["bash", "-ec", command], check=True, capture_output=True)
    folder = re.search(r"^mkdir -p (.*)$", command, re.MULTILINE)
    assert folder and folder[1].endswith("_1")
    assert "<p>0.75</p>" in (Path(folder[1]) / "report").read_text()


def test_the_timeline_has_the_critical_path(window: Window, finished: list[str]) -> None:
    page = window.open(finished[0])
    page.get_by_role("link", name="Timeline").click()
    page.locator("tr.critical").first.wait_for()
    critical = page.locator("tr.critical th a").all_inner_texts()
    assert critical[0] == "write" and "inner" in critical and "for-loop-2" in critical and "score" not in critical
    assert page.locator(".span rect").count() >= 10
    window.picture("run-timeline")
    check(page)


def test_parameters_and_metrics(window: Window, finished: list[str]) -> None:
    page = window.open(finished[1])
    page.get_by_role("link", name="Parameters").click()
    page.get_by_text("Pipeline root").wait_for()
    facts = dict(zip(*(page.locator(f".facts {part}").all_inner_texts() for part in ("dt", "dd")), strict=True))
    assert facts["rate"] == "0.75" and facts["branch"] == "left", "a default is a value too"
    check(page)
    page.get_by_role("link", name="Metrics").click()
    page.get_by_text("accuracy").wait_for()
    assert "0.75" in page.locator("table").inner_text()
    window.picture("run-metrics")
    check(page)


def test_the_reason_of_a_failure_is_two_clicks_away(window: Window, failed: str) -> None:
    page = window.open()
    page.get_by_role("link", name="failed-1", exact=True).click()
    page.locator("#summary .notice a").click()
    page.locator("#log").wait_for()
    assert page.locator("#log").inner_text() == f"trying\n{HOSTILE}"
    assert "exited with code 7" in page.locator("#panel .notice").inner_text()
    assert page.locator("img[src=x]").count() == 0 and page.locator("main script").count() == 0
    assert states(page)["size"] == "not triggered"
    window.picture("run-failed")
    check(page)


def test_each_attempt_at_a_task_is_told(window: Window, console: Console, compiled: Specs, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    files = {"counted": str(tmp_path / "counted"), "gate": str(gate)}
    run = console.submit(compiled["stumbling"], "stumbling", files)
    page = window.open(run, task="stumble")
    attempts = page.locator("details.attempt")
    page.get_by_text("attempt 3 begins").wait_for()
    assert attempts.nth(2).locator(".state").inner_text() == "▶ running"
    attempts.nth(0).locator("summary").click()
    gate.touch()
    page.get_by_text("attempt 3 ends").wait_for()
    page.locator("#summary .state.good").wait_for()
    page.wait_for_selector("main:not([data-follow])", state="attached")
    assert attempts.count() == 3 and attempts.nth(0).locator("pre").is_visible(), "what was unfolded stays so"
    said = [attempts.nth(number).locator(".state").inner_text() for number in range(3)]
    assert said == ["✗ failed", "✗ failed", "✓ succeeded"]
    assert "exited with code 1. Last line of its log: no luck 1" in attempts.nth(0).locator(".notice").inner_text()
    assert attempts.nth(0).locator("pre").inner_text() == "attempt 1 begins\nno luck 1"
    assert attempts.nth(2).locator("pre").inner_text() == "attempt 3 begins\nattempt 3 ends"
    assert attempts.nth(2).locator(".notice").count() == 0
    window.picture("run-attempts")
    check(page)
    attempts.nth(0).get_by_role("link", name="All of it").click()
    assert page.locator("body").inner_text() == "attempt 1 begins\nno luck 1"
    answer = page.goto(f"{console.address}{address(f'{run}/log/stumble', attempt='9')}")
    assert answer.status == 404 and "has had 3 attempts" in page.locator("main").inner_text()
    window.complaints.clear()  # of the page that is not there


def test_a_run_is_cancelled(window: Window, console: Console, compiled: Specs, tmp_path: Path) -> None:
    run = console.submit(compiled["lively"], "cancelled", {"gate": str(tmp_path / "never")})
    page = window.open(run)
    page.wait_for_function("() => document.querySelector('[aria-label^=\"hold: running\"]')")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("The pipeline job was cancelled.").wait_for()
    assert box(page, "for-loop-2/0/hold").get_attribute("aria-label") == "hold: cancelled"
    assert page.get_by_role("button", name="Cancel").count() == 0
    window.picture("run-cancelled")
    check(page)


def test_run_again(window: Window, console: Console, finished: list[str]) -> None:
    page = window.open(finished[1])
    page.get_by_role("button", name="Run again", exact=True).click()
    page.wait_for_url(lambda url: "finished-2" not in url)
    again = page.url.partition("/console/")[2]
    assert console.ended(again) == "SUCCEEDED"
    page.reload()
    leaves = {label: said for label, said in states(page).items() if said in ("cached", "succeeded")}
    assert set(leaves.values()) == {"cached"}, leaves


def test_run_again_from_here(window: Window, console: Console, finished: list[str]) -> None:
    page = window.open(finished[1], task="inner/write")
    page.get_by_role("button", name="Run again from here").click()
    page.wait_for_url(lambda url: "finished-2" not in url)
    again = page.url.partition("/console/")[2]
    assert console.ended(again) == "SUCCEEDED"
    page.reload()
    said = states(page)
    assert said["write"] == said["left"] == said["score"] == "cached", "they come before it, or beside it"
    assert said["write inner"] == said["size"] == said["hold"] == "succeeded", "it, and what comes after it"


@contextlib.contextmanager
def damaged(console: Console, run: str) -> Iterator[None]:
    """For a while, a run cannot be read in the store."""
    change = "UPDATE resources SET body = ? WHERE name = ?"
    with contextlib.closing(sqlite3.connect(console.home.database, isolation_level=None)) as store:
        (whole,) = store.execute("SELECT body FROM resources WHERE name = ?", (run,)).fetchone()
        store.execute(change, (b"\xff", run))
        try:
            yield
        finally:
            store.execute(change, (whole, run))


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("nothing", 404, "The console has no page /console/nothing. Look for it from Home"),
        ("{run}", 500, "The console could not make this page"),
        ("{run}-none", 404, "is not found. Look for it from Home"),
        ("{run}?task=nothing", 404, "The run has no task 'nothing'. Look for it from Home"),
    ],
)
def test_what_cannot_be_shown_is_a_page_that_says_what_to_do(
    window: Window, console: Console, finished: list[str], path: str, status: int, told: str
) -> None:
    run = finished[0]
    with damaged(console, run) if status == 500 else contextlib.nullcontext():
        answer = window.page.goto(f"{console.address}/console/{path.format(run=run)}")
    assert answer.status == status and answer.headers["content-type"].startswith("text/html")
    said = window.page.locator("main").inner_text()
    assert told in said and "Traceback" not in said and "Error" not in said
    if status == 500:
        assert str(console.home.server_log) in said and "DecodeError" in console.home.server_log.read_text()
        window.picture("broken")
    check(window.page)
    window.page.get_by_role("main").get_by_role("link", name="Home").click()
    window.page.get_by_role("heading", name="Home").wait_for()
    window.complaints.clear()  # which a browser makes of each status


def test_a_run_that_cannot_be_read_breaks_no_page_of_another(
    window: Window, console: Console, finished: list[str]
) -> None:
    with damaged(console, finished[0]):
        for path, query in ((finished[1], {"task": "score"}), ("runs", {}), ("", {})):
            window.open(path, **query)
            assert window.page.get_by_role("heading", name="This page is broken").count() == 0, path
            assert not query or window.page.get_by_role("heading", name="Why").is_visible()


def test_runs_are_compared(window: Window, finished: list[str], failed: str) -> None:
    page = window.open("runs", pipeline="lively")
    for name in ("finished-1", "finished-2"):
        page.get_by_label(f"Choose {name}").check()
    window.picture("runs")
    check(page)
    page.get_by_role("button", name="Compare").click()
    page.get_by_text("Parameters that differ").wait_for()
    rows = page.locator("tr.differs").all_inner_texts()
    assert rows == ["rate\t0.5\t0.75"]
    page.get_by_role("link", name="that are alike").click()
    page.get_by_role("rowheader", name="branch").wait_for()
    assert page.get_by_role("row", name="accuracy").inner_text().split("\t")[1:] == ["0.5", "0.75"]
    assert page.locator(".plots svg").count() == 4, "two metrics of two runs"
    assert page.frame_locator("iframe >> nth=1").get_by_text("0.75").inner_text() == "0.75"
    window.picture("compare")
    check(page)
    page.get_by_role("link", name="Leave out finished-1").click()
    page.wait_for_function("() => document.querySelectorAll('table:first-of-type tbody tr').length >= 1")
    page.select_option("select[name=run]", finished[0])
    page.get_by_role("button", name="Add").click()
    page.get_by_role("link", name="Leave out finished-1").wait_for()


def test_a_schedule_is_paused_resumed_and_run(window: Window, console: Console, schedule: str) -> None:
    page = window.open("schedules")
    check(page)
    window.picture("schedules")
    page.get_by_role("button", name="Pause nightly").click()
    page.get_by_role("button", name="Resume nightly").wait_for()
    assert console.call(f"v1/{schedule}")["state"] == "PAUSED"
    page.get_by_role("button", name="Resume nightly").click()
    page.get_by_role("button", name="Pause nightly").wait_for()
    page.get_by_role("link", name="nightly").click()
    check(page)
    page.get_by_role("button", name="Pause").click()
    page.get_by_text("paused").wait_for()
    page.get_by_role("button", name="Resume").click()
    page.get_by_text("active").wait_for()
    page.get_by_role("button", name="Run now").click()
    page.wait_for_url("**/pipelineJobs/**")
    run = page.url.partition("/console/")[2]
    assert console.ended(run) == "FAILED" and console.call(f"v1/{run}")["scheduleName"] == schedule
    page.get_by_role("link", name="Schedules").click()
    page.locator(".strip a").first.click()
    assert page.url.endswith(run)
    window.open(schedule)
    window.picture("schedule")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_pages_are_for_everybody(
    browser: Any, console: Console, finished: list[str], failed: str, schedule: str, width: int, dark: bool
) -> None:
    window = Window(browser, console, width, dark)
    look = f"{'phone' if width < 600 else 'wide'}-{'dark' if dark else 'light'}"
    for name, path, query in (
        ("home", "", {}),
        ("runs", "runs", {}),
        ("run", finished[1], {"task": "score"}),
        ("failed", failed, {"task": "fail"}),
        ("timeline", finished[0], {"view": "timeline"}),
        ("compare", "compare", {"run": finished}),
        ("schedules", "schedules", {}),
        ("schedule", schedule, {}),
        ("style", "style", {}),
    ):
        page = window.open(path, **query)
        window.picture(f"{name}-{look}")
        try:
            check(page, keys=4)
        except AssertionError as findings:
            raise AssertionError(f"{name}, {look}:\n{findings}") from None
    window.close()


def test_keys_alone_suffice(window: Window, finished: list[str]) -> None:
    page = window.open(finished[0])
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    box(page, "score").focus()
    page.keyboard.press("Enter")
    page.locator("#panel-title").wait_for()
    assert page.evaluate("document.activeElement.id") == "panel", "what has been asked for is where one goes on"


def test_the_checks_find_what_is_wrong(browser: Any) -> None:
    page = browser.new_page()
    page.set_content(
        "<title>x</title><main><h3>a</h3><p style='color:#999;background:#fff'>pale</p><button></button>"
        "<input id=a><input id=a><table><tr><td>1</table><div style='width:5000px'>wide</div></main>"
    )
    with pytest.raises(AssertionError) as found:
        check(page)
    for part in ("contrast of 2.8", "no name: <button", "two elements are #a", "level 3", "no language", "0 <h1>"):
        assert part in str(found.value), part
    assert "table without caption" in str(found.value) and "too wide" in str(found.value)
    page.close()
