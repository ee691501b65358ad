"""Protects the model registry: versions, aliases that point to one each, filters, what may be deleted."""

from __future__ import annotations

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import (
    DeleteModelRequest,
    DeleteModelVersionRequest,
    ExportModelRequest,
    GetModelEvaluationRequest,
    GetModelRequest,
    ImportModelEvaluationRequest,
    ListModelEvaluationsRequest,
    ListModelsRequest,
    ListModelVersionsRequest,
    MergeVersionAliasesRequest,
    Model,
    UpdateModelRequest,
)

from tests.localvertex.serving.support import PARENT, Failed, Service, container


def get(service: Service, name: str) -> Model:
    return service.models.get_model(GetModelRequest(name=name))


def aliases(service: Service, model: str) -> dict[str, list[str]]:
    listed = service.models.list_model_versions(ListModelVersionsRequest(name=model))
    return {version.version_id: sorted(version.version_aliases) for version in listed.models}


def test_a_model_is_read_back_as_it_was_uploaded(service: Service) -> None:
    name = service.upload(artifact_uri="gs://b/model", labels={"cer": "0_03"}, description="reads")
    model, _, version = name.partition("@")
    assert version == "1" and model.startswith(f"{PARENT}/models/")
    for spelling in (model, name, f"{model}@default"):
        found = get(service, spelling)
        assert (found.name, found.version_id, list(found.version_aliases)) == (model, "1", ["default"])
    assert (found.artifact_uri, found.labels["cer"], found.description) == ("gs://b/model", "0_03", "reads")
    assert found.container_spec.image_uri == "example.test/server:1"
    assert found.create_time == found.version_create_time or found.version_create_time


def test_versions_count_up_and_the_default_moves_only_when_asked(service: Service) -> None:
    first = service.upload()
    model = first.partition("@")[0]
    assert service.upload(parent_model=model) == f"{model}@2"
    assert service.upload(parent_model=model, version_aliases=["default", "blue"]) == f"{model}@3"
    assert aliases(service, model) == {"1": [], "2": [], "3": ["blue", "default"]}
    assert get(service, model).version_id == "3"
    assert get(service, f"{model}@blue").version_id == "3"
    assert get(service, f"{model}@2").create_time == get(service, first).create_time
    with pytest.raises(exceptions.NotFound, match="@green is not found"):
        get(service, f"{model}@green")


def test_an_alias_points_to_one_version(service: Service) -> None:
    model = service.upload(version_aliases=["blue"]).partition("@")[0]
    service.upload(parent_model=model)
    request = MergeVersionAliasesRequest(name=f"{model}@2", version_aliases=["blue", "new", "default"])
    assert set(service.models.merge_version_aliases(request).version_aliases) == {"blue", "new", "default"}
    assert aliases(service, model) == {"1": [], "2": ["blue", "default", "new"]}
    service.models.merge_version_aliases(MergeVersionAliasesRequest(name=f"{model}@2", version_aliases=["-blue"]))
    assert aliases(service, model)["2"] == ["default", "new"]
    with pytest.raises(exceptions.InvalidArgument, match="default alias cannot be removed"):
        service.models.merge_version_aliases(
            MergeVersionAliasesRequest(name=f"{model}@2", version_aliases=["-default"])
        )


def test_lists_hold_the_default_version_of_each_model_and_are_filtered(service: Service) -> None:
    reader = service.upload("reader", labels={"stage": "test"}).partition("@")[0]
    service.upload("other")
    service.upload("reader", parent_model=reader, labels={"stage": "live"}, version_aliases=["default"])

    def names(filter: str) -> list[tuple[str, str]]:
        listed = service.models.list_models(ListModelsRequest(parent=PARENT, filter=filter))
        return [(model.display_name, model.version_id) for model in listed.models]

    assert sorted(names("")) == [("other", "1"), ("reader", "2")]
    assert names('display_name="reader"') == [("reader", "2")]
    assert names('labels.stage="live"') == [("reader", "2")]
    assert names('labels.stage="test"') == []
    assert names('display_name="reader" OR display_name="other"') == names("")
    with pytest.raises(exceptions.InvalidArgument, match=r"at position 15 \(nonsense"):
        names("labels.a=1 OR nonsense=1")
    elsewhere = service.models.list_models(ListModelsRequest(parent=PARENT.replace("us-central1", "us-central")))
    assert not elsewhere.models


def test_updates_change_only_what_the_mask_names(service: Service) -> None:
    name = service.upload(labels={"a": "1"}, description="old")
    update = UpdateModelRequest(
        model={"name": name, "description": "new", "labels": {"b": "2"}, "display_name": "ignored"},
        update_mask={"paths": ["description", "labels"]},
    )
    changed = service.models.update_model(update)
    assert (changed.description, dict(changed.labels), changed.display_name) == ("new", {"b": "2"}, "reader")
    assert get(service, name) == changed
    with pytest.raises(exceptions.InvalidArgument, match="artifact_uri cannot be updated"):
        service.models.update_model(UpdateModelRequest(model={"name": name}, update_mask={"paths": ["artifact_uri"]}))


def test_deleting_versions_and_models(service: Service) -> None:
    model = service.upload().partition("@")[0]
    service.upload(parent_model=model)
    with pytest.raises(exceptions.FailedPrecondition, match="default version"):
        service.models.delete_model_version(DeleteModelVersionRequest(name=f"{model}@1"))
    for version in ("1", "2", "default"):
        with pytest.raises(exceptions.InvalidArgument, match="names a version; use DeleteModelVersion"):
            service.models.delete_model(DeleteModelRequest(name=f"{model}@{version}"))
    assert set(aliases(service, model)) == {"1", "2"}
    service.done(service.models.delete_model_version(DeleteModelVersionRequest(name=f"{model}@2")))
    assert list(aliases(service, model)) == ["1"]
    service.done(service.models.delete_model(DeleteModelRequest(name=model)))
    with pytest.raises(exceptions.NotFound):
        get(service, model)


def test_a_versions_number_is_given_once(service: Service) -> None:
    model = service.upload(model_id="reader").partition("@")[0]
    for number in (2, 3):
        assert service.upload(parent_model=model) == f"{model}@{number}"
        service.done(service.models.delete_model_version(DeleteModelVersionRequest(name=f"{model}@{number}")))
    service.done(service.models.delete_model(DeleteModelRequest(name=model)))
    assert service.upload(model_id="reader") == f"{model}@1", "a new model of the same name"


def test_a_model_without_files_is_not_exported(service: Service) -> None:
    name = service.upload(artifact_uri="gs://bucket/nothing")
    output = {"export_format_id": "custom-trained", "artifact_destination": {"output_uri_prefix": "gs://bucket/out"}}
    with pytest.raises(Failed, match=r"FAILED_PRECONDITION.*files are not found: gs://bucket/nothing"):
        service.done(service.models.export_model(ExportModelRequest(name=name, output_config=output)))
    output["export_format_id"] = "onnx"
    with pytest.raises(exceptions.InvalidArgument, match=r"'onnx' is not supported.*there is: custom-trained"):
        service.models.export_model(ExportModelRequest(name=name, output_config=output))


def test_a_deployed_model_is_not_deleted(service: Service) -> None:
    name, endpoint = service.upload(), service.endpoint()
    deployed = service.deploy(endpoint, name)
    (reference,) = get(service, name).deployed_models
    assert (reference.endpoint, reference.deployed_model_id) == (endpoint, deployed)
    with pytest.raises(Failed, match=r"FAILED_PRECONDITION.*undeploy it first"):
        service.done(service.models.delete_model(DeleteModelRequest(name=name.partition("@")[0])))


def test_evaluations_belong_to_a_version(service: Service) -> None:
    model = service.upload().partition("@")[0]
    service.upload(parent_model=model)
    request = ImportModelEvaluationRequest(
        parent=f"{model}@2", model_evaluation={"display_name": "test", "metrics": {"cer": 0.03}}
    )
    evaluation = service.models.import_model_evaluation(request)
    assert evaluation.name.startswith(f"{model}@2/evaluations/")
    assert service.models.get_model_evaluation(GetModelEvaluationRequest(name=evaluation.name)) == evaluation

    def listed(parent: str) -> list[str]:
        found = service.models.list_model_evaluations(ListModelEvaluationsRequest(parent=parent))
        return [one.name for one in found.model_evaluations]

    assert listed(f"{model}@2") == [evaluation.name] and listed(model) == []


@pytest.mark.parametrize(
    ("upload", "message"),
    [
        ({"name": ""}, "display_name is required"),
        ({"container_spec": {}}, "image_uri is required"),
        ({"version_aliases": ["1st"]}, "Version alias '1st' must be"),
        ({"model_id": "Reader"}, "model_id 'Reader' must be"),
    ],
)
def test_bad_uploads_are_refused(service: Service, upload: dict[str, object], message: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match=message):
        service.upload(**upload)  # type: ignore[arg-type]


def test_chosen_ids_are_taken_once(service: Service) -> None:
    assert service.upload(model_id="reader") == f"{PARENT}/models/reader@1"
    with pytest.raises(exceptions.AlreadyExists, match="parent_model"):
        service.upload(model_id="reader", container_spec=container())
    with pytest.raises(exceptions.NotFound):
        service.upload(parent_model=f"{PARENT}/models/nobody")
