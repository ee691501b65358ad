"""Protects the command: one server starts, is found, survives kill -9, ends; a mistake is one clear line."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from localvertex import daemon
from localvertex.home import Home
from localvertex.logs import LogReader
from tests.localvertex.processes import is_alive

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "state")


@pytest.fixture
def command(home: Home) -> Iterator[Command]:
    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "localvertex", *arguments],
            env={**os.environ, "LOCALVERTEX_HOME": str(home.path), **variables},
            capture_output=True,
            text=True,
        )

    yield run
    run("stop")


def test_a_life(command: Command, home: Home) -> None:
    told = json.loads(command("status", "--json").stdout)
    assert (told["running"], told["home"]) == (False, str(home.path))
    starts = [
        subprocess.Popen(
            [sys.executable, "-m", "localvertex", "start", "--json", f"--home={home.path}"],
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    answers = [json.loads(start.communicate()[0]) for start in starts]
    assert sorted(each["started_now"] for each in answers) == [False, True], "two at once start one"
    pid, port = answers[0]["pid"], answers[0]["port"]
    assert command("status").returncode == 0
    assert "already running" in command("start").stdout

    # Nothing of it listens beyond loopback.
    listening = [each for each in psutil.Process(pid).net_connections("inet") if each.status == "LISTEN"]
    assert {each.laddr.ip.removeprefix("::ffff:") for each in listening} == {"127.0.0.1"}

    os.kill(pid, signal.SIGKILL)
    while is_alive(pid):
        time.sleep(0.01)
    assert command("status").returncode == 1
    again = json.loads(command("start", "--json").stdout)
    assert again["started_now"] and again["port"] == port, "an eval'ed shell goes on working"
    assert "stopped" in command("stop").stdout
    assert not is_alive(again["pid"])
    stopped = command("stop")
    assert stopped.returncode == 0 and "was not running" in stopped.stdout
    environment = command("env")
    assert f"HTTPS_PROXY=http://127.0.0.1:{port}" in environment.stdout
    assert "not running" in environment.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (("env",), {}, "localvertex start"),
        (("runs",), {}, "no server is running"),
        (("logs", "nothing"), {}, "nothing has been logged for 'nothing'"),
        (("start",), {"LOCALVERTEX_PORT": "many"}, "LOCALVERTEX_PORT=many is not a port"),
    ],
)
def test_mistakes_get_one_line(
    command: Command, arguments: tuple[str, ...], variables: dict[str, str], words: str
) -> None:
    done = command(*arguments, **variables)
    assert done.returncode == 2 and words in done.stderr
    assert done.stderr.count("\n") == 1 and not done.stdout


def test_a_port_in_use_is_named(command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = command("start", LOCALVERTEX_PORT=port)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: port {port} cannot be used") and done.stderr.count("\n") == 1


def test_a_bad_image_table_is_named(command: Command, home: Home) -> None:
    home.create()
    (home.path / "localvertex.toml").write_text("[[image]]\nnonsense = 1\n")
    done = command("start")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "localvertex.toml" in done.stderr


def test_one_server_has_a_folder(home: Home) -> None:
    home.create()
    daemon.announce(home, 1234)
    assert daemon.find(home) is None, "what a dead server said of itself does not count"
    daemon.take(home)
    assert daemon.find(home) is None, "taken, but not ready"
    daemon.announce(home, 1234)
    found = daemon.find(home)
    assert found is not None and (found.pid, found.port) == (os.getpid(), 1234)
    with pytest.raises(daemon.DaemonError, match="already running"):
        daemon.take(home)


class Inspector:
    """Stands for the server: a run's folder, and whether it has ended."""

    def __init__(self, folder: Path | None, *ended: bool) -> None:
        self.folder = folder
        self.ended = list(ended)

    def artifacts_folder(self, run: str) -> Path | None:
        return self.folder

    def has_ended(self, run: str) -> bool:
        return self.ended.pop(0) if len(self.ended) > 1 else self.ended[0]


def test_logs_of_tasks_and_of_the_jobs_they_launched(home: Home, tmp_path: Path) -> None:
    home.create()
    (home.logs / "run").mkdir()
    (home.logs / "run/ingest.log").write_text("one\n10 %\r20 %\rtwo\nunfinished")
    (home.logs / "run/train.log").write_text("launched\n")
    (home.logs / "123").mkdir()
    (home.logs / "123/workerpool0-0.log").write_text("epoch 1\n")
    launch = tmp_path / "train_77/gcp_resources"
    launch.parent.mkdir()
    uri = "https://us-central1-aiplatform.googleapis.com/v1/projects/1/locations/us-central1/customJobs/123"
    launch.write_text(json.dumps({"resources": [{"resourceType": "CustomJob", "resourceUri": uri}]}))
    reader = LogReader(home, "run", Inspector(tmp_path, True))
    assert reader.tasks() == ["ingest", "train"]
    assert [(line.source, line.text) for line in reader.read()] == [
        ("ingest", "one"),
        ("ingest", "two"),
        ("ingest", "unfinished"),
        ("train", "launched"),
        ("train/workerpool0-0", "epoch 1"),
    ]
    assert [line.text for line in reader.read("ingest", tail=1)] == ["unfinished"]
    assert [line.text for line in reader.follow("train", tail=1)] == ["launched", "epoch 1"]


def test_logs_of_one_attempt(home: Home, tmp_path: Path) -> None:
    home.create()
    (home.logs / "run").mkdir()
    (home.logs / "run/train.log").write_text("no\nno luck\nagain\nat last")
    (home.logs / "123").mkdir()
    (home.logs / "123/workerpool0-0.log").write_text("epoch 1\n")
    folder = tmp_path / "train_77_1"
    folder.mkdir()
    (folder / "gcp_resources").write_text('{"resources": [{"resourceUri": "projects/1/customJobs/123"}]}')
    reader = LogReader(home, "run", Inspector(tmp_path, True))
    assert reader.tasks() == ["train"], "whichever attempt has launched the job"

    def read(*place: Any, **most: int) -> list[str]:
        return [line.text for line in reader.attempt("train", *place, **most)]

    assert read(0, 11, tmp_path) == ["no", "no luck"]
    assert read(0, 11, tmp_path, last=9) == read(0, 11, tmp_path, tail=1) == ["no luck"]
    assert read(11, None, folder) == ["again", "at last", "epoch 1"]
    assert read(11, None, tmp_path, last=100) == ["again", "at last"]


def test_following_misses_no_line_and_repeats_none(home: Home) -> None:
    home.create()
    (home.logs / "run").mkdir()
    path = home.logs / "run/task.log"
    path.write_text("old\nfirst\nhal")
    lines = LogReader(home, "run", Inspector(None, False, True)).follow(tail=1)
    seen = [next(lines).text]
    with path.open("a") as file:
        file.write("f\nlast")
    (home.logs / "run/late.log").write_text("late\n")
    seen += [line.text for line in lines]
    assert sorted(seen) == ["first", "half", "last", "late"]
