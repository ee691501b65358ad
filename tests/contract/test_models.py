"""Protects the SDK's model registry against localvertex, over gRPC and REST."""

from __future__ import annotations

import uuid
from types import ModuleType
from typing import Any

import pytest
from google.api_core import exceptions

from tests.contract.conftest import BUCKET, LOCATION

IMAGE = "example.test/server:1"


def upload(aiplatform: ModuleType, **model: Any) -> Any:
    return aiplatform.Model.upload(
        **{
            "display_name": "reader",
            "serving_container_image_uri": IMAGE,
            "artifact_uri": "gs://b/m",
            **model,
        }
    )


def test_a_model_is_uploaded_found_and_deleted(aiplatform: ModuleType) -> None:
    model = upload(aiplatform, display_name="only", labels={"stage": "test"}, description="reads words")
    found = aiplatform.Model(model.resource_name)
    assert (found.version_id, found.version_aliases, found.uri) == ("1", ["default"], "gs://b/m")
    assert found.container_spec.image_uri == IMAGE and found.description == "reads words"
    listed = aiplatform.Model.list(filter='display_name="only" AND labels.stage="test"')
    assert [one.resource_name for one in listed] == [model.resource_name]
    model.delete()
    with pytest.raises(exceptions.NotFound):
        aiplatform.Model(model.resource_name)


def test_versions_and_aliases(aiplatform: ModuleType) -> None:
    first = upload(aiplatform)
    second = upload(aiplatform, parent_model=first.resource_name, is_default_version=False, version_aliases=["new"])
    assert second.resource_name == first.resource_name and second.version_id == "2"
    name = first.resource_name
    assert aiplatform.Model(f"{name}@new").version_id == "2" and aiplatform.Model(name).version_id == "1"
    registry = first.versioning_registry
    registry.add_version_aliases(["default"], version="2")
    registry.remove_version_aliases(["new"], version="2")
    assert {one.version_id: list(one.version_aliases) for one in registry.list_versions()} == {
        "1": [],
        "2": ["default"],
    }
    registry.delete_version("1")
    assert [one.version_id for one in registry.list_versions()] == ["2"]
    first.delete()


def test_a_model_is_updated(aiplatform: ModuleType) -> None:
    model = upload(aiplatform)
    model.update(display_name="writer", labels={"stage": "live"})
    found = aiplatform.Model(model.resource_name)
    assert (found.display_name, dict(found.labels)) == ("writer", {"stage": "live"})
    model.delete()


def test_evaluations_are_imported_and_listed(aiplatform: ModuleType) -> None:
    from google.cloud.aiplatform_v1.types import ModelEvaluation, ModelEvaluationSlice

    model = upload(aiplatform)
    evaluation = ModelEvaluation(display_name="test split", metrics={"cer": 0.03})
    created = model.api_client.import_model_evaluation(parent=model.resource_name, model_evaluation=evaluation)
    (listed,) = model.list_model_evaluations()
    assert listed.resource_name == created.name and listed.metrics["cer"] == 0.03
    found = model.get_model_evaluation(evaluation_id=created.name.rsplit("/", 1)[1])
    assert found.display_name == "test split"
    young = ModelEvaluationSlice(
        slice_={"dimension": "annotationSpec", "value": "young"}, metrics_schema_uri="gs://s", metrics={"cer": 0.01}
    )
    imported = model.api_client.batch_import_model_evaluation_slices(
        parent=created.name, model_evaluation_slices=[young]
    ).imported_model_evaluation_slices
    (one,) = model.api_client.list_model_evaluation_slices(parent=created.name)
    assert [one.name] == list(imported)
    assert model.api_client.get_model_evaluation_slice(name=one.name).metrics["cer"] == 0.01
    model.delete()


def test_numbers_of_deleted_versions_are_not_given_again(aiplatform: ModuleType) -> None:
    first = upload(aiplatform)
    for number in ("2", "3"):
        version = upload(aiplatform, parent_model=first.resource_name, is_default_version=False)
        assert version.version_id == number
        first.versioning_registry.delete_version(number)
    first.delete()


def test_a_model_is_copied_and_exported(aiplatform: ModuleType) -> None:
    from google.cloud import storage

    bucket = storage.Client().bucket(BUCKET)
    bucket.blob("trained/saved_model.pb").upload_from_string("weights")
    model = upload(aiplatform, artifact_uri=f"gs://{BUCKET}/trained", labels={"stage": "test"})
    copy = model.copy(destination_location=LOCATION, destination_model_id=f"copy-{uuid.uuid4().hex[:8]}")
    assert copy.resource_name != model.resource_name
    assert (copy.version_id, copy.uri, dict(copy.labels)) == ("1", model.uri, {"stage": "test"})
    version = model.copy(destination_location=LOCATION, destination_parent_model=copy.resource_name)
    assert version.version_id == "2"
    exported = copy.export_model("custom-trained", f"gs://{BUCKET}/exports")["artifactOutputUri"]
    assert exported.startswith(f"gs://{BUCKET}/exports/model-export-reader-")
    name = exported.removeprefix(f"gs://{BUCKET}/")
    assert bucket.blob(f"{name}/saved_model.pb").download_as_text() == "weights"
    for one in (model, copy):
        one.delete()
