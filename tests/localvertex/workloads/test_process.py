"""Protects the process runner: logs and exit codes, nothing left running, and the hook that replaces a container."""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from localvertex.workloads import Workload, WorkloadError
from localvertex.workloads.process import ProcessRunner
from localvertex.workloads.table import Entry, ImageTable


@dataclass
class Folder:
    path: Path

    @property
    def gcs(self) -> Path:
        return self.path / "gcs"


@pytest.fixture
def runner(tmp_path: Path) -> ProcessRunner:
    table = ImageTable([Entry("served", Path(sys.executable), tmp_path, ("sh", "-c", "echo served"))], tmp_path)
    return ProcessRunner(Folder(tmp_path / "home"), table, {"REDIRECT": "yes"})


def workload(tmp_path: Path, *command: str, **more: object) -> Workload:
    return Workload(**{"id": "w-1", "image": "any", "command": command, "args": (), "log": tmp_path / "log", **more})  # type: ignore[arg-type]


def output(runner: ProcessRunner, tmp_path: Path, *command: str, **more: object) -> str:
    assert runner.start(workload(tmp_path, *command, **more)).wait() == 0
    return (tmp_path / "log").read_text()


def test_variables_and_folder_are_those_of_the_workload(runner: ProcessRunner, tmp_path: Path) -> None:
    text = output(runner, tmp_path, "sh", "-c", "echo $REDIRECT $MINE; pwd", env={"MINE": "too"})
    assert text == f"yes too\n{tmp_path}\n"


def test_python_is_the_interpreter_of_the_table_also_inside_a_shell(runner: ProcessRunner, tmp_path: Path) -> None:
    tell = "import sys; print(sys.prefix)"
    assert output(runner, tmp_path, "python", "-c", tell).split() == [sys.prefix]
    assert output(runner, tmp_path, "sh", "-c", f"python3 -c '{tell}'").split()[-1] == sys.prefix


def test_a_serving_command_comes_from_the_table(runner: ProcessRunner, tmp_path: Path) -> None:
    assert output(runner, tmp_path, image="served", serve=True) == "served\n"


def test_an_image_without_any_command_is_refused(runner: ProcessRunner, tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="no command"):
        runner.start(workload(tmp_path))
    with pytest.raises(WorkloadError, match=r"xgboost-cpu.1-7:latest: of Vertex AI's pre-built serving images"):
        image = "europe-docker.pkg.dev/vertex-ai/prediction/xgboost-cpu.1-7:latest"
        runner.start(workload(tmp_path, image=image, serve=True))


def test_a_command_that_does_not_exist_is_told(runner: ProcessRunner, tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="cannot run no-such-program"):
        runner.start(workload(tmp_path, "no-such-program"))


def test_no_temporary_file_is_left(runner: ProcessRunner, tmp_path: Path) -> None:
    text = output(runner, tmp_path, "sh", "-c", "mktemp -d")
    assert str(tmp_path / "home") in text
    assert not list((tmp_path / "home" / "tmp").iterdir())


def test_kfp_maps_buckets_to_the_state_folder_and_gcpc_polls_often(runner: ProcessRunner, tmp_path: Path) -> None:
    tell = "from kfp.dsl.types import artifact_types as a; print(a.Artifact(uri='gs://b/o').path)"
    assert output(runner, tmp_path, "python", "-c", tell).strip() == str(tmp_path / "home/gcs/b/o")
    tell = (
        "import importlib.util as u, sys; f = next(f for f in sys.meta_path if type(f).__name__ == '_SetAfterImport'); "
        "import json; print(json.dumps({k: list(v) for k, v in f._constants.items()}))"
    )
    (tmp_path / "log").unlink()
    for module, constants in json.loads(output(runner, tmp_path, "python", "-c", tell)).items():
        source = (
            Path(sys.prefix)
            / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
            / module.replace(".", "/")
        )
        assert f"{constants[0]} = " in source.with_suffix(".py").read_text(), "the SDK has renamed what the hook sets"


def test_pip_skips_what_is_there_and_a_hidden_sitecustomize_still_runs(runner: ProcessRunner, tmp_path: Path) -> None:
    started = time.monotonic()
    output(runner, tmp_path, "python3", "-m", "pip", "install", "--quiet", "pytest>1", "nothing; python_version<'3'")
    assert time.monotonic() - started < 60
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("print('hidden ran')")
    assert "hidden ran" in output(runner, tmp_path, "python", "-c", "", env={"PYTHONPATH": str(hidden)})


def test_pip_reaches_what_lies_outside_the_redirect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", "/the/users/own.pem")
    runner = ProcessRunner(
        Folder(tmp_path / "home"),
        ImageTable((), tmp_path),
        {"HTTPS_PROXY": "http://127.0.0.1:1", "SSL_CERT_FILE": "/redirect/ca.pem"},
    )
    fake = tmp_path / "fake/pip"
    fake.mkdir(parents=True)
    tell = "import os; print(os.environ.get('HTTPS_PROXY'), os.environ['SSL_CERT_FILE'])"
    (fake / "__init__.py").touch()
    (fake / "__main__.py").write_text(tell)
    install = ("python3", "-m", "pip", "install", "no-such-package-anywhere")
    assert output(runner, tmp_path, *install, env={"PYTHONPATH": str(fake.parent)}) == "None /the/users/own.pem\n"
    (tmp_path / "log").unlink()
    assert output(runner, tmp_path, "python3", "-c", tell) == "http://127.0.0.1:1 /redirect/ca.pem\n"


def _until(condition: object) -> None:
    while not condition():  # type: ignore[operator]
        time.sleep(0.01)
