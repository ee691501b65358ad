"""Protects the counting of predictions: each once, errors by kind, latency of what was answered, minute by minute."""

import pytest
from google.api_core import exceptions

from localvertex.services import traffic
from localvertex.services.traffic import Figures, Traffic
from tests.localvertex.serving.support import Service


def test_predictions_are_counted(service: Service) -> None:
    endpoint = service.endpoint()
    deployed = service.deploy(endpoint, service.upload())
    counted = service.prediction.traffic
    assert counted.of(endpoint, deployed) == Figures()
    for _ in range(3):
        service.predict(endpoint, "hello")
    for instance in (400, 503, 400):
        with pytest.raises(exceptions.GoogleAPICallError):
            service.predict(endpoint, instance)
    found = counted.of(endpoint, deployed)
    assert found.requests == 6 and found.errors == {"INVALID_ARGUMENT": 2, "UNAVAILABLE": 1}
    assert found.median is not None and found.slowest is not None and 0 < found.median <= found.slowest
    assert [sum(each) for each in zip(*found.per_minute, strict=True)] == [6, 3]
    health = service.endpoints.health(endpoint, deployed)
    assert (health.replicas, health.ready, health.failure) == (1, 1, "")
    assert service.endpoints.health(endpoint, "none").replicas == 0


def test_minutes_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    counted, minute = Traffic(), 100
    monkeypatch.setattr(traffic, "_minute", lambda: minute)

    def ask(fails: bool = False) -> None:
        with counted.measured("e", "d"):
            if fails:
                raise ZeroDivisionError

    ask()
    minute += 1
    ask()
    with pytest.raises(ZeroDivisionError):
        ask(fails=True)
    minute += 2
    found = counted.of("e", "d")
    assert found.per_minute[-4:] == ((1, 0), (2, 1), (0, 0), (0, 0)) and found.errors == {"INTERNAL": 1}
    minute += traffic.MINUTES
    assert set(counted.of("e", "d").per_minute) == {(0, 0)} and counted.of("e", "d").requests == 3
