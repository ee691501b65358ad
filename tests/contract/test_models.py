"""Protects the SDK's model registry against localvertex, over gRPC and REST."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from google.api_core import exceptions

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
    from google.cloud.aiplatform_v1.types import ModelEvaluation

    model = upload(aiplatform)
    evaluation = ModelEvaluation(display_name="test split", metrics={"cer": 0.03})
    created = model.api_client.import_model_evaluation(parent=model.resource_name, model_evaluation=evaluation)
    assert model.get_model_evaluation().display_name == "test split"
    assert [one.resource_name for one in model.list_model_evaluations()] == [created.name]
    model.delete()
