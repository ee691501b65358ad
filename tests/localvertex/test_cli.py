"""Protects the command on pipelines: run, its watching and its errors; explain; reset; several commands at once."""

import ast
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from kfp import compiler, dsl

from localvertex import daemon
from localvertex.cli.common import CommandError
from localvertex.cli.progress import tasks
from localvertex.cli.submission import read_pipeline, typed_parameters
from localvertex.home import Home
from tests.localvertex.engine.pieces import fail, say, write
from tests.localvertex.processes import is_alive, workloads


@dsl.container_component
def gate(file: str):
    script = 'echo waiting; while [ -n "$0" ] && [ ! -e "$0" ]; do sleep 0.05; done'
    return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", script], args=[file])


@dsl.pipeline(name="demo pipeline")
def demo(text: str = "a", broken: bool = False, until: str = "") -> None:
    write(text=text)
    with dsl.ParallelFor(["1", "2"]) as item:
        say(text=item)
    with dsl.If(broken == True):  # noqa: E712
        fail(message="all is lost")
    gate(file=until).set_caching_options(False)


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Shell:
    """Runs `localvertex …` for one state folder."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.environment = {**os.environ, "LOCALVERTEX_HOME": str(home.path)}

    def __call__(self, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(self._command(arguments), env=self.environment, capture_output=True, text=True)
        assert done.returncode == expect, done.stdout + done.stderr
        return done

    def json(self, *arguments: str, expect: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", expect=expect).stdout)

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        # A job in the background ignores SIGINT, and so would what it starts.
        return subprocess.Popen(self._command(arguments), env=self.environment, preexec_fn=_heed_interrupts, **pipes)  # type: ignore[call-overload, no-any-return]

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "localvertex", *arguments]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(Home(tmp_path_factory.mktemp("cli") / "state"))
    yield shell
    shell("stop")


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(Home(tmp_path / "state"))
    yield shell
    daemon.stop(shell.home)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("pipeline") / "demo.json"
    compiler.Compiler().compile(demo, str(file))
    compiler.Compiler().compile(demo, str(file.with_suffix(".yaml")))
    return file


def test_a_run_is_started_watched_and_explained(shell: Shell, file: Path) -> None:
    first = shell("run", str(file)).stdout
    assert first.startswith("localvertex started")
    assert {line.split()[0]: line.split()[1] for line in first.splitlines()[2:-3]} == {
        "write": "succeeded",
        "for-loop-2/0/say": "succeeded",
        "for-loop-2/1/say": "succeeded",
        "condition-3": "not",
        "gate": "succeeded",
    }
    second = shell("run", str(file.with_suffix(".yaml")), "--parameter", "text=b").stdout
    lines = {line.split()[0]: line.split()[1:2] for line in second.splitlines() if line}
    assert lines["write"] == ["succeeded"] and lines["for-loop-2/1/say"] == ["cached"]
    run, earlier = (each["id"] for each in shell.json("runs"))
    assert f"outputs:  {shell.home.gcs}/" in second and f"{run}\n" in second
    told = shell("explain", run, "write").stdout
    assert told.startswith(f'write: executed because, compared with run {earlier}, parameter text was "a", is "b"\n')
    assert shell.json("explain", run, "for-loop-2/1/say")["state"] == "SKIPPED"
    wrong = shell("explain", run, "nothing", expect=2)
    assert wrong.stderr.startswith(f"error: {run} has no task 'nothing'. It has: ") and not wrong.stdout
    fresh = shell.json("run", str(file), "--no-cache")
    assert fresh["state"] == "SUCCEEDED" and "cached" not in {task["state"] for task in fresh["tasks"]}


def test_a_failure_shows_what_the_task_said(shell: Shell, file: Path) -> None:
    done = shell("run", str(file), "--parameter", "broken=true", expect=1)
    run = done.stdout.partition("run ")[2].split()[0]
    assert "  condition-3.fail | all is lost\n" in done.stderr
    assert f"error: run {run} failed\n" in done.stderr
    hint = done.stderr.rstrip().rpartition("all it printed:  localvertex ")[2].split()
    assert "all is lost" in shell(*hint).stdout
    told = shell.json("run", str(file), "--parameter", "broken=true", expect=1)
    assert [task["path"] for task in told["tasks"] if task["state"] == "failed"] == ["condition-3/fail"]


def test_interrupting_the_command_leaves_the_run_going(shell: Shell, file: Path, tmp_path: Path) -> None:
    watching = shell.begin("run", str(file), "--parameter", f"until={tmp_path}/gate")
    assert watching.stdout is not None
    run = next(line for line in watching.stdout if line.startswith("run ")).split()[1]
    assert any(line.startswith("gate ") for line in watching.stdout)
    watching.send_signal(signal.SIGINT)
    _, told = watching.communicate()
    assert watching.returncode == 130
    assert f"The run goes on. Follow it:  localvertex logs {run} --follow\n" in told and "Traceback" not in told
    assert shell.json("runs", "--limit", "1")[0]["state"] == "RUNNING"
    (tmp_path / "gate").touch()
    assert "gate | waiting" in shell("logs", run, "--follow").stdout
    assert shell.json("runs", "--limit", "1")[0]["state"] == "SUCCEEDED"


def test_runs_and_logs_of_another_region(shell: Shell, file: Path) -> None:
    told = shell.json("run", str(file), "--location", "europe-west4", "--root", "gs://elsewhere/x")
    assert "/europe-west4/" in told["name"] and (shell.home.gcs / "elsewhere/x").is_dir()
    assert [run["id"] for run in shell.json("runs", "--location", "europe-west4")] == [told["id"]]
    assert shell.json("runs")[0]["id"] == told["id"], "of every region, unless one is named"
    assert told["id"] in shell("explain", told["id"], "nothing", expect=2).stderr
    assert "There is no run" in shell("explain", told["id"], "gate", "--location", "us-central1", expect=2).stderr
    followed = shell("logs", told["id"], "gate", "--follow", "--location", "europe-west4").stdout
    assert followed == "gate | waiting\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--parameter", "text"), "write name=value"),
        (
            ("--parameter", "nix=1"),
            "the pipeline has no parameter 'nix': it has broken (BOOLEAN), text (STRING), until (STRING)",
        ),
        (("--parameter", "broken=maybe"), "the pipeline declares BOOLEAN: write it such as true"),
        (("--root", "/tmp/x"), "give a bucket"),
        (("--parameter-file", "/nowhere"), "/nowhere cannot be read: No such file"),
    ],
)
def test_mistakes_are_told_in_a_line(shell: Shell, file: Path, arguments: tuple[str, ...], words: str) -> None:
    done = shell("run", str(file), *arguments, expect=2)
    assert words in done.stderr and done.stderr.count("\n") == 1 and not done.stdout


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{}", "is not a compiled pipeline"),
        (b"\xff\xfe", "cannot be read: not a text"),
        (b"a: [", "neither JSON nor YAML"),
        (b"pipelineInfo: {name: a}\n---\nplatforms: {}\n", "second document"),
        (b"[1]", "is not a compiled pipeline"),
    ],
)
def test_what_is_no_pipeline_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(CommandError, match=words):
        read_pipeline(tmp_path / "file")


def test_parameters_have_the_declared_types() -> None:
    kinds = {"s": "STRING", "i": "NUMBER_INTEGER", "d": "NUMBER_DOUBLE", "b": "BOOLEAN", "l": "LIST", "m": "STRUCT"}
    declared = {name: {"parameterType": kind} for name, kind in kinds.items()}
    given = ["s=1=2", "i=-3", "d=4", "b=False", "l=[1]", 'm={"a":[]}']
    expected = {"s": "1=2", "i": -3, "d": 4, "b": False, "l": [1], "m": {"a": []}}
    assert typed_parameters(given, declared) == expected
    for wrong in ("i=1.5", "i=true", "d=x", "b=1", "l={}", "m=[]", "l="):
        with pytest.raises(CommandError, match="the pipeline declares"):
            typed_parameters([wrong], declared)


def test_a_task_named_like_an_iteration_keeps_its_name() -> None:
    def detail(id: int, name: str, parent: int | None = None) -> dict[str, Any]:
        return {
            "taskId": str(id),
            "taskName": name,
            "state": "RUNNING",
            **({"parentTaskId": str(parent)} if parent else {}),
        }

    details = [detail(1, "run"), detail(2, "loop", 1), detail(3, "loop-0", 2), detail(4, "a-0", 3), detail(5, "b-0", 1)]
    assert [task.path for task in tasks({"jobDetail": {"taskDetails": details}})] == ["loop/0/a-0", "b-0"]


@pytest.mark.parametrize(
    ("command", "heavy"),
    [("status", ("google.api_core", "grpc", "sqlalchemy")), ("runs", ("google.cloud", "sqlalchemy"))],
)
def test_commands_start_without_the_sdk(shell: Shell, command: str, heavy: tuple[str, ...]) -> None:
    shell("start")
    script = f"import sys; from localvertex.cli import main; main(['{command}', '--json']); print(list(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], env=shell.environment, capture_output=True, text=True, check=True
    )
    imported = ast.literal_eval(done.stdout.splitlines()[-1])
    assert not [name for name in imported if name.startswith(tuple(f"{package}." for package in heavy))]


def test_starting_stopping_and_asking_at_once(alone: Shell) -> None:
    commands = ["start", "start", "stop", "status", "start", "stop", "env"]
    processes = [alone.begin(command) for command in commands]
    told = [(process.communicate(), process.returncode) for process in processes]
    for command, ((_, errors), code) in zip(commands, told, strict=True):
        assert "Traceback" not in errors
        assert code == 0 or command in ("status", "env"), (command, errors)
    # Whatever came of it, the next command finds a sound folder.
    running = alone.json("start")
    assert alone.json("status")["pid"] == running["pid"]
    servers = [each for each in psutil.process_iter() if _serves(each, alone.home)]
    assert [each.pid for each in servers] == [running["pid"]]


def _serves(process: psutil.Process, home: Home) -> bool:
    try:
        return f"--home={home.path}" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def test_the_image_table_beside_the_pipeline_is_used(alone: Shell, file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    table = folder / "localvertex.toml"
    table.write_text('[[image]]\npattern = "alpine:*"\nworkdir = "data"\n')
    (folder / "data").mkdir()
    (folder / "data/gate").touch()
    pipeline = folder / "demo.json"
    pipeline.write_bytes(file.read_bytes())
    alone("run", str(pipeline), "--parameter", "until=gate")
    assert alone.json("status")["images"] == str(table)
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_bytes(file.read_bytes())
    (tmp_path / "localvertex.toml").write_text("")
    told = alone("run", str(elsewhere)).stderr
    assert f"{tmp_path}/localvertex.toml is not used: the image table of the running server is {table}" in told


def test_reset_ends_what_runs_and_deletes_what_it_said(alone: Shell, file: Path) -> None:
    watching = alone.begin("run", str(file), "--parameter", "until=/never")
    assert watching.stdout is not None
    assert any(line.startswith("gate ") for line in watching.stdout)
    server = psutil.Process(alone.json("status")["pid"])
    assert "--yes" in alone("reset", expect=2).stderr and server.is_running()
    (left,) = [each for each in workloads(alone.home) if each.name() == "sh"]
    server.kill()
    told = alone.json("reset", "--yes")
    assert {"gcs", "store.db", "logs", "keys"} <= set(told["deleted"])
    assert not alone.home.path.exists()
    assert not is_alive(left.pid)
    _, errors = watching.communicate()
    assert watching.returncode == 2 and "does not answer" in errors.splitlines()[-1] and "Traceback" not in errors
    assert alone.json("reset", "--yes")["deleted"] == []


def test_reset_deletes_nothing_of_anybody_else(alone: Shell) -> None:
    alone.home.path.mkdir()
    (alone.home.path / "logs").mkdir()
    assert "is not a state folder" in alone("reset", "--yes", expect=2).stderr
    alone("start")
    mine = alone.home.path / "thesis.tex"
    mine.write_text("mine")
    done = alone("reset", "--yes", expect=2)
    assert "thesis.tex" in done.stderr and alone.json("status")["running"]
    mine.unlink()
    alone("reset", "--yes")
    assert not alone.home.path.exists()


def test_a_server_whose_folder_is_deleted_ends(alone: Shell) -> None:
    server = psutil.Process(alone.json("start")["pid"])
    os.rename(alone.home.path, alone.home.path.with_name("moved"))
    while is_alive(server.pid):
        time.sleep(0.05)
    assert alone.json("status", expect=1)["running"] is False
