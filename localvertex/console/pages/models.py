"""Models: their versions, what is known of each, and where it is served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import Endpoint, Model, ModelEvaluation
from google.protobuf import json_format
from markupsafe import Markup

from localvertex import names
from localvertex.console import charts, evaluation, queries
from localvertex.console.provenance import Provenance
from localvertex.console.services import ConsoleServices
from localvertex.console.web import Answer, Page, Route, Visit, address
from localvertex.services.models import default_versions
from localvertex.services.moments import seconds
from localvertex.store import resources

_PATH = "projects/{project}/locations/{location}/models/{id}"


@dataclass(frozen=True)
class Served:
    """An endpoint that serves a version, and how much of its traffic the version gets.

    Args:
        name: resource name of the endpoint.
        title: its display name.
        share: percent.
    """

    name: str
    title: str
    share: int
    bar: Markup


@dataclass(frozen=True)
class Evaluated:
    """One evaluation of a version: what it measured, by name, and what of it is a matrix or curves."""

    title: str
    created: float
    values: Sequence[tuple[str, Any]]
    confusion: evaluation.Confusion | None
    curves: Sequence[tuple[evaluation.Curve, Markup]]


@dataclass(frozen=True)
class Version:
    """One version of a model."""

    model: Model
    created: float
    served: Sequence[Served]
    evaluations: Sequence[Evaluated]
    lineage: str


class ModelPages:
    """The list, and the page of one model.

    Args:
        services: the registry and the endpoints.
    """

    def __init__(self, services: ConsoleServices) -> None:
        self._store = services.store
        self._models = services.models
        self._provenance = Provenance(services.store, services.models)

    def routes(self) -> Sequence[Route]:
        """Their addresses."""
        return (Route("GET", "models", self._list), Route("GET", _PATH, self._show))

    def _list(self, visit: Visit) -> Answer:
        where = resources.c.name.in_(default_versions())
        found, older = queries.read_page(self._store, Model, visit.query.get("before", ""), where)
        endpoints = {str(endpoint.name): endpoint for endpoint in self._store.select(Endpoint)}
        return Page(
            "models.html",
            "Models",
            {
                "found": [
                    (model, seconds(model, "version_create_time"), _served(model, endpoints))
                    for model in self._models.seen(found)
                ],
                "newest": visit.address(before=None) if visit.query.get("before") else "",
                "older": visit.address(before=older) if older else "",
            },
        )

    def _show(self, visit: Visit) -> Answer:
        of_model = resources.c.parent == visit.name
        found, older = queries.read_page(self._store, Model, visit.query.get("before", ""), of_model)
        if not found and not visit.query.get("before"):
            raise exceptions.NotFound(f"Model {visit.name} is not found.")
        endpoints = {str(endpoint.name): endpoint for endpoint in self._store.select(Endpoint)}
        versions = [self._version(model, endpoints) for model in self._models.seen(found)]
        title = str(versions[0].model.display_name) if versions else names.id_of(visit.name)
        return Page(
            "model.html",
            title,
            {
                "section": "models",
                "name": visit.name,
                "versions": versions,
                "newest": visit.address(before=None) if visit.query.get("before") else "",
                "older": visit.address(before=older) if older else "",
            },
        )

    def _version(self, model: Model, endpoints: dict[str, Endpoint]) -> Version:
        found = self._store.select(ModelEvaluation, parent=f"{model.name}@{model.version_id}", limit=10)
        artifact = self._provenance.of_model(str(model.name), str(model.version_id))
        return Version(
            model=model,
            created=seconds(model, "version_create_time"),
            served=_served(model, endpoints),
            evaluations=[_evaluated(each) for each in found],
            lineage=address(f"lineage/{artifact}") if artifact else "",
        )


def _served(model: Model, endpoints: dict[str, Endpoint]) -> list[Served]:
    found = []
    for where in model.deployed_models:
        endpoint = endpoints.get(where.endpoint)
        if endpoint is not None:
            share = int(endpoint.traffic_split.get(where.deployed_model_id, 0))
            found.append(Served(endpoint.name, endpoint.display_name, share, charts.bar(share / 100, 80)))
    return found


def _evaluated(found: ModelEvaluation) -> Evaluated:
    try:
        metrics = json_format.MessageToDict(ModelEvaluation.pb(found).metrics)
    except json_format.Error:
        metrics = {}  # with an infinity in it, which JSON has not
    metrics = metrics if isinstance(metrics, dict) else {}
    return Evaluated(
        title=str(found.display_name) or names.id_of(found.name),
        created=seconds(found, "create_time"),
        values=evaluation.scalars(metrics),
        confusion=evaluation.confusion(metrics),
        curves=evaluation.drawn_curves(metrics),
    )
