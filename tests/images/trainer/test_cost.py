"""Protects what the report says a training took: hours of all workers, at the price of their machines."""

import json

import pytest

from images.trainer import evaluate, replicas

PRICES = {
    "machines": {"small": 0.3},
    "accelerators": {"T4": 0.6},
    "date": "2026-01-02",
    "source": "https://example.test",
}
TRAINED = {"workers": 2, "seconds": 1800.0, "examples_per_second": 1234.5}


@pytest.mark.parametrize(
    ("machine", "shown", "cost"),
    [
        ({"machine_type": "small"}, "small", "$0.3000"),
        ({"machine_type": "small", "accelerator_type": "T4", "accelerator_count": 2}, "small, 2 T4", "$1.5000"),
        ({"machine_type": "small", "accelerator_type": "V9", "accelerator_count": 1}, "small, 1 V9", "not known"),
        ({"machine_type": "large"}, "large", "not known"),
        ({}, "not known", "not known"),
    ],
)
def test_device_hours_are_paid(tmp_path, machine, shown, cost):
    (tmp_path / "training.json").write_text(json.dumps({**TRAINED, **machine}))
    section = evaluate._cost(PRICES, str(tmp_path), str(tmp_path))
    expected = ("2", shown, "1800 s", "1.0000", "1,234", cost)
    assert section.rows == [("this", *expected), ("baseline", *expected)]
    assert "2026-01-02" in section.note


def test_the_job_says_what_machine_this_is(monkeypatch):
    monkeypatch.delenv("CLUSTER_SPEC", raising=False)
    assert replicas.machine() == {}
    pool = {"machine_spec": {"machine_type": "n1-standard-4"}, "replica_count": 1}
    monkeypatch.setenv("CLUSTER_SPEC", json.dumps({"cluster": {}, "job": {"worker_pool_specs": [pool]}}))
    assert replicas.machine() == {"machine_type": "n1-standard-4"}
    monkeypatch.setenv("CLUSTER_SPEC", '{"cluster": {}}')
    assert replicas.machine() == {}
