"""ModelService: the model registry, its versions and aliases, and the evaluations of each version.

A version is stored as `<model>/versions/<number>`; clients see it as `<model>`, and may ask for
`<model>@<number>` or `<model>@<alias>`.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Sequence

from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import (
    DeleteModelRequest,
    DeleteModelVersionRequest,
    DeleteOperationMetadata,
    DeployedModelRef,
    Endpoint,
    GetModelEvaluationRequest,
    GetModelRequest,
    ImportModelEvaluationRequest,
    ListModelEvaluationsRequest,
    ListModelEvaluationsResponse,
    ListModelsRequest,
    ListModelsResponse,
    ListModelVersionsRequest,
    ListModelVersionsResponse,
    MergeVersionAliasesRequest,
    Model,
    ModelEvaluation,
    UpdateModelRequest,
    UploadModelOperationMetadata,
    UploadModelRequest,
    UploadModelResponse,
)
from google.longrunning import operations_pb2
from google.protobuf import field_mask_pb2

from localvertex import filters, names
from localvertex.services.moments import stamp
from localvertex.services.operations import Operations
from localvertex.store import Store, kind_of, resources

DEFAULT = "default"
_MODEL_ID = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")
_ALIAS = re.compile(r"[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]")
_CHANGEABLE = {"display_name", "description", "version_description", "labels"}


class ModelService:
    """google.cloud.aiplatform.v1.ModelService.

    Args:
        store: where versions and evaluations are kept.
        operations: for uploads and deletions.
    """

    SERVICE = "google.cloud.aiplatform.v1.ModelService"

    def __init__(self, store: Store, operations: Operations) -> None:
        self._store = store
        self._operations = operations
        self._changing = threading.Lock()

    def resolve(self, name: str) -> Model:
        """The version meant by `<model>`, `<model>@<number>` or `<model>@<alias>`; its name is `<model>`.

        Raises:
            google.api_core.exceptions.NotFound: there is no such model or version.
        """
        return _seen(self._find(name))

    def upload_model(self, request: UploadModelRequest) -> operations_pb2.Operation:
        """Register a model, or a new version of `parent_model`."""
        _check_upload(request)
        if request.parent_model:
            model = _bare(request.parent_model)
            self._find(model)
        else:
            model = f"{request.parent}/models/{request.model_id or names.new_id()}"
            if self._versions(model):
                raise exceptions.AlreadyExists(f"Model {model} already exists; give it as parent_model.")

        def work() -> UploadModelResponse:
            version = self._add(model, request.model)
            return UploadModelResponse(model=model, model_version_id=version.version_id)

        return self._operations.start(model, work, metadata=UploadModelOperationMetadata())

    def get_model(self, request: GetModelRequest) -> Model:
        """A version of a model; the default one unless the name says otherwise."""
        return self._with_deployments([self.resolve(request.name)])[0]

    def list_models(self, request: ListModelsRequest) -> ListModelsResponse:
        """The default versions of a location's models."""
        default = f'version_aliases:"{DEFAULT}"'
        found, token = filters.listing(
            self._store,
            Model,
            None,
            f"({request.filter}) AND {default}" if request.filter else default,
            request.order_by,
            request.page_size,
            request.page_token,
            where=[resources.c.parent.startswith(f"{request.parent}/models/", autoescape=True)],
        )
        return ListModelsResponse(models=self._with_deployments(map(_seen, found)), next_page_token=token)

    def list_model_versions(self, request: ListModelVersionsRequest) -> ListModelVersionsResponse:
        """All versions of a model."""
        self._find(_bare(request.name))
        found, token = filters.listing(
            self._store,
            Model,
            _bare(request.name),
            request.filter,
            request.order_by,
            request.page_size,
            request.page_token,
        )
        return ListModelVersionsResponse(models=self._with_deployments(map(_seen, found)), next_page_token=token)

    def update_model(self, request: UpdateModelRequest) -> Model:
        """Change a version's display name, descriptions or labels."""
        check_mask(request.update_mask, _CHANGEABLE)
        stored = self._find(request.model.name)

        def change(version: Model) -> None:
            merge(request.update_mask, request.model, version)
            stamp(version, "version_update_time")

        return _seen(self._store.update(Model, stored.name, change))

    def delete_model(self, request: DeleteModelRequest) -> operations_pb2.Operation:
        """Delete a model with all its versions; none of them may be deployed."""
        model = _bare(request.name)
        self._find(model)
        return self._operations.start(
            model, lambda: self._remove(self._versions(model)), metadata=DeleteOperationMetadata()
        )

    def delete_model_version(self, request: DeleteModelVersionRequest) -> operations_pb2.Operation:
        """Delete a version that is neither deployed nor the default."""
        if "@" not in request.name:
            raise exceptions.InvalidArgument(f"{request.name} names no version; use DeleteModel for a model.")
        version = self._find(request.name)
        if DEFAULT in version.version_aliases:
            raise exceptions.FailedPrecondition(
                f"{request.name} is the default version of its model, which cannot be deleted; make another "
                "version the default, or delete the model."
            )
        return self._operations.start(
            _bare(request.name), lambda: self._remove([version]), metadata=DeleteOperationMetadata()
        )

    def merge_version_aliases(self, request: MergeVersionAliasesRequest) -> Model:
        """Give aliases to a version, taking them from the others; `-alias` takes one away."""
        if not request.version_aliases:
            raise exceptions.InvalidArgument("version_aliases must not be empty.")
        added = [alias for alias in request.version_aliases if not alias.startswith("-")]
        removed = {alias.removeprefix("-") for alias in request.version_aliases if alias.startswith("-")}
        _check_aliases(added)
        if DEFAULT in removed:
            raise exceptions.InvalidArgument("The default alias cannot be removed; give it to another version instead.")
        with self._changing:
            version = self._find(request.name)
            version.version_aliases = [alias for alias in version.version_aliases if alias not in removed]
            self._give_aliases(version, added)
        return _seen(version)

    def import_model_evaluation(self, request: ImportModelEvaluationRequest) -> ModelEvaluation:
        """Note an evaluation of a version."""
        evaluation = ModelEvaluation(request.model_evaluation)
        evaluation.name = f"{self._versioned(request.parent)}/evaluations/{names.new_id()}"
        return self._store.create(evaluation)

    def get_model_evaluation(self, request: GetModelEvaluationRequest) -> ModelEvaluation:
        """An evaluation of a version."""
        model, _, evaluation = request.name.partition("/evaluations/")
        return self._store.get(ModelEvaluation, f"{self._versioned(model)}/evaluations/{evaluation}")

    def list_model_evaluations(self, request: ListModelEvaluationsRequest) -> ListModelEvaluationsResponse:
        """The evaluations of a version."""
        found, token = filters.listing(
            self._store,
            ModelEvaluation,
            self._versioned(request.parent),
            request.filter,
            "",
            request.page_size,
            request.page_token,
        )
        return ListModelEvaluationsResponse(model_evaluations=found, next_page_token=token)

    def _versioned(self, name: str) -> str:
        version = self._find(name)
        return f"{_bare(name)}@{version.version_id}"

    def _versions(self, model: str) -> list[Model]:
        return self._store.select(Model, parent=model)

    def _find(self, name: str) -> Model:
        model, _, wanted = name.partition("@")
        for version in self._versions(model):
            if wanted == version.version_id or (wanted or DEFAULT) in version.version_aliases:
                return version
        raise exceptions.NotFound(f"Model {name} is not found.")

    def _add(self, model: str, given: Model) -> Model:
        with self._changing:
            others = self._versions(model)
            number = str(1 + max((int(other.version_id) for other in others), default=0))
            version = Model(given)
            version.name, version.version_id = f"{model}/versions/{number}", number
            version.version_aliases = []
            dedicated = Model.DeploymentResourcesType(Model.DeploymentResourcesType.DEDICATED_RESOURCES)
            version.supported_deployment_resources_types = [dedicated]
            for field in ("version_create_time", "version_update_time"):
                stamp(version, field)
            aliases = [*given.version_aliases] + ([] if others else [DEFAULT])
            if not others:
                version.version_aliases = list(dict.fromkeys(aliases))
            self._store.create(version)
            if others:
                version.create_time = others[-1].create_time  # the model's; `_versions` are newest first
                self._give_aliases(version, aliases)
            return version

    def _give_aliases(self, version: Model, aliases: Sequence[str]) -> None:
        """Save a version with these aliases too, and the other versions without them, in one transaction."""
        changed = [version]
        for other in self._versions(_bare(version.name)):
            kept = [alias for alias in other.version_aliases if alias not in aliases]
            if other.name != version.name and kept != list(other.version_aliases):
                other.version_aliases = kept
                changed.append(other)
        version.version_aliases = list(dict.fromkeys([*version.version_aliases, *aliases]))
        stamp(version, "version_update_time")
        with self._store.write() as connection:
            for one in changed:
                stamp(one, "update_time")
                connection.execute(
                    resources.update()
                    .where(resources.c.kind == kind_of(Model), resources.c.name == one.name)
                    .values(body=Model.serialize(one), updated=time.time())
                )

    def _remove(self, versions: Iterable[Model]) -> None:
        versions = list(versions)
        for version in self._with_deployments(map(_seen, versions)):
            if version.deployed_models:
                endpoint = version.deployed_models[0].endpoint
                raise exceptions.FailedPrecondition(
                    f"{version.name}@{version.version_id} is deployed to {endpoint}; undeploy it first."
                )
        for version in versions:
            for evaluation in self._store.select(ModelEvaluation, parent=f"{_bare(version.name)}@{version.version_id}"):
                self._store.delete(ModelEvaluation, evaluation.name)
            self._store.delete(Model, version.name)

    def _with_deployments(self, versions: Iterable[Model]) -> list[Model]:
        versions = list(versions)
        endpoints = self._store.select(Endpoint) if versions else []
        for version in versions:
            version.deployed_models = [
                DeployedModelRef(endpoint=endpoint.name, deployed_model_id=deployed.id)
                for endpoint in endpoints
                for deployed in endpoint.deployed_models
                if (deployed.model, deployed.model_version_id) == (version.name, version.version_id)
            ]
        return versions


def check_mask(mask: field_mask_pb2.FieldMask, changeable: Iterable[str]) -> None:
    """Raises InvalidArgument when a mask is empty or names a field that cannot be changed."""
    if not mask.paths:
        raise exceptions.InvalidArgument("update_mask must not be empty.")
    for path in mask.paths:
        if path.split(".")[0] not in changeable:
            raise exceptions.InvalidArgument(f"update_mask: {path} cannot be updated.")


def merge(mask: field_mask_pb2.FieldMask, source: Model | Endpoint, destination: Model | Endpoint) -> None:
    """Copy the fields that a mask names; maps and lists are replaced whole."""
    kind = type(source)
    mask.MergeMessage(kind.pb(source), kind.pb(destination), replace_message_field=True, replace_repeated_field=True)


def _bare(name: str) -> str:
    """`<model>`, from `<model>@<version>` or `<model>/versions/<number>`."""
    return name.partition("@")[0].partition("/versions/")[0]


def _seen(version: Model) -> Model:
    """A version as clients see it."""
    seen = Model(version)
    seen.name = _bare(version.name)
    return seen


def _check_upload(request: UploadModelRequest) -> None:
    if not request.model.display_name:
        raise exceptions.InvalidArgument("model.display_name is required.")
    if not request.model.container_spec.image_uri:
        raise exceptions.InvalidArgument("model.container_spec.image_uri is required.")
    if request.model_id and not _MODEL_ID.fullmatch(request.model_id):
        raise exceptions.InvalidArgument(
            f"model_id {request.model_id!r} must be up to 63 lower-case letters, digits, - and _, "
            "and neither begin nor end with - or _."
        )
    if request.model_id and request.parent_model:
        raise exceptions.InvalidArgument("model_id cannot be given with parent_model.")
    _check_aliases(request.model.version_aliases)


def _check_aliases(aliases: Iterable[str]) -> None:
    for alias in aliases:
        if not _ALIAS.fullmatch(alias):
            raise exceptions.InvalidArgument(
                f"Version alias {alias!r} must be 2 to 128 letters, digits and -, begin with a "
                "lower-case letter and end with a lower-case letter or a digit."
            )
