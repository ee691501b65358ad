"""Protects the SDK's training jobs against localvertex, over gRPC and REST: script, package and container."""

from __future__ import annotations

import io
import tarfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.api_core import exceptions

from tests.contract.conftest import BUCKET

PREBUILT = "us-docker.pkg.dev/vertex-ai/training/sklearn-cpu.1-6:latest"
SERVING = "example.test/server:1"
MACHINE = {"machine_type": "n1-standard-4", "replica_count": 1}
# What is trained is a file that says which arguments it was trained with.
TASK = """
import os, sys
from google.cloud import storage
blob = storage.Blob.from_string(os.path.join(os.environ["AIP_MODEL_DIR"], "model.txt"), client=storage.Client())
blob.upload_from_string(" ".join(sys.argv[1:]))
"""
SETUP = """
from setuptools import setup
setup(name="reader", version="1", packages=["reader"], install_requires=["proto-plus"])
"""


def trained(model: Any) -> str:
    from google.cloud import storage

    bucket, _, folder = model.uri.removeprefix("gs://").partition("/")
    return str(storage.Client().bucket(bucket).blob(f"{folder}/model.txt").download_as_text())


def test_a_script_is_packaged_run_and_its_model_uploaded(aiplatform: ModuleType, tmp_path: Path) -> None:
    script = tmp_path / "task.py"
    script.write_text(TASK)
    job = aiplatform.CustomTrainingJob(
        display_name="script",
        script_path=str(script),
        container_uri=PREBUILT,
        requirements=["grpcio"],
        model_serving_container_image_uri=SERVING,
    )
    model = job.run(args=["--epochs=3"], model_display_name="from script", **MACHINE)
    assert trained(model) == "--epochs=3"
    assert (model.display_name, model.version_id) == ("from script", "1")
    assert model.gca_resource.training_pipeline == job.resource_name
    assert job.resource_name in [one.resource_name for one in aiplatform.CustomTrainingJob.list()]
    job.delete()
    with pytest.raises(exceptions.NotFound):
        aiplatform.CustomTrainingJob.get(job.resource_name)


def test_a_module_of_a_package_is_run(aiplatform: ModuleType) -> None:
    from google.cloud import storage

    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, text in (("setup.py", SETUP), ("reader/__init__.py", ""), ("reader/task.py", TASK)):
            member = tarfile.TarInfo(f"reader-1/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    storage.Client().bucket(BUCKET).blob("packages/reader-1.tar.gz").upload_from_string(content.getvalue())
    job = aiplatform.CustomPythonPackageTrainingJob(
        display_name="package",
        python_package_gcs_uri=f"gs://{BUCKET}/packages/reader-1.tar.gz",
        python_module_name="reader.task",
        container_uri=PREBUILT,
        model_serving_container_image_uri=SERVING,
    )
    assert (
        trained(job.run(args=["--from=package"], base_output_dir=f"gs://{BUCKET}/out", **MACHINE)) == "--from=package"
    )


def test_a_container_is_run_on_several_replicas(aiplatform: ModuleType) -> None:
    job = aiplatform.CustomContainerTrainingJob(
        display_name="container",
        container_uri="example.test/job:1",
        command=["python", "-c", "import json, os; print(json.loads(os.environ['TF_CONFIG'])['task'])"],
    )
    assert job.run(machine_type="n1-standard-4", replica_count=3) is None
    assert job.state.name == "PIPELINE_STATE_SUCCEEDED"


def test_a_training_pipeline_is_cancelled(aiplatform: ModuleType) -> None:
    job = aiplatform.CustomContainerTrainingJob(
        display_name="container", container_uri="example.test/job:1", command=["sleep", "3600"]
    )
    job.submit(**MACHINE)
    while job.state.name != "PIPELINE_STATE_RUNNING":
        time.sleep(0.05)
    job.cancel()
    while job.state.name != "PIPELINE_STATE_CANCELLED":
        time.sleep(0.05)


def test_what_fails_says_why(aiplatform: ModuleType) -> None:
    job = aiplatform.CustomContainerTrainingJob(
        display_name="container",
        container_uri="example.test/job:1",
        command=["python", "-c", "raise SystemExit('no data')"],
    )
    with pytest.raises(RuntimeError, match=r"non-zero status of 1.*no data"):
        job.run(**MACHINE)
