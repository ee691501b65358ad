"""Protects artifacts and lineage in a browser: seen, taken away, traced across runs; what is hostile does nothing."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from localvertex.console.sessions import Sessions, new_code
from tests.localvertex.console import works
from tests.localvertex.console.accessibility import check
from tests.localvertex.console.support import PARENT, Console, Window, windows

# What a browser says of scripts and pictures in a report that it does not run and does not fetch.
BLOCKED = re.compile("Blocked script execution|violates the following Content Security Policy")


@pytest.fixture(scope="module")
def made(console: Console, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The artifacts of two runs of one pipeline, the second with another rate."""
    folder = tmp_path_factory.mktemp("works")
    return {id: works.run(console, folder, id, rate) for id, rate in (("learn-1", 0.1), ("learn-2", 0.2))}


@pytest.fixture(scope="module")
def endpoint(console: Console, made: dict[str, dict[str, str]]) -> str:
    """An endpoint that serves the first run's model, deployed by hand."""
    model = console.call(f"v1/{made['learn-1']['model']}")
    return console.deploy("finder", works.finder(), model["uri"])


@pytest.fixture
def window(browser: Any, console: Console) -> Iterator[Callable[..., Window]]:
    """Opens windows; at the end no script of ours has complained."""
    with windows(browser, console, BLOCKED) as open_it:
        yield open_it


def boxes(page: Any) -> dict[str, int]:
    """The boxes of the graph by what stands on them."""
    found: dict[str, int] = {}
    for title in page.locator(".node .title").all_text_contents():
        found[title] = found.get(title, 0) + 1
    return found


def test_from_an_endpoint_to_the_source_data(window: Callable[..., Window], endpoint: str, made: Any) -> None:
    one = window()
    page = one.open(endpoint)
    page.get_by_role("link", name="Lineage of finder, version 1").click()
    page.wait_for_selector(".node")
    assert (
        boxes(page).items()
        >= {"source": 1, "artifact": 1, "ingest": 1, "examples": 1, "train": 1, "model": 1, "finder": 1}.items()
    )
    assert page.locator(".node.chosen .title").text_content() == "model"
    every = "() => [...document.querySelectorAll('svg [data-digest]')].every((each) => each.textContent)"
    page.wait_for_function(every)
    digests = page.locator("svg [data-digest]").all_text_contents()
    assert all(re.fullmatch("[0-9a-f]{8}", digest) for digest in digests)
    check(page)
    one.picture("lineage")
    page.locator(".node", has_text="artifact").get_by_role("link").first.click()
    page.get_by_role("heading", name="artifact", level=1).wait_for()
    assert page.get_by_text("gs://data/source").is_visible()
    page.get_by_role("link", name="Lineage").click()
    page.locator(".node.endpoint", has_text="finder").get_by_role("link").click()
    page.get_by_role("heading", name="finder", level=1).wait_for()


def test_lineage_goes_across_runs_and_unfolds_on_click(window: Callable[..., Window], made: Any) -> None:
    one = window()
    page = one.open(f"lineage/{made['learn-1']['examples']}")
    assert boxes(page)["train"] == boxes(page)["model"] == 2, "one of each run; the cached ingest is not there"
    assert boxes(page)["ingest"] == 1
    before = page.locator(".node").count()
    more = page.get_by_role("link", name="more at examples")
    assert more.get_attribute("aria-label") == "1 more at examples"
    more.press("Enter")
    page.locator(".node", has_text="cached in learn-2").first.wait_for()
    assert page.locator(".node").count() == before + 1
    assert "open=" in page.url, "the address tells it to whoever gets it"
    page.reload()
    assert page.locator(".node").count() == before + 1
    page.get_by_role("link", name="Fold examples").click()
    page.wait_for_function(f"() => document.querySelectorAll('.node').length === {before}")
    page.get_by_role("link", name="Half").click()
    page.wait_for_url("**zoom=50**")
    page.get_by_role("link", name="All of it").click()
    page.wait_for_url("**zoom=fit**")
    page.get_by_text("The same as a list").click()
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="ingest"))
    assert row.get_by_role("cell").nth(1).inner_text() == "artifact"
    assert row.get_by_role("cell").nth(2).inner_text() == "examples"
    check(one.open(f"lineage/{made['learn-1']['examples']}", zoom="fit"))


def test_executions_lead_to_their_task_or_are_shown(window: Callable[..., Window], console: Console, made: Any) -> None:
    one = window()
    page = one.open(f"lineage/{made['learn-1']['model']}")
    page.locator(".node.execution", has_text="train").get_by_role("link").first.click()
    page.wait_for_url("**/pipelineJobs/learn-1?task=train")
    metadata_store = made["learn-1"]["model"].rpartition("/artifacts/")[0]
    noted = console.call(
        f"v1/{metadata_store}/executions?executionId=by-hand",
        {"displayName": works.HOSTILE, "schemaTitle": "system.Run", "state": "COMPLETE", "metadata": {"rate": 0.5}},
    )
    console.call(
        f"v1/{noted['name']}:addExecutionEvents", {"events": [{"artifact": made["learn-1"]["model"], "type": 1}]}
    )
    page = one.open(noted["name"])
    assert "rate\n0.5" in page.locator(".facts").inner_text() and page.title().startswith(works.HOSTILE)
    check(page)
    page.get_by_role("link", name="model", exact=True).click()
    page.get_by_role("heading", name="model", level=1).wait_for()


@pytest.mark.parametrize(("width", "dark"), [(1280, True), (360, False)])
def test_every_page_suits_a_telephone_and_the_dark(
    window: Callable[..., Window], made: Any, width: int, dark: bool
) -> None:
    one = window(width=width, dark=dark)
    names = made["learn-1"]
    for path in ("artifacts", *(names[output] for output in ("examples", "model", "metrics", "classes", "report"))):
        check(one.open(path))
    check(one.open(f"lineage/{names['model']}"))
    one.picture(f"lineage-{width}-{'dark' if dark else 'light'}")


def test_artifacts_are_found(window: Callable[..., Window], made: Any) -> None:
    page = window().open("artifacts")
    page.get_by_label("Type").fill("system.Dataset")
    page.get_by_label("Name").fill("examples")
    page.get_by_role("button", name="Show").click()
    assert page.get_by_role("rowheader").all_text_contents() == ["examples"]
    page.get_by_label("Name").fill("nothing of this name")
    page.get_by_role("button", name="Show").click()
    assert page.get_by_text("No artifact is of this type and name.").is_visible()
    page = window().open("artifacts", schema="system.Model")
    page.get_by_role("link", name="Lineage of model").first.click()
    page.get_by_role("heading", name="Lineage").wait_for()


def test_examples_are_shown(window: Callable[..., Window], made: Any) -> None:
    one = window()
    page = one.open(made["learn-1"]["examples"])
    assert page.get_by_text("7 in 2 files.").is_visible()
    assert page.locator("figure img[src^='data:image/png']").count() == 2, "the records' own pictures"
    assert "label 1" in page.locator("figure", has=page.locator("img[src^='data:']")).nth(1).inner_text().replace(
        "\n", " "
    )
    page.get_by_text("Files", exact=True).first.click()
    shards = page.get_by_role("table", name="Shards").get_by_role("row").all_inner_texts()
    assert [re.split(r"\s*\t\s*", row)[:2] for row in shards[1:]] == [
        ["test/part-00000-of-00001.tfrecord", "2"],
        ["train/part-00000-of-00001.tfrecord", "5"],
    ]
    pictures = page.locator("figure img[loading=lazy]")
    assert pictures.count() == 4
    for index in range(4):
        pictures.nth(index).scroll_into_view_if_needed()
        page.wait_for_function(
            "(image) => image.complete && image.naturalWidth > 0", arg=pictures.nth(index).element_handle()
        )
    rejects = page.get_by_role("table", name="The first rows of rejects.csv")
    assert rejects.get_by_role("row").nth(1).get_by_role("cell").all_text_contents() == ["a, b", "too small"]
    assert '"dtype": "uint8"' in page.get_by_role("region", name="The beginning of schema.json").inner_text()
    one.picture("artifact-examples")


def test_metrics_are_shown(window: Callable[..., Window], made: Any) -> None:
    one = window()
    page = one.open(made["learn-1"]["metrics"])
    facts = page.locator(".facts").first.inner_text()
    assert "accuracy\n0.9346" in facts and "examples\n107" in facts
    page = one.open(made["learn-1"]["classes"])
    assert page.get_by_text("On the diagonal: 92.5 % of all.").is_visible()
    matrix = page.get_by_role("region", name="Confusion matrix").get_by_role("row")
    assert matrix.nth(1).get_by_role("cell").all_text_contents() == ["50", "2", "0"]
    assert page.get_by_role("img", name="ROC: area under the curve").is_visible()
    assert page.get_by_role("img", name="Precision and recall: area").is_visible()
    one.picture("artifact-classes")


def test_files_are_taken_away_as_they_are(window: Callable[..., Window], console: Console, made: Any) -> None:
    page = window().open(made["learn-1"]["model"])
    with page.expect_download() as download:
        page.get_by_role("link", name="Download weights.bin").click()
    assert download.value.suggested_filename == "weights.bin"
    content = Path(download.value.path()).read_bytes()
    assert content == b"0.1" + bytes(2048)
    with page.expect_download() as download:
        window().open(made["learn-1"]["report"])
        page.goto(f"{console.address}/console/{made['learn-1']['report']}")
        page.get_by_role("link", name="Download report").click()
    assert download.value.suggested_filename == "report"


def test_hostile_content_does_nothing(window: Callable[..., Window], made: Any) -> None:
    one = window()
    names = made["learn-1"]
    for output in ("examples", "metrics", "classes"):
        page = one.open(names[output])
        page.wait_for_load_state("networkidle")
        assert "taken" not in page.title()
        assert works.HOSTILE in page.locator("main").text_content() or output == "examples"
        assert page.locator("main script, main img[onerror], main b").count() == 0
    page = one.open(names["report"])
    frame = page.frame_locator("iframe")
    assert frame.get_by_role("heading", name="The report").is_visible(), (
        "and what the script would have put there is not"
    )
    assert page.title().startswith("report")
    page = one.open(f"{names['report']}:show")
    assert page.get_by_role("heading", name="The report").is_visible() and "taken" not in page.title()
    assert page.evaluate("window.origin") == "null", "it is in no origin of ours"
    page.goto(page.url.replace(f"{names['report']}:show", f"{names['examples']}:show?path=pictures/evil.svg"))
    assert page.title() != "taken" and page.evaluate("window.origin") == "null"


# What a name would be, if a page took it for more than text.
ALIVE = """
() => [...document.querySelectorAll(
  "script:not([src]), img[src=x], svg[onload], [onerror], [style], title ~ title, a[href^='javascript'], base"
)].map((each) => each.outerHTML)
"""


def test_hostile_names_do_nothing_on_any_page(window: Callable[..., Window], console: Console) -> None:
    named = works.hostile(console)
    one = window()
    one.page.on("dialog", lambda dialog: one.complaints.append(dialog.message))
    first, task = named["first"], {"task": f"{works.TASK_NAME}2"}
    for path, query in (
        *((path, {}) for path in ("", "runs", "schedules", "artifacts", "tuning", "models", "endpoints", "draw")),
        *((named[of], {}) for of in ("schedule", "artifact", "execution", "tuning", "trial", "model", "endpoint")),
        *((first, {"view": view, **task}) for view in ("", "timeline", "parameters", "metrics")),
        (first, {"task": f"{works.TASK_NAME}1"}),
        (first, {"task": f"{works.TASK_NAME}3"}),
        ("runs", {"pipeline": "hostile"}),
        ("compare", {"run": [first, named["second"]]}),
        ("artifacts", {"schema": works.NAME, "name": works.NAME}),
        (f"lineage/{named['artifact']}", {}),
    ):
        page = one.open(path, **query)
        if path == "draw":
            page.wait_for_selector("#endpoint:enabled")
        shown = page.content() if query.get("schema") else page.locator("body").text_content()
        assert works.TASK_NAME in shown or works.NAME in shown or query.get("schema"), (path, query)
        assert page.evaluate(ALIVE) == [] and page.title() != "taken", (path, query)
    page = one.open(first)  # and what scripts put in place
    page.locator(".box a").first.click()
    page.locator("#panel-title").wait_for()
    assert page.evaluate(ALIVE) == []
    page = one.open("draw", endpoint=named["endpoint"])
    page.wait_for_selector("#endpoint:enabled")
    page.get_by_text("Write JSON").click()
    page.get_by_label("Instances, a list in JSON").fill(json.dumps([{works.NAME: 1}]))
    page.get_by_role("button", name="Ask").click()
    page.locator("#source", has_text=works.NAME).wait_for()
    assert json.dumps(works.NAME) in page.locator("#details").text_content() and page.evaluate(ALIVE) == []
    assert one.complaints == [], "nothing has even been tried"


@pytest.mark.parametrize("label", ["<script>", "a<b", 'a"b'])
def test_hostile_labels_are_refused(console: Console, label: str) -> None:
    spec = works.hostile_pipeline()
    for path, body in (
        ("pipelineJobs", {"pipelineSpec": spec, "runtimeConfig": {"gcsOutputDirectory": "gs://bucket/root"}}),
        ("models:upload", {"model": {"displayName": "m", "containerSpec": works.finder()}}),
        ("endpoints", {"displayName": "e"}),
        ("metadataStores/default/artifacts", {"schemaTitle": "system.Artifact"}),
    ):
        for labels in ({label: "x"}, {"x": label}):
            body.get("model", body)["labels"] = labels
            answer = console.answer(f"{PARENT}/{path}", body)
            assert answer.status_code == 400 and "label" in answer.text, (path, answer.text)


def raw(
    console: Console, path: str, host: str = "", origin: str = "", verb: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    """What is answered to a request that no client library has tidied."""
    sessions = Sessions(console.home)
    connection = http.client.HTTPConnection(urlsplit(console.address).netloc)
    connection.putrequest(verb, f"/console/{path}", skip_host=True)
    connection.putheader("Host", host or urlsplit(console.address).netloc)
    connection.putheader("Cookie", f"{sessions.cookie}={sessions.open(new_code(console.home))}")
    if origin:
        connection.putheader("Origin", origin)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


@pytest.mark.parametrize("verb", ["file", "show"])
@pytest.mark.parametrize(
    "path",
    [
        *("../../../../../../etc/passwd", "..%2f..%2fstore.db", "/etc/passwd", "linked.txt", "train", "", "."),
        *(
            "train/../../model",
            "schema.json%00",
            "%c0%ae%c0%ae/x",
            "a" * 5000,
            "%ff",
            "\\..\\x",
            "nothing",
        ),
    ],
)
def test_no_path_leads_out_of_an_artifact(console: Console, made: Any, verb: str, path: str) -> None:
    wanted = path if "%" in path else quote(path)
    status, _, body = raw(console, f"{made['learn-1']['examples']}:{verb}?path={wanted}")
    assert status == 404 and b"root:" not in body


def test_content_of_artifacts_is_guarded(console: Console, made: Any) -> None:
    status, headers, body = raw(console, f"{made['learn-1']['examples']}:file?path=pictures/evil.svg")
    assert status == 200 and body.startswith(b"<svg") and int(headers["content-length"]) == len(body)
    assert headers["content-disposition"] == "attachment; filename*=UTF-8''evil.svg"
    assert headers["content-type"] == "application/octet-stream"
    shown = raw(console, f"{made['learn-1']['report']}:show")[1]
    for each in (headers, shown):
        assert each["content-security-policy"].startswith("sandbox; default-src 'none'")
        assert each["x-content-type-options"] == "nosniff"
    odd = raw(console, f"{made['learn-1']['examples']}:file?path={quote('<b>odd<')}/b%3E.txt")
    assert odd[0] == 200 and "<" not in odd[1]["content-disposition"]


def test_foreign_hosts_and_origins_get_nothing(console: Console, made: Any) -> None:
    for path in (
        made["learn-1"]["model"],
        f"{made['learn-1']['model']}:file?path=weights.bin",
        "lineage/x",
        "artifacts",
    ):
        assert raw(console, path, host="evil.example")[0] == 403
    assert raw(console, "api/digests", origin="http://evil.example", verb="POST")[0] == 403
    assert raw(console, "lineage/projects/1/locations/x/metadataStores/default/artifacts/none")[0] == 404
