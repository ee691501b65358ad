"""Protects the command line: same data, same URI; one message for a mistake; outcomes told whole."""

import json
import os
import subprocess
import sys
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pipelines import UserError
from pipelines.cli import graph, lineage, predict, run, source, summary, targets, watch

ROOT = Path(__file__).resolve().parents[2]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "pipelines", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--pipeline", "crn"], "PIPELINE=crn: no such pipeline; did you mean crnn?"),
        (["run", "--pipeline", "crnn", "--data", "/no/such"], "DATA=/no/such: no such folder"),
        (["run", "--pipeline", "crnn", "--args", "max_trails=2"], "ARGS: max_trails: no such parameter"),
        (["predict", "--pipeline", "crnn", "--input", "/no/such.png"], "INPUT=/no/such.png: No such file"),
        (["predict", "--pipeline", "x", "--input", "setup.cfg"], "PIPELINE=x: no such pipeline"),
        (["lineage", "--pipeline", "x"], "PIPELINE=x: no such pipeline"),
        (["compile", "--pipeline", "x"], "PIPELINE=x: no such pipeline"),
        (["request", "--pipeline", "x"], "PIPELINE=x: no such pipeline"),
        (
            ["run", "--pipeline", "iris", "--data", "no-such", "--args", "new_data=/no/such"],
            "DATA=no-such: no such folder",
        ),
        (["run", "--pipeline", "iris", "--data", "images", "--args", "new_data=/no/such"], "ARGS: new_data=/no/such"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(arguments: list[str], message: str) -> None:
    done = command(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1


def test_the_mistake_with_which_a_log_ends_is_no_news_while_the_run_is_watched() -> None:
    said = ["epoch 1/2", "error: words.txt: 2 of 3 words are rejected", "  2 missing file", "", "the end"]
    text = f"import json\nfor line in {said}: print(json.dumps({{'task': 'ingest', 'text': line}}), flush=True)"
    heard, ended = [], threading.Event()

    def hear(task: str, line: str) -> None:
        heard.append((task, line))
        if line == said[-1]:
            ended.set()

    there = targets.Target(name="here", settings="local", logs=(sys.executable, "-c", text))
    with targets.following(there, "run", hear):
        assert ended.wait(60)
    assert heard == [("ingest", "epoch 1/2"), ("ingest", "the end")]


def folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return path


FILES = {"words.txt": b"a\n", "words/a/b.png": b"\x89PNG", "words/a/c.png": b""}


def test_the_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    one, two = folder(tmp_path / "one", FILES), folder(tmp_path / "two", dict(reversed(FILES.items())))
    os.utime(two / "words.txt", (0, 0))
    (two / ".DS_Store").write_bytes(b"not data")
    assert source.digest(one) == source.digest(two)


@pytest.mark.parametrize(
    "change", [{"words/a/c.png": b"x"}, {"words/a/d.png": b""}, {"words/d/c.png": b""}, {"words.txt": b"a"}]
)
def test_any_change_changes_the_digest(tmp_path: Path, change: dict[str, bytes]) -> None:
    before = source.digest(folder(tmp_path, FILES))
    assert source.digest(folder(tmp_path, change)) != before


def test_the_archive_is_the_same_for_the_same_content(tmp_path: Path) -> None:
    one, two = folder(tmp_path / "one", FILES), folder(tmp_path / "two", FILES)
    os.utime(two / "words.txt", (0, 0))
    (two / "words.txt").chmod(0o600)
    source.pack(one, tmp_path / "one.tar")
    source.pack(two, tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as tar:
        found = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
    assert found == FILES


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file in this folder"):
        source.digest(tmp_path)


SPEC: dict[str, Any] = {
    "components": {},
    "root": {
        "dag": {
            "tasks": {
                "train": {"taskInfo": {"name": "train"}, "dependentTasks": ["ingest"]},
                "importer": {"taskInfo": {"name": "source"}},
                "ingest": {"taskInfo": {"name": "ingest"}, "dependentTasks": ["importer"]},
            }
        }
    },
}


def job(state: str, **tasks: dict[str, Any]) -> dict[str, Any]:
    details = [{"taskName": name, **detail} for name, detail in tasks.items()]
    return {
        "name": "projects/p/locations/l/pipelineJobs/r",
        "state": state,
        "startTime": "2026-01-01T00:00:00Z",
        "endTime": "2026-01-01T00:01:00.5Z",
        "jobDetail": {"taskDetails": details},
    }


def test_tasks_are_told_in_the_order_of_the_graph_under_their_display_names() -> None:
    found = graph.tasks(SPEC, job("PIPELINE_STATE_RUNNING", ingest={"state": "RUNNING"}, other={}, source={}))
    assert [(task.name, task.state) for task in found] == [
        ("source", "PENDING"), ("ingest", "RUNNING"), ("train", "PENDING")
    ]  # fmt: skip


def test_tasks_of_nested_pipelines_are_told_one_by_one_and_by_their_place() -> None:
    inner = {"deploy": {"taskInfo": {"name": "deploy"}}, "train": {"taskInfo": {"name": "train"}}}
    only = {"second": {"taskInfo": {"name": "second"}}}
    maybe = {"taskInfo": {"name": "perhaps"}, "componentRef": {"name": "more"}, "triggerPolicy": {"condition": "x"}}
    nested = {
        "components": {"comp": {"dag": {"tasks": inner}}, "more": {"dag": {"tasks": only}}},
        "root": {"dag": {"tasks": {
            "train": {"taskInfo": {"name": "train"}},
            "release": {"taskInfo": {"name": "r"}, "componentRef": {"name": "comp"}, "dependentTasks": ["train"]},
            "maybe": maybe,
        }}},
    }  # fmt: skip
    labels = graph.names(nested)
    assert labels == {
        "maybe.second": "second", "train": "train", "release.deploy": "deploy", "release.train": "release train"
    }  # fmt: skip
    details = [
        {"taskName": "run-1", "taskId": "0", "state": "RUNNING"},
        {"taskName": "release", "taskId": "1", "parentTaskId": "0", "state": "RUNNING"},
        {"taskName": "train", "taskId": "2", "parentTaskId": "0", "state": "SUCCEEDED"},
        {"taskName": "train", "taskId": "3", "parentTaskId": "1", "state": "FAILED"},
        {"taskName": "maybe", "taskId": "4", "parentTaskId": "0", "state": "NOT_TRIGGERED"},
    ]
    found = {task.name: task.state for task in graph.tasks(nested, {"jobDetail": {"taskDetails": details}})}
    assert found == {"second": "NOT_TRIGGERED", "train": "SUCCEEDED", "deploy": "PENDING", "release train": "FAILED"}


@pytest.mark.parametrize(("second", "shown"), [("SKIPPED", "SKIPPED"), ("SUCCEEDED", "SUCCEEDED")])
def test_a_loop_is_cached_when_all_in_it_is(second: str, shown: str) -> None:
    root = {"taskName": "run", "taskId": "1", "state": "RUNNING"}
    loop = {"taskName": "ingest", "taskId": "2", "parentTaskId": "1", "state": "SUCCEEDED"}
    rounds = [
        {"taskName": "fold", "taskId": f"{3 + index}", "parentTaskId": "2", "state": state}
        for index, state in enumerate(["SKIPPED", second])
    ]
    found = graph.tasks(SPEC, {"jobDetail": {"taskDetails": [root, loop, *rounds]}})
    assert {task.name: task.state for task in found}["ingest"] == shown


def test_a_summary_of_a_failed_run_is_whole(tmp_path: Path) -> None:
    ended = job(
        "PIPELINE_STATE_FAILED",
        importer={"state": "SKIPPED"},
        ingest={
            "state": "FAILED",
            "startTime": "2026-01-01T00:00:10Z",
            "endTime": "2026-01-01T00:00:12Z",
            "error": {"message": "exit code 2"},
        },
    )
    outcome = summary.summarise("crnn", ended, graph.tasks(SPEC, ended))
    summary.write(outcome, tmp_path / "deep" / "summary.json")
    assert json.loads((tmp_path / "deep" / "summary.json").read_text()) == {
        "pipeline": "crnn",
        "run": "projects/p/locations/l/pipelineJobs/r",
        "state": "PIPELINE_STATE_FAILED",
        "seconds": 60.5,
        "tasks": {
            "source": {"state": "SKIPPED", "cached": True, "seconds": 0.0},
            "ingest": {"state": "FAILED", "cached": False, "seconds": 2.0},
            "train": {"state": "PENDING", "cached": False, "seconds": 0.0},
        },
        "metrics": {},
        "model": "",
        "endpoint": "",
        "predictions": [],
        "data": "",
        "release": "",
        "drift": "",
    }
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["summary.json"]


REQUEST: dict[str, Any] = {"spec": SPEC, "parameters": {"seed": 1}, "bucket": "b", "cache": True}


def test_the_same_request_has_the_same_label() -> None:
    first, again = run.pipeline_job("crnn", **REQUEST), run.pipeline_job("crnn", **REQUEST)
    assert first["labels"] == again["labels"]
    assert len(first["labels"]["request"]) <= 63


@pytest.mark.parametrize("change", [{"spec": {**SPEC, "x": 1}}, {"parameters": {"seed": 2}}, {"cache": False}])
def test_another_request_has_another_label(change: dict[str, Any]) -> None:
    other = run.pipeline_job("crnn", **{**REQUEST, **change})
    assert other["labels"]["request"] != run.pipeline_job("crnn", **REQUEST)["labels"]["request"]


def test_without_cache_no_task_of_any_depth_may_use_it() -> None:
    nested = {"comp-loop": {"dag": {"tasks": {"inner": {"cachingOptions": {"enableCache": True}}}}}}
    sent = run.pipeline_job("crnn", **{**REQUEST, "spec": {**SPEC, "components": nested}, "cache": False})[
        "pipelineSpec"
    ]
    tasks = [
        *sent["root"]["dag"]["tasks"].values(),
        *sent["components"]["comp-loop"]["dag"]["tasks"].values(),
    ]
    assert all(task["cachingOptions"] == {"enableCache": False} for task in tasks)
    assert nested["comp-loop"]["dag"]["tasks"]["inner"]["cachingOptions"]["enableCache"]


def metrics(name: str, **values: Any) -> graph.Task:
    return graph.Task(name, outputs={"metrics": [{"schemaTitle": "system.Metrics", "metadata": values}]})


def test_evaluates_numbers_win_and_only_numbers_count() -> None:
    found = summary.metrics([metrics("evaluate", cer=0.03, note="x"), metrics("tune", cer=0.5, trials=3)])
    assert found == {"cer": 0.03, "trials": 3}


def test_a_pipe_gets_a_line_for_each_change() -> None:
    states = iter(
        [
            job("PIPELINE_STATE_RUNNING", importer={"state": "SUCCEEDED"}, ingest={"state": "RUNNING"}),
            job("PIPELINE_STATE_RUNNING", importer={"state": "SUCCEEDED"}, ingest={"state": "RUNNING"}),
            job("PIPELINE_STATE_SUCCEEDED", importer={"state": "SUCCEEDED"}, ingest={"state": "SKIPPED"}),
        ]
    )
    console = Console(file=open(os.devnull, "w"), width=100, record=True)  # noqa: SIM115
    last = watch.watch(SPEC, lambda: next(states), {}, console)
    assert last["state"] == "PIPELINE_STATE_SUCCEEDED"
    assert [line.split() for line in console.export_text().splitlines()] == [
        ["source", "succeeded"], ["ingest", "running"], ["ingest", "cached"]
    ]  # fmt: skip


@given(st.floats(min_value=0.6, max_value=1e6))
def test_a_clock_reads_back(seconds: float) -> None:
    text = watch.clock(graph.Task("x", "RUNNING", seconds))
    minutes, _, rest = text.rpartition(":")
    assert int(minutes or 0) * 60 + int(rest.removesuffix(" s")) == round(seconds)


def artifact(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "displayName": name,
        "schemaTitle": "system.Artifact",
        "uri": f"gs://b/{name}",
        **more,
    }


def event(artifact: str, execution: str, kind: str) -> dict[str, str]:
    return {"artifact": artifact, "execution": execution, "type": kind}


def test_the_lineage_tree_goes_back_to_the_source_once() -> None:
    found = lineage.Lineage.of(
        {
            "artifacts": [
                artifact("endpoint"),
                artifact("model", metadata={"digest": "ab" * 32}),
                artifact("data"),
            ],
            "executions": [
                {"name": "1", "displayName": "train", "state": "COMPLETE", "createTime": "2"},
                {"name": "2", "displayName": "train", "state": "CACHED", "createTime": "1"},
                {"name": "3", "displayName": "deploy", "state": "COMPLETE", "createTime": "3"},
            ],
            "events": [
                event("data", "1", "INPUT"),
                event("model", "1", "OUTPUT"),
                event("data", "2", "INPUT"),
                event("model", "2", "OUTPUT"),
                event("model", "3", "INPUT"),
                event("data", "3", "INPUT"),
                event("endpoint", "3", "OUTPUT"),
            ],
        }
    )
    tree = lineage.Tree(lineage.describe(found.artifacts["endpoint"]))
    lineage.grow(tree, "endpoint", found, seen=set())
    console = Console(file=open(os.devnull, "w"), width=200, record=True)  # noqa: SIM115
    console.print(tree)
    assert [line.strip("│├└─ ").split(" system")[0] for line in console.export_text().splitlines()] == [
        "endpoint", "made by deploy", "data", "model", "made by train", "data"
    ]  # fmt: skip
    assert "sha256 abababababab" in lineage.describe(found.artifacts["model"])
    assert found.maker("model") == "1"


FLOWER = {"sepal_length": 5.9}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("one.json", '{"sepal_length": 5.9}', [FLOWER]),
        ("pretty.json", '{\n  "sepal_length": 5.9\n}\n', [FLOWER]),
        ("list.json", '[{"sepal_length": 5.9}, {"sepal_length": 5.9}]', [FLOWER, FLOWER]),
        ("body.json", '{"instances": [{"sepal_length": 5.9}]}', [FLOWER]),
        ("lines.json", '{"sepal_length": 5.9}\n\n{"sepal_length": 5.9}\n', [FLOWER, FLOWER]),
        ("lines.jsonl", '\ufeff{"sepal_length": 5.9}\r\n[5.9, 3.0]\r\n', [FLOWER, [5.9, 3.0]]),
        ("bare.json", "[5.9, 3.0, 4.2, 1.5]", [[5.9, 3.0, 4.2, 1.5]]),
        ("several.json", "[[5.9, 3.0], [4.2, 1.5]]", [[5.9, 3.0], [4.2, 1.5]]),
        ("table.csv", "a,b\n5.9,3.0\n4.2,1.5\n", [{"csv_row": "5.9,3.0"}, {"csv_row": "4.2,1.5"}]),
        ("table.CSV", "5.9,3.0", [{"csv_row": "5.9,3.0"}]),
        ("word.png", "x", [{"bytes_inputs": {"b64": "eA=="}, "key": "word.png"}]),
    ],
)
def test_a_file_is_asked_about_as_what_it_is(tmp_path: Path, name: str, content: str, expected: list[Any]) -> None:
    (tmp_path / name).write_text(content, newline="")
    assert predict.instances(str(tmp_path / name)) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"", "nothing in it to ask about"),
        ("a.json", b"[]", "nothing in it to ask about"),
        ("a.json", b'{"a": 1}\n{"a"', "line 2: not JSON"),
        ("a.jsonl", b"\xff", "not text in UTF-8"),
        ("a.csv", b"sepal_length,sepal_width\n", "nothing in it to ask about"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        predict.instances(str(tmp_path / name))


class Stored:
    """What the metadata service says of an endpoint, without the service."""

    parent = "projects/p/locations/l"

    def __init__(self, artifacts: list[dict[str, Any]]) -> None:
        self.artifacts = artifacts

    def pages(self, name: str, **query: str) -> list[dict[str, Any]]:
        return [artifact for artifact in self.artifacts if artifact["schemaTitle"] == "google.VertexEndpoint"]

    def get(self, name: str) -> dict[str, Any]:
        return {"artifacts": self.artifacts}


def test_the_newest_examples_that_an_endpoint_was_made_from_are_found() -> None:
    endpoint = {"name": "e", "schemaTitle": "google.VertexEndpoint", "metadata": {"resourceName": "endpoints/1"}}
    examples = [
        {"name": f"x{day}", "displayName": "examples", "createTime": f"2026-01-0{day}", "schemaTitle": "system.Dataset"}
        for day in (1, 3, 2)
    ]
    smoke = {"name": "s", "displayName": "smoke", "createTime": "2026-01-09", "schemaTitle": "system.Dataset"}
    stored: Any = Stored([endpoint, *examples, smoke])
    assert lineage.ancestor(stored, "endpoints/1", "examples") == examples[1]
    assert lineage.ancestor(stored, "endpoints/1", "model") is None
    assert lineage.ancestor(stored, "endpoints/2", "examples") is None


def test_folders_among_the_parameters_are_found(tmp_path: Path) -> None:
    filled = folder(tmp_path / "new", {"rows.csv": b"1"})
    assert run._other_folders({"new_data": str(filled), "seed": 1}) == {"new_data": filled}
    for nothing in ("", "gs://bucket/new"):
        assert run._other_folders({"new_data": nothing}) == {}
    with pytest.raises(UserError, match="ARGS: new_data=/no/such: no such folder"):
        run._other_folders({"new_data": "/no/such"})
