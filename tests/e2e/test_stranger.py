"""Protects the stranger's path: a wheel in an environment of its own, and a script that knows nothing of ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.e2e.checkouts import NOT_COPIED, REPOSITORY

SERVER = """
import json, os
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer({"predictions": [3 * each for each in asked["instances"]]})

    def answer(self, said):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())

HTTPServer(("127.0.0.1", int(os.environ["AIP_HTTP_PORT"])), Handler).serve_forever()
"""

SCRIPT = f"""
from google.cloud import aiplatform
from kfp import compiler, dsl


@dsl.component
def double(number: int, made: dsl.Output[dsl.Dataset]) -> int:
    with open(made.path, "w") as file:
        file.write(str(2 * number))
    return 2 * number


@dsl.component
def read(made: dsl.Input[dsl.Dataset]) -> str:
    with open(made.path) as file:
        return file.read()


@dsl.pipeline(name="mine")
def mine(number: int = 1):
    read(made=double(number=number).outputs["made"])


compiler.Compiler().compile(mine, "mine.json")
aiplatform.init(project="my-project", location="europe-west4", staging_bucket="gs://my-bucket")
job = aiplatform.PipelineJob(display_name="mine", template_path="mine.json", parameter_values={{"number": 21}})
job.submit()
job.wait()
print("job", job.state.name)
for artifact in aiplatform.Artifact.list():
    print("artifact", artifact.schema_title, artifact.uri.startswith("gs://my-bucket/"))
model = aiplatform.Model.upload(
    display_name="triple",
    serving_container_image_uri="example.com/triple:1",
    serving_container_command=["python3", "-c", {SERVER!r}],
    serving_container_predict_route="/predict",
    serving_container_health_route="/health",
)
endpoint = model.deploy(machine_type="n1-standard-2")
print("predictions", endpoint.predict(instances=[1, 2]).predictions)
endpoint.delete(force=True)
"""

SESSION = 'set -e; localvertex start; eval "$(localvertex env)"; python script.py; localvertex runs; localvertex stop'


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip install` of this repository installs."""
    folder = tmp_path_factory.mktemp("wheel")
    # In a copy: building writes into the tree.
    shutil.copytree(REPOSITORY, folder / "repository", ignore=NOT_COPIED)
    _pip("wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={folder}", str(folder / "repository"))
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_all_of_localvertex(wheel: Path) -> None:
    files = (path for path in (REPOSITORY / "localvertex").rglob("*") if path.is_file())
    ours = {path.relative_to(REPOSITORY).as_posix() for path in files if "__pycache__" not in path.parts}
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("localvertex/")}
    assert held == {name for name in ours if not name.endswith(".md")}


def test_a_script_of_somebody_else_runs_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    environment, folder = tmp_path / "environment", tmp_path / "folder"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    _pip("--python", str(environment / "bin/python"), "install", "--no-deps", "--no-index", str(wheel))
    # In place of a download: the packages that the lock file pins, but not the link to this working tree.
    (packages,) = (environment / "lib").glob("python*/site-packages")
    (packages / "pinned.pth").write_text(sysconfig.get_path("purelib"))
    folder.mkdir()
    (folder / "script.py").write_text(SCRIPT)
    variables = {"HOME": str(tmp_path), "PATH": os.pathsep.join([str(environment / "bin"), os.defpath])}
    try:
        done = subprocess.run(["bash", "-c", SESSION], cwd=folder, env=variables, capture_output=True, text=True)
    finally:
        subprocess.run([str(environment / "bin/localvertex"), "stop"], cwd=folder, env=variables, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("localvertex started on 127.0.0.1:")
    assert "job PIPELINE_STATE_SUCCEEDED" in lines
    assert "artifact system.Dataset True" in lines
    assert "predictions [3.0, 6.0]" in lines
    assert any(line.startswith("mine-") and "SUCCEEDED" in line for line in lines)
    made = {path.name for path in folder.iterdir()}
    assert made == {"script.py", "mine.json", ".localvertex"}, "one folder, safe to delete, holds all of it"


def _pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
