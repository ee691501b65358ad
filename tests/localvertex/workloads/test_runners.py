"""Protects what every runner promises: logs and exit codes, an end when told, nothing left running, what is mounted."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localvertex.home import Home
from localvertex.workloads import Runner, Workload, WorkloadError, runners
from localvertex.workloads.quantities import quantity
from localvertex.workloads.table import ImageTable
from tests.localvertex.processes import is_alive
from tests.localvertex.runners import IN_CONTAINERS, new_runner


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


@pytest.fixture
def runner(home: Home) -> Iterator[Runner]:
    (home.keys / "ca.pem").write_text("the authority")
    made = new_runner(home, ImageTable((), home.path), {"REDIRECT": "yes", "AUTHORITY": str(home.keys / "ca.pem")})
    yield made
    made.sweep()


def workload(tmp_path: Path, *command: str, **more: object) -> Workload:
    return Workload(**{"id": "w-1", "image": "any", "command": command, "args": (), "log": tmp_path / "log", **more})  # type: ignore[arg-type]


def output(runner: Runner, tmp_path: Path, *command: str, **more: object) -> str:
    assert runner.start(workload(tmp_path, *command, **more)).wait() == 0
    return (tmp_path / "log").read_text()


def test_both_streams_are_in_the_log_and_the_exit_code_comes_back(runner: Runner, tmp_path: Path) -> None:
    running = runner.start(workload(tmp_path, "sh", "-c", "echo out; echo err >&2; exit 3"))
    assert running.wait() == 3
    # Two pipes: which is read first is up to the engine.
    assert sorted((tmp_path / "log").read_text().splitlines()) == ["err", "out"]


def test_logs_can_be_read_while_they_are_written(runner: Runner, tmp_path: Path) -> None:
    running = runner.start(workload(tmp_path, "sh", "-c", "echo begun; sleep 60"))
    _until(lambda: (tmp_path / "log").read_text() == "begun\n")
    running.stop(0)


def test_waiting_ends_at_its_timeout(runner: Runner, tmp_path: Path) -> None:
    running = runner.start(workload(tmp_path, "sleep", "30"))
    assert running.wait(0.05) is None
    running.stop(0)
    assert running.wait() == 137


def test_variables_and_the_files_that_they_name_are_there(runner: Runner, tmp_path: Path) -> None:
    text = output(runner, tmp_path, "sh", "-c", 'echo "$REDIRECT $MINE"; cat "$AUTHORITY"', env={"MINE": "too"})
    assert text == "yes too\nthe authority"


def test_what_is_written_to_a_bucket_belongs_to_who_runs_localvertex(
    runner: Runner, home: Home, tmp_path: Path
) -> None:
    (home.gcs / "bucket").mkdir()
    output(runner, tmp_path, "sh", "-c", 'echo x > "$0"', args=(runner.path(home.gcs / "bucket/file", "any"),))
    assert (home.gcs / "bucket/file").read_text() == "x\n"
    assert (home.gcs / "bucket/file").stat().st_uid == os.getuid()


def test_trials_report_to_the_file_that_is_looked_at(runner: Runner, home: Home, tmp_path: Path) -> None:
    file = home.path / "trials/1/output.metric"
    file.parent.mkdir(parents=True)
    report = 'echo "{}" > "$CLOUD_ML_HP_METRIC_FILE"'
    output(runner, tmp_path, "sh", "-c", report, env={"CLOUD_ML_HP_METRIC_FILE": str(file)})
    assert file.read_text() == "{}\n"


def test_what_the_main_process_leaves_running_ends_with_it(runner: Runner, home: Home, tmp_path: Path) -> None:
    (home.gcs / "bucket").mkdir()
    leave = 'setsid sh -c \'while :; do echo x >> "$0"; sleep 0.1; done\' "$0" & while [ ! -s "$0" ]; do :; done'
    beats = home.gcs / "bucket/beats"
    output(runner, tmp_path, "sh", "-c", leave, args=(runner.path(beats, "any"),))
    size = beats.stat().st_size
    time.sleep(0.3)
    assert beats.stat().st_size == size


def test_stop_gives_time_to_tidy_up_and_then_ends_everything(runner: Runner, tmp_path: Path) -> None:
    polite = runner.start(workload(tmp_path, "sh", "-c", "trap 'echo tidy; exit 0' TERM; echo on; sleep 60 & wait"))
    _until(lambda: "on" in (tmp_path / "log").read_text())
    polite.stop()
    assert (tmp_path / "log").read_text() == "on\ntidy\n"
    deaf = runner.start(workload(tmp_path, "sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"))
    _until(lambda: "deaf" in (tmp_path / "log").read_text())
    deaf.stop(0.2)
    assert deaf.wait() == 137
    assert not is_alive(deaf.pid)


def test_a_new_server_sweeps_what_a_killed_one_left(runner: Runner, tmp_path: Path) -> None:
    left = runner.start(workload(tmp_path, "sh", "-c", "sleep 60 & echo on; wait"))
    _until(lambda: "on" in (tmp_path / "log").read_text())
    other = new_runner(Home(tmp_path / "other").create(), ImageTable((), tmp_path), {})
    assert other.sweep() == 0
    assert runner.sweep() == (1 if IN_CONTAINERS else 2)
    assert not is_alive(left.pid)


def test_its_process_leads_a_session(runner: Runner, tmp_path: Path) -> None:
    running = runner.start(workload(tmp_path, "sleep", "60"))
    assert os.getsid(running.pid) == running.pid
    running.stop(0)


def test_what_the_runner_cannot_start_is_told(runner: Runner, tmp_path: Path) -> None:
    try:
        code = runner.start(workload(tmp_path, "no-such-program")).wait()
    except WorkloadError as error:
        assert "cannot run no-such-program" in str(error)
    else:
        assert code == 127
        assert "no-such-program" in (tmp_path / "log").read_text()


def test_an_unknown_runner_is_refused() -> None:
    assert runners.wanted({}) == runners.DEFAULT
    with pytest.raises(WorkloadError, match="LOCALVERTEX_RUNNER=podman: no such runner; there are process and docker"):
        runners.wanted({runners.VARIABLE: "podman"})


def test_what_another_runner_left_is_looked_for_until_it_can_be(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runners.take_over(home, runners.DOCKER)
    assert runners.last(home) == runners.DOCKER
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    runners.take_over(home, runners.DEFAULT)
    assert runners.last(home) == runners.DOCKER
    assert "what an earlier server left running is not looked for: no Docker engine answers" in caplog.text
    runners.take_over(home, runners.DOCKER)
    with pytest.raises(WorkloadError, match="no Docker engine answers"):
        runners.sweep(home)


def test_quantities_are_as_kubernetes_writes_them() -> None:
    given = {"": 0, "2": 2, "500m": 0.5, "8G": 8e9, "512Mi": 2**29, "1.5": 1.5, "1e3": 1000, "0.5Gi": 2**29}
    assert {text: quantity(text) for text in given} == pytest.approx(given)
    for text in ("G", "5 G", "5Q", "-1", "a"):
        with pytest.raises(WorkloadError, match="is not a quantity"):
            quantity(text)


def test_python_in_it_is_prepared_for_the_buckets(runner: Runner, home: Home, tmp_path: Path) -> None:
    tell = "from kfp.dsl.types import artifact_types as a; print(repr(a.Artifact(uri='gs://b/o').path))"
    told = output(runner, tmp_path, "python", "-c", tell).splitlines()[-1].strip("'")
    assert told == runner.path(home.gcs.resolve() / "b/o", "any")


def _until(condition: Callable[[], object]) -> None:
    while not condition():
        time.sleep(0.01)
