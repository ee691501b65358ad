"""Endpoints: who serves what, how much of the traffic, how it goes; and a place to try each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from google.cloud.aiplatform_v1.types import DeployedModel, Endpoint
from markupsafe import Markup
from starlette.responses import JSONResponse

from localvertex.console import charts, queries
from localvertex.console.predictions import Predictions
from localvertex.console.provenance import Provenance
from localvertex.console.services import ConsoleServices
from localvertex.console.web import Answer, Page, Route, Visit, address
from localvertex.services.moments import seconds
from localvertex.services.serving import Health
from localvertex.services.traffic import MINUTES, Figures

_PATH = "projects/{project}/locations/{location}/endpoints/{id}"


@dataclass(frozen=True)
class Serving:
    """One deployed model of an endpoint.

    Args:
        deployed: what the API knows of it.
        share: percent of the requests that it gets.
        bar: the same drawn.
        health: of its servers.
        figures: what it was asked.
        recent: requests of the last minutes drawn.
        lineage: address of where it comes from; '' where that is not known.
        created: when it was deployed, in seconds since 1970.
    """

    deployed: DeployedModel
    share: int
    bar: Markup
    health: Health
    figures: Figures
    recent: Markup
    lineage: str
    created: float

    @property
    def errors(self) -> int:
        """Requests that failed."""
        return sum(self.figures.errors.values())


class EndpointPages:
    """The list, the page of one endpoint, and the place to try any of them.

    Args:
        services: the endpoints and what is counted of them.
    """

    def __init__(self, services: ConsoleServices) -> None:
        self._store = services.store
        self._endpoints = services.endpoints
        self._traffic = services.prediction.traffic
        self._provenance = Provenance(services.store, services.models)
        self._predictions = Predictions(services.store, services.prediction)

    def routes(self) -> Sequence[Route]:
        """Their addresses."""
        return (
            Route("GET", "endpoints", self._list),
            Route("GET", "draw", lambda visit: Page("draw.html", "Try it")),
            Route("GET", "api/endpoints", lambda visit: JSONResponse(self._predictions.endpoints())),
            Route("POST", "api/predict", lambda visit: JSONResponse(self._predictions.ask(visit.body))),
            Route("GET", _PATH, self._show),
        )

    def _list(self, visit: Visit) -> Answer:
        found, older = queries.read_page(self._store, Endpoint, visit.query.get("before", ""))
        return Page(
            "endpoints.html",
            "Endpoints",
            {
                "found": [(endpoint, self._servings(endpoint)) for endpoint in found],
                "since": self._traffic.since,
                "newest": visit.address(before=None) if visit.query.get("before") else "",
                "older": visit.address(before=older) if older else "",
            },
            live=("endpoints",),
        )

    def _show(self, visit: Visit) -> Answer:
        endpoint = self._store.get(Endpoint, visit.name)
        return Page(
            "endpoint.html",
            str(endpoint.display_name),
            {
                "section": "endpoints",
                "endpoint": endpoint,
                "created": seconds(endpoint, "create_time"),
                "servings": self._servings(endpoint),
                "since": self._traffic.since,
                "minutes": MINUTES,
            },
            live=("traffic",),
        )

    def _servings(self, endpoint: Endpoint) -> list[Serving]:
        return [self._serving(endpoint, deployed) for deployed in endpoint.deployed_models]

    def _serving(self, endpoint: Endpoint, deployed: DeployedModel) -> Serving:
        share = int(endpoint.traffic_split.get(deployed.id, 0))
        figures = self._traffic.of(endpoint.name, deployed.id)
        artifact = self._provenance.of_model(str(deployed.model), str(deployed.model_version_id))
        most = max(requests for requests, _ in figures.per_minute)
        return Serving(
            deployed=deployed,
            share=share,
            bar=charts.bar(share / 100, 80),
            health=self._endpoints.health(endpoint.name, deployed.id),
            figures=figures,
            recent=charts.columns(
                f"Requests to {deployed.display_name} in each of the last {MINUTES} minutes, at most {most}",
                figures.per_minute,
            ),
            lineage=address(f"lineage/{artifact}") if artifact else "",
            created=seconds(deployed, "create_time"),
        )
