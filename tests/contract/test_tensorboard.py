"""Protects TensorBoard as the SDK uses it: its own classes, and its client where the classes have no call."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from google.api_core import exceptions


def fresh(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def tensorboard(aiplatform: ModuleType) -> Iterator[Any]:
    tensorboard = aiplatform.Tensorboard.create(display_name=fresh("board"), labels={"team": "vision"})
    yield tensorboard
    tensorboard.delete()


@pytest.fixture
def run(tensorboard: Any) -> Any:
    return tensorboard_run(tensorboard, fresh("experiment"))


def tensorboard_run(tensorboard: Any, experiment: str) -> Any:
    from google.cloud import aiplatform

    made = aiplatform.TensorboardExperiment.create(experiment, tensorboard_name=tensorboard.resource_name)
    return aiplatform.TensorboardRun.create("run-1", tensorboard_experiment_name=made.resource_name)


def test_tensorboards(aiplatform: ModuleType, tensorboard: Any) -> None:
    same = aiplatform.Tensorboard(tensorboard.resource_name)
    assert (same.display_name, same.labels) == (tensorboard.display_name, {"team": "vision"})
    same.update(description="what we trained", labels={"team": "text"})
    assert aiplatform.Tensorboard(tensorboard.resource_name).gca_resource.description == "what we trained"
    where = f'display_name="{tensorboard.display_name}" AND labels.team=text'
    assert [item.name for item in aiplatform.Tensorboard.list(filter=where)] == [tensorboard.name]
    gone = aiplatform.Tensorboard.create(display_name="gone")
    name = tensorboard_run(gone, "experiment").resource_name
    assert aiplatform.Tensorboard(gone.resource_name).gca_resource.run_count == 1
    gone.delete()
    for kind, of in ((aiplatform.Tensorboard, gone.resource_name), (aiplatform.TensorboardRun, name)):
        with pytest.raises(exceptions.NotFound):
            kind(of)


def test_one_tensorboard_is_the_default(aiplatform: ModuleType, tensorboard: Any) -> None:
    default = "is_default=true"
    chosen = aiplatform.Tensorboard.create(display_name="chosen", is_default=True)
    assert [item.name for item in aiplatform.Tensorboard.list(filter=default)] == [chosen.name]
    tensorboard.update(is_default=True)
    assert [item.name for item in aiplatform.Tensorboard.list(filter=default)] == [tensorboard.name]
    chosen.delete()


def test_experiments_and_runs(aiplatform: ModuleType, tensorboard: Any, run: Any) -> None:
    (experiment,) = aiplatform.TensorboardExperiment.list(tensorboard_name=tensorboard.resource_name)
    client = tensorboard.api_client
    client.update_tensorboard_experiment(
        tensorboard_experiment={"name": experiment.resource_name, "description": "mine"},
        update_mask={"paths": ["description"]},
    )
    assert client.get_tensorboard_experiment(name=experiment.resource_name).description == "mine"
    client.update_tensorboard_run(
        tensorboard_run={"name": run.resource_name, "labels": {"a": "b"}}, update_mask={"paths": ["labels"]}
    )
    assert dict(aiplatform.TensorboardRun(run.resource_name).gca_resource.labels) == {"a": "b"}
    requests = [{"tensorboard_run": {"display_name": id}, "tensorboard_run_id": id} for id in ("run-2", "run-3")]
    request = {"parent": experiment.resource_name, "requests": [{**each, "parent": ""} for each in requests]}
    assert len(client.batch_create_tensorboard_runs(request=request).tensorboard_runs) == 2
    runs = aiplatform.TensorboardRun.list(tensorboard_experiment_name=experiment.resource_name, order_by="display_name")
    assert [item.display_name for item in runs] == ["run-1", "run-2", "run-3"]
    with pytest.raises(exceptions.GoogleAPICallError, match='display_name "run-2" already exists'):
        aiplatform.TensorboardRun.create(
            "other", tensorboard_experiment_name=experiment.resource_name, display_name="run-2"
        )
    runs[1].delete()
    assert len(aiplatform.TensorboardRun.list(tensorboard_experiment_name=experiment.resource_name)) == 2
    experiment.delete()
    with pytest.raises(exceptions.NotFound):
        aiplatform.TensorboardRun(run.resource_name)


def test_scalars_are_read_back(aiplatform: ModuleType, run: Any) -> None:
    for name in ("loss", "accuracy"):
        run.create_tensorboard_time_series(name, description=f"the {name}")
    for step in range(1, 6):
        run.write_tensorboard_scalar_data({"loss": 1 / step, "accuracy": step / 10}, step=step)
    run.write_tensorboard_scalar_data({"loss": 0.125}, step=5)
    data = run.read_time_series_data()
    assert [(point.step, point.scalar.value) for point in data["loss"].values][-2:] == [(4, 0.25), (5, 0.125)]
    assert len(data["accuracy"].values) == 5
    with pytest.raises(RuntimeError, match="has not been created"):
        run.write_tensorboard_scalar_data({"f1": 1.0}, step=1)
    (series,) = aiplatform.TensorboardTimeSeries.list(
        tensorboard_run_name=run.resource_name, filter='display_name="loss"'
    )
    assert series.gca_resource.metadata.max_step == 5
    client = series.api_client
    some = client.read_tensorboard_time_series_data(
        request={"tensorboard_time_series": series.resource_name, "max_data_points": 2, "filter": "step>1"}
    )
    assert [point.step for point in some.time_series_data.values] == [3, 5]
    exported = client.export_tensorboard_time_series_data(
        request={"tensorboard_time_series": series.resource_name, "page_size": 2}
    )
    assert [point.step for point in exported] == [1, 2, 3, 4, 5]
    client.update_tensorboard_time_series(
        tensorboard_time_series={"name": series.resource_name, "description": "lower is better"},
        update_mask={"paths": ["description"]},
    )
    assert aiplatform.TensorboardTimeSeries(series.resource_name).gca_resource.description == "lower is better"
    board = run.resource_name.partition("/experiments/")[0]
    assert client.read_tensorboard_size(tensorboard=board).storage_size_byte > 0
    series.delete()
    assert set(run.read_time_series_data()) == {"accuracy"}


def test_points_of_several_runs_are_written_at_once(aiplatform: ModuleType, run: Any) -> None:
    client, experiment = run.api_client, run.resource_name.partition("/runs/")[0]
    made = client.batch_create_tensorboard_time_series(
        parent=experiment,
        requests=[
            {
                "parent": run.resource_name,
                "tensorboard_time_series_id": id,
                "tensorboard_time_series": {"display_name": id, "value_type": value_type},
            }
            for id, value_type in (("loss", "SCALAR"), ("weights", "TENSOR"), ("images", "BLOB_SEQUENCE"))
        ],
    ).tensorboard_time_series
    values = {
        "loss": {"scalar": {"value": 2.0}},
        "weights": {"tensor": {"value": b"\x08\x01", "version_number": 1}},
        "images": {"blobs": {"values": [{"data": b"first"}, {"data": b"second"}]}},
    }
    data = [
        {
            "tensorboard_time_series_id": series.name.rsplit("/", 1)[1],
            "value_type": series.value_type,
            "values": [{"step": 7, "wall_time": {"seconds": 1_700_000_000}, **values[series.display_name]}],
        }
        for series in made
    ]
    request = {"tensorboard_run": run.resource_name, "time_series_data": data}
    client.write_tensorboard_experiment_data(tensorboard_experiment=experiment, write_run_data_requests=[request])
    read = run.read_time_series_data()
    assert read["weights"].values[0].tensor.value == b"\x08\x01"
    blobs = read["images"].values[0].blobs.values
    assert [blob.data for blob in blobs] == [b"", b""]
    name = f"{run.resource_name}/timeSeries/images"
    answers = client.read_tensorboard_blob_data(request={"time_series": name, "blob_ids": [blobs[1].id]})
    assert [blob.data for answer in answers for blob in answer.blobs] == [b"second"]
    assert client.get_tensorboard_time_series(name=name).metadata.max_blob_sequence_length == 2
    wrong = {**data[0], "values": [{"step": 8, "tensor": {"value": b"x"}}]}
    with pytest.raises(exceptions.BadRequest, match="step 8 must have a scalar"):
        client.write_tensorboard_run_data(tensorboard_run=run.resource_name, time_series_data=[wrong])
    with pytest.raises(exceptions.NotFound, match="timeSeries/other"):
        client.write_tensorboard_run_data(
            tensorboard_run=run.resource_name, time_series_data=[{**data[0], "tensorboard_time_series_id": "other"}]
        )
