"""Protects the state folder and its privacy, and the normalising of names that services rely on."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.cloud.aiplatform_v1.types import (
    BatchDeletePipelineJobsRequest,
    CreatePipelineJobRequest,
    CustomJob,
    DeployModelRequest,
    ListPipelineJobsRequest,
)

from localvertex import names
from localvertex.home import Home


def test_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Home.find({}).path == tmp_path / ".localvertex"
    assert Home.find({"LOCALVERTEX_HOME": "elsewhere"}).path == tmp_path / "elsewhere"
    assert Home.find({"LOCALVERTEX_PROJECT": "mine"}).project_id == "mine"


def test_rooms_are_private(tmp_path: Path) -> None:
    home = Home(tmp_path / "state").create()
    for folder in (home.path, home.gcs, home.logs, home.uploads, home.keys):
        assert folder.stat().st_mode & 0o077 == 0, folder
    assert home.create() is home


def number_of(project: str) -> str:
    return {"mine": "7", "other-project": "8"}[project]


def test_project_ids_become_numbers_wherever_names_stand() -> None:
    request = CreatePipelineJobRequest(
        parent="projects/mine/locations/x",
        pipeline_job={
            "network": "projects/other-project/global/networks/n",
            "display_name": "projects/mine/a",
        },
    )
    names.normalise(request, number_of)
    assert request.parent == "projects/7/locations/x"
    assert request.pipeline_job.network == "projects/8/global/networks/n"
    assert request.pipeline_job.display_name == "projects/mine/a", "free text stays as it came"


def test_users_own_words_stay() -> None:
    job = CustomJob(
        labels={"a": "projects/mine/x"},
        job_spec={"worker_pool_specs": [{"container_spec": {"args": ["projects/mine/x"]}}]},
    )
    before = CustomJob(job)
    names.normalise(job, number_of)
    assert job == before
    pipeline = CreatePipelineJobRequest(pipeline_job={"pipeline_spec": {"name": "projects/mine/x"}})
    names.normalise(pipeline, number_of)
    assert dict(pipeline.pipeline_job.pipeline_spec) == {"name": "projects/mine/x"}


def test_names_inside_filters_and_maps() -> None:
    request = ListPipelineJobsRequest(filter='schedule_name="projects/mine/locations/x/schedules/1" AND a="projects"')
    names.normalise(request, number_of)
    assert request.filter == 'schedule_name="projects/7/locations/x/schedules/1" AND a="projects"'
    deploy = DeployModelRequest(endpoint="projects/mine/locations/x/endpoints/1", traffic_split={"0": 100})
    names.normalise(deploy, number_of)
    assert deploy.endpoint == "projects/7/locations/x/endpoints/1"
    assert deploy.traffic_split == {"0": 100}


def test_repeated_names() -> None:
    request = BatchDeletePipelineJobsRequest(names=["projects/mine/locations/x/pipelineJobs/1", "other"])
    names.normalise(request, number_of)
    assert request.names == ["projects/7/locations/x/pipelineJobs/1", "other"]


def test_parts_of_names() -> None:
    name = "projects/7/locations/us-central1/models/12@3"
    assert names.location_parent(name) == names.parent("7", "us-central1")
    assert (names.project_of(name), names.location_of(name), names.id_of(name)) == ("7", "us-central1", "12")
    ids = {names.new_id() for _ in range(100)}
    assert len(ids) == 100 and all(len(each) == 19 and each.isdigit() for each in ids)
