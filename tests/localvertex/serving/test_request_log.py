"""Protects logged requests: as many as asked for, within their bound, and read as from BigQuery."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import DeployedModel, Endpoint

from localvertex.api.bigquery_frontend import BigQueryFrontend
from localvertex.home import Home
from localvertex.services import request_log
from localvertex.services.request_log import RequestLog

DATA = "/bigquery/v2/projects/p/datasets/requests/tables/reader/data"


def endpoint(share: float, enabled: bool = True) -> Endpoint:
    destination = {"output_uri": "bq://p.requests.reader"}
    config = {"enabled": enabled, "sampling_rate": share, "bigquery_destination": destination}
    return Endpoint(name="endpoints/1", predict_request_response_logging_config=config)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "state")


@pytest.fixture
def log(home: Home) -> RequestLog:
    return RequestLog(home.create())


def asked(log: RequestLog, share: float, times: int, enabled: bool = True) -> None:
    for number in range(times):
        log.note(endpoint(share, enabled), DeployedModel(id="7"), [{"x": number}], ["a"])


def test_a_row_is_what_bigquery_would_have(log: RequestLog) -> None:
    asked(log, 1.0, 3)
    frontend = BigQueryFrontend(log)
    assert frontend.answer("GET", DATA.removesuffix("/data"), {}, {})["numRows"] == "3"
    page = frontend.answer("GET", DATA, {"startIndex": "1", "maxResults": "1"}, {})
    ((row,), total) = page["rows"], page["totalRows"]
    name, deployed, _, _, request, response = (cell["v"] for cell in row["f"])
    assert (total, name, deployed) == ("3", "endpoints/1", "7")
    assert json.loads(request[0]["v"]) == {"x": 1}
    assert json.loads(response[0]["v"]) == "a"


@pytest.mark.parametrize(("share", "enabled"), [(0.0, True), (1.0, False)])
def test_nothing_is_logged_unasked(log: RequestLog, share: float, enabled: bool) -> None:
    asked(log, share, 20, enabled)
    with pytest.raises(exceptions.NotFound):
        log.rows("p", "requests", "reader")


def test_a_share_is_drawn(log: RequestLog) -> None:
    asked(log, 0.5, 400)
    assert 120 < len(log.rows("p", "requests", "reader")) < 280


def test_the_latest_stay_within_the_bound(log: RequestLog, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_log, "MOST_BYTES", 4000)
    asked(log, 1.0, 100)
    rows: list[Any] = list(log.rows("p", "requests", "reader"))
    assert 4 < len(rows) < 100
    assert json.loads(rows[-1]["request_payload"][0]) == {"x": 99}
    assert sum(file.stat().st_size for file in (home.path / "bigquery").iterdir()) <= 4000
