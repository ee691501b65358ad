"""ModelService: the model registry, its versions and aliases, and the evaluations of each version.

A version is stored as `<model>/versions/<number>`; clients see it as `<model>`, and may ask for
`<model>@<number>` or `<model>@<alias>`. What is known of a model beyond its versions is a row of its own.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import (
    BatchImportModelEvaluationSlicesRequest,
    BatchImportModelEvaluationSlicesResponse,
    CopyModelOperationMetadata,
    CopyModelRequest,
    CopyModelResponse,
    DeleteModelRequest,
    DeleteModelVersionRequest,
    DeleteOperationMetadata,
    DeployedModelRef,
    Endpoint,
    ExportModelOperationMetadata,
    ExportModelRequest,
    ExportModelResponse,
    GetModelEvaluationRequest,
    GetModelEvaluationSliceRequest,
    GetModelRequest,
    ImportModelEvaluationRequest,
    ListModelEvaluationSlicesRequest,
    ListModelEvaluationSlicesResponse,
    ListModelEvaluationsRequest,
    ListModelEvaluationsResponse,
    ListModelsRequest,
    ListModelsResponse,
    ListModelVersionsRequest,
    ListModelVersionsResponse,
    MergeVersionAliasesRequest,
    Model,
    ModelEvaluation,
    ModelEvaluationSlice,
    UpdateModelRequest,
    UploadModelOperationMetadata,
    UploadModelRequest,
    UploadModelResponse,
)
from google.longrunning import operations_pb2
from google.protobuf import field_mask_pb2

from localvertex import filters, labels, names
from localvertex.buckets import Buckets
from localvertex.services.moments import stamp
from localvertex.services.operations import Operations
from localvertex.store import Store, resources, tables

DEFAULT = "default"
_MODEL_ID = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")
_ALIAS = re.compile(r"[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]")
_CHANGEABLE = {"display_name", "description", "version_description", "labels"}
_AS_TRAINED = "custom-trained"

_models = sa.Table(
    "models",
    tables,
    sa.Column("name", sa.String, primary_key=True),
    # Of the version with the default alias, as the store knows it: lists show that one.
    sa.Column("default_version", sa.String, nullable=False, index=True),
    # A number is given once, even when its version is deleted.
    sa.Column("last_number", sa.Integer, nullable=False),
)


class ModelService:
    """google.cloud.aiplatform.v1.ModelService.

    Args:
        store: where versions and evaluations are kept.
        operations: for uploads and deletions.
        buckets: where models are exported to.
    """

    SERVICE = "google.cloud.aiplatform.v1.ModelService"

    def __init__(self, store: Store, operations: Operations, buckets: Buckets) -> None:
        self._store = store
        self._operations = operations
        self._buckets = buckets

    def resolve(self, name: str) -> Model:
        """The version meant by `<model>`, `<model>@<number>` or `<model>@<alias>`; its name is `<model>`.

        Raises:
            google.api_core.exceptions.NotFound: there is no such model or version.
        """
        return _seen(self._find(name))

    def upload_model(self, request: UploadModelRequest) -> operations_pb2.Operation:
        """Register a model, or a new version of `parent_model`."""
        model = self.destination(request)

        def work() -> UploadModelResponse:
            version = self.add(model, request.model)
            return UploadModelResponse(model=model, model_version_id=version.version_id)

        return self._operations.start(model, work, metadata=UploadModelOperationMetadata())

    def destination(self, request: UploadModelRequest) -> str:
        """The resource name of the model that an upload adds a version to.

        Raises:
            google.api_core.exceptions.InvalidArgument: the model or its id is not allowed.
            google.api_core.exceptions.NotFound: there is no `parent_model`.
            google.api_core.exceptions.AlreadyExists: the id is taken.
        """
        if not request.model.display_name:
            raise exceptions.InvalidArgument("model.display_name is required.")
        labels.check(request.model, "model")
        if not request.model.container_spec.image_uri:
            raise exceptions.InvalidArgument("model.container_spec.image_uri is required.")
        _check_aliases(request.model.version_aliases)
        return self._new_or_parent(request)

    def copy_model(self, request: CopyModelRequest) -> operations_pb2.Operation:
        """Register a version of a model once more, in this location or as a version of another model."""
        source = self.resolve(request.source_model)
        model = self._new_or_parent(request)
        source.version_aliases = []

        def work() -> CopyModelResponse:
            version = self.add(model, source)
            return CopyModelResponse(model=model, model_version_id=version.version_id)

        return self._operations.start(model, work, metadata=CopyModelOperationMetadata())

    def _new_or_parent(self, request: UploadModelRequest | CopyModelRequest) -> str:
        if request.parent_model:
            if request.model_id:
                raise exceptions.InvalidArgument("model_id cannot be given with parent_model.")
            model = _bare(request.parent_model)
            self._find(model)
            return model
        if request.model_id and not _MODEL_ID.fullmatch(request.model_id):
            raise exceptions.InvalidArgument(
                f"model_id {request.model_id!r} must be up to 63 lower-case letters, digits, - and _, "
                "and neither begin nor end with - or _."
            )
        model = f"{request.parent}/models/{request.model_id or names.new_id()}"
        if self._versions(model):
            raise exceptions.AlreadyExists(f"Model {model} already exists; give it as parent_model.")
        return model

    def export_model(self, request: ExportModelRequest) -> operations_pb2.Operation:
        """Copy a version's files to a new folder of a bucket."""
        version = self.resolve(request.name)
        output = request.output_config
        known = [form.id for form in version.supported_export_formats]
        if output.export_format_id not in known:
            raise exceptions.InvalidArgument(
                f"output_config.export_format_id {output.export_format_id!r} is not supported by {request.name}; "
                f"there is: {', '.join(known) or 'none'}."
            )
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        prefix = output.artifact_destination.output_uri_prefix.rstrip("/")
        target = f"{prefix}/model-export-{version.display_name}-{moment}Z"
        self._buckets.path(target)

        def work() -> ExportModelResponse:
            self._copy_files(version.artifact_uri, target)
            return ExportModelResponse()

        metadata = ExportModelOperationMetadata(output_info={"artifact_output_uri": target})
        return self._operations.start(_bare(request.name), work, metadata=metadata)

    def _copy_files(self, source: str, target: str) -> None:
        """Copy a folder so that all of the copy is there or nothing."""
        folder, aside, copy = self._buckets.path(source), self._buckets.aside(), self._buckets.path(target)
        if not folder.is_dir():
            raise exceptions.FailedPrecondition(f"The model's files are not found: {source}.")
        try:
            shutil.copytree(folder, aside)
            copy.parent.mkdir(parents=True, exist_ok=True)
            aside.rename(copy)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def seen(self, versions: Iterable[Model]) -> list[Model]:
        """Stored versions as clients see them, with where they are deployed."""
        return self._with_deployments(map(_seen, versions))

    def get_model(self, request: GetModelRequest) -> Model:
        """A version of a model; the default one unless the name says otherwise."""
        return self._with_deployments([self.resolve(request.name)])[0]

    def list_models(self, request: ListModelsRequest) -> ListModelsResponse:
        """The default versions of a location's models."""
        under = _models.c.name.startswith(f"{request.parent}/models/", autoescape=True)
        found, token = filters.listing(
            self._store,
            Model,
            None,
            request.filter,
            request.order_by,
            request.page_size,
            request.page_token,
            where=[resources.c.name.in_(sa.select(_models.c.default_version).where(under))],
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
        if model != request.name:
            raise exceptions.InvalidArgument(f"{request.name} names a version; use DeleteModelVersion for it.")
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
        with self._store.write():
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
        return self._evaluation(request.name)

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

    def batch_import_model_evaluation_slices(
        self, request: BatchImportModelEvaluationSlicesRequest
    ) -> BatchImportModelEvaluationSlicesResponse:
        """Note evaluations of slices of the data, all or none."""
        parent = self._evaluation(request.parent).name
        imported = []
        with self._store.write():
            for given in request.model_evaluation_slices:
                noted = ModelEvaluationSlice(given)
                noted.name = f"{parent}/slices/{names.new_id()}"
                imported.append(self._store.create(noted).name)
        return BatchImportModelEvaluationSlicesResponse(imported_model_evaluation_slices=imported)

    def get_model_evaluation_slice(self, request: GetModelEvaluationSliceRequest) -> ModelEvaluationSlice:
        """An evaluation of a slice of the data."""
        evaluation, _, slice_id = request.name.partition("/slices/")
        return self._store.get(ModelEvaluationSlice, f"{self._evaluation(evaluation).name}/slices/{slice_id}")

    def list_model_evaluation_slices(
        self, request: ListModelEvaluationSlicesRequest
    ) -> ListModelEvaluationSlicesResponse:
        """The evaluations of slices that belong to an evaluation."""
        found, token = filters.listing(
            self._store,
            ModelEvaluationSlice,
            self._evaluation(request.parent).name,
            request.filter,
            "",
            request.page_size,
            request.page_token,
        )
        return ListModelEvaluationSlicesResponse(model_evaluation_slices=found, next_page_token=token)

    def _evaluation(self, name: str) -> ModelEvaluation:
        model, _, evaluation = name.partition("/evaluations/")
        return self._store.get(ModelEvaluation, f"{self._versioned(model)}/evaluations/{evaluation}")

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

    def add(self, model: str, given: Model) -> Model:
        """Store a version of a model, the first of a new one or the next of one that there is.

        Returns:
            The version as clients see it.
        """
        with self._store.write():
            others = self._versions(model)
            number = self._next_number(model)
            version = Model(given)
            version.name, version.version_id = f"{model}/versions/{number}", number
            version.version_aliases = []
            dedicated = Model.DeploymentResourcesType(Model.DeploymentResourcesType.DEDICATED_RESOURCES)
            version.supported_deployment_resources_types = [dedicated]
            if version.artifact_uri:
                artifact = Model.ExportFormat.ExportableContent(Model.ExportFormat.ExportableContent.ARTIFACT)
                form = Model.ExportFormat(id=_AS_TRAINED, exportable_contents=[artifact])
                version.supported_export_formats = [form]
            for field in ("version_create_time", "version_update_time"):
                stamp(version, field)
            self._store.create(version)
            if others:
                version.create_time = others[-1].create_time  # the model's; `_versions` are newest first
            self._give_aliases(version, [*given.version_aliases] + ([] if others else [DEFAULT]))
            return _seen(version)

    def _next_number(self, model: str) -> str:
        with self._store.write() as connection:
            last = connection.execute(sa.select(_models.c.last_number).where(_models.c.name == model)).scalar()
            if last is None:
                connection.execute(_models.insert().values(name=model, default_version="", last_number=1))
                return "1"
            connection.execute(_models.update().where(_models.c.name == model).values(last_number=last + 1))
            return str(last + 1)

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
            if DEFAULT in aliases:
                by_name = _models.c.name == _bare(version.name)
                connection.execute(_models.update().where(by_name).values(default_version=version.name))
            for one in changed:
                self._store.save(one)

    def _remove(self, versions: Iterable[Model]) -> None:
        versions = list(versions)
        with self._store.write() as connection:
            for version in self._with_deployments(map(_seen, versions)):
                if version.deployed_models:
                    endpoint = version.deployed_models[0].endpoint
                    raise exceptions.FailedPrecondition(
                        f"{version.name}@{version.version_id} is deployed to {endpoint}; undeploy it first."
                    )
            for version in versions:
                of_version = f"{_bare(version.name)}@{version.version_id}"
                for evaluation in self._store.select(ModelEvaluation, parent=of_version):
                    for noted in self._store.select(ModelEvaluationSlice, parent=evaluation.name):
                        self._store.delete(ModelEvaluationSlice, noted.name)
                    self._store.delete(ModelEvaluation, evaluation.name)
                self._store.delete(Model, version.name)
                if DEFAULT in version.version_aliases:
                    connection.execute(_models.delete().where(_models.c.name == _bare(version.name)))

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


def default_versions() -> sa.Select[str]:
    """A query of the names under which the models' default versions are stored."""
    return sa.select(_models.c.default_version)


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


def _check_aliases(aliases: Iterable[str]) -> None:
    for alias in aliases:
        if not _ALIAS.fullmatch(alias):
            raise exceptions.InvalidArgument(
                f"Version alias {alias!r} must be 2 to 128 letters, digits and -, begin with a "
                "lower-case letter and end with a lower-case letter or a digit."
            )
