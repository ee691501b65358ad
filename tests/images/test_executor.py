"""Protects how a stage meets its caller: exit codes, one-line messages, whole outputs, KFP metadata."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from images import executor
from images.executor import ExecutorOutput, UserError


def executor_input(folder: Path) -> str:
    artifact = {"name": "projects/1/artifacts/7", "uri": "gs://bucket/model", "metadata": {}}
    outputs = {
        "artifacts": {"model": {"artifacts": [artifact]}},
        "outputFile": str(folder / "out" / "executor.json"),
    }
    return json.dumps({"inputs": {}, "outputs": outputs})


def run_stage(body: str) -> subprocess.CompletedProcess[str]:
    program = f"from images import executor\ndef main(argv):\n    {body}\nexecutor.run(main)"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def test_a_users_mistake_is_one_line_and_exit_code_2():
    stage = run_stage("raise executor.UserError('--source=x: no such folder')")
    assert (stage.returncode, stage.stderr) == (2, "error: --source=x: no such folder\n")


def test_a_programming_error_keeps_its_traceback():
    stage = run_stage("raise ValueError('ours')")
    assert stage.returncode == 1
    assert "Traceback" in stage.stderr


def test_success_is_exit_code_0():
    assert run_stage("print('done')").returncode == 0


def test_metadata_goes_where_kfp_reads_it(tmp_path):
    output = ExecutorOutput(executor_input(tmp_path))
    output.log("model", digest="abc", cer=0.25)
    output.log("model", cer=0.125)
    output.write()
    written = json.loads((tmp_path / "out" / "executor.json").read_text())
    assert written == {
        "artifacts": {
            "model": {
                "artifacts": [
                    {
                        "name": "projects/1/artifacts/7",
                        "uri": "gs://bucket/model",
                        "metadata": {"digest": "abc", "cer": 0.125},
                    }
                ]
            }
        }
    }


def test_an_artifact_may_say_where_it_is(tmp_path):
    output = ExecutorOutput(executor_input(tmp_path))
    output.log("model", uri="https://example.org/models/1")
    output.write()
    written = json.loads((tmp_path / "out" / "executor.json").read_text())
    assert written["artifacts"]["model"]["artifacts"][0]["uri"] == "https://example.org/models/1"


def test_kfps_own_message_reads_what_we_write(tmp_path):
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    output = ExecutorOutput(executor_input(tmp_path))
    output.log("model", digest="abc", count=3)
    output.write()
    text = (tmp_path / "out" / "executor.json").read_text()
    message = json_format.Parse(text, pipeline_spec_pb2.ExecutorOutput())
    assert message.artifacts["model"].artifacts[0].metadata["count"] == 3


@pytest.mark.parametrize("nothing", [None, ""])
def test_by_hand_nothing_is_written(nothing):
    output = ExecutorOutput(nothing)
    output.log("anything", digest="abc")
    output.write()


def test_an_undeclared_output_is_refused(tmp_path):
    with pytest.raises(KeyError, match="declared: model"):
        ExecutorOutput(executor_input(tmp_path)).log("modle", digest="abc")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"outputs": {}}', "{{$}}"])
def test_a_malformed_executor_input_is_a_users_mistake(text):
    with pytest.raises(UserError, match="--executor_input"):
        ExecutorOutput(text)


def test_a_folder_takes_its_name_only_when_it_is_whole(tmp_path):
    target = tmp_path / "examples"
    with executor.whole(target) as aside:
        aside.mkdir()
        (aside / "part").write_text("new")
        assert not target.exists()
    assert (target / "part").read_text() == "new"
    assert os.listdir(tmp_path) == ["examples"]


def test_a_failure_leaves_what_was_there(tmp_path):
    target = tmp_path / "metrics.json"
    target.write_text("old")
    with pytest.raises(RuntimeError), executor.whole(target) as aside:
        aside.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["metrics.json"]


def test_what_a_killed_process_left_is_cleared(tmp_path):
    (tmp_path / "model.partial-1").mkdir()
    (tmp_path / "model.partial-1" / "half").write_text("")
    with executor.whole(tmp_path / "model") as aside:
        aside.mkdir()
    assert os.listdir(tmp_path) == ["model"]


def test_a_folder_replaces_a_folder(tmp_path):
    for text in ("first", "second"):
        with executor.whole(tmp_path / "model") as aside:
            aside.mkdir()
            (aside / text).write_text(text)
    assert os.listdir(tmp_path / "model") == ["second"]


def test_where_folders_cannot_be_renamed_they_are_copied(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("a bucket mount renames no folder")

    monkeypatch.setattr(os, "rename", refuse)
    with executor.whole(tmp_path / "model") as aside:
        (aside / "logs").mkdir(parents=True)
        (aside / "logs" / "events").write_text("x")
    assert (tmp_path / "model" / "logs" / "events").read_text() == "x"
    assert os.listdir(tmp_path) == ["model"]


def test_the_digest_is_that_of_sha256sum(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two").write_bytes(b"2")
    (tmp_path / "a").write_bytes(b"1")
    listing = subprocess.run(
        "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs sha256sum | sha256sum",
        shell=True, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert executor.digest(tmp_path) == listing.stdout.split()[0]


def test_the_digest_depends_on_names_and_bytes_alone(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "x").mkdir(parents=True)
        (tmp_path / name / "x" / "file").write_text("same")
    os.utime(tmp_path / "two" / "x" / "file", (1, 1))
    assert executor.digest(tmp_path / "one") == executor.digest(tmp_path / "two")
    (tmp_path / "two" / "x" / "file").rename(tmp_path / "two" / "x" / "other")
    assert executor.digest(tmp_path / "one") != executor.digest(tmp_path / "two")


def test_nothing_has_no_digest(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        executor.digest(tmp_path / "absent")
