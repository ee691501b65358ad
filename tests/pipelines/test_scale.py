"""Protects the scale table: the same job on more workers, in a place of its own, and sums that are right."""

import copy
import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipelines import UserError, settings
from pipelines.cli import scale, targets
from pipelines.settings import Prices

ARGS = ["--system=mnist", "--examples=/mnt/store/run/ingest/examples", "--checkpoints=/mnt/store/run/train/model/../.."]
JOB: dict[str, Any] = {
    "displayName": "mnist-train",
    "jobSpec": {
        "workerPoolSpecs": [
            {
                "machineSpec": {"machineType": "n1-standard-4"},
                "replicaCount": "1",
                "containerSpec": {
                    "imageUri": "trainer:1",
                    "args": [
                        *ARGS,
                        "--followed=/mnt/store/run/checkpoints",
                        "--model=/mnt/store/run/train/model",
                        "--executor_input",
                        "{}",
                    ],
                },
            }
        ],
        "scheduling": {"timeout": "3600s"},
    },
}


def prices(**machines: float) -> Prices:
    return Prices(
        source="https://example.test/prices",
        date=datetime.date(2026, 1, 2),
        machines=machines,
        accelerators={"NVIDIA_TESLA_T4": 0.5},
    )


@pytest.mark.parametrize(("workers", "counts"), [(1, ["1"]), (2, ["1", "1"]), (4, ["1", "3"])])
def test_only_the_workers_and_the_place_differ(workers: int, counts: list[str]) -> None:
    before = copy.deepcopy(JOB)
    job = scale.job_of(JOB, workers, 4, "store", "scale/now")
    assert before == JOB
    pools = job["jobSpec"]["workerPoolSpecs"]
    assert [pool["replicaCount"] for pool in pools] == counts
    for pool in pools:
        assert pool["machineSpec"] == {"machineType": "n1-standard-4"}
        assert pool["containerSpec"]["args"] == [
            *ARGS[:2],
            "--checkpoints=/mnt/store/scale/now/checkpoints",
            "--followed=",
            "--model=/mnt/store/scale/now/model",
            "--streams=4",
        ]
    assert job["jobSpec"]["scheduling"] == {"timeout": "3600s", "restartJobOnWorkerRestart": workers > 1}


def test_the_api_takes_the_job() -> None:
    from google.cloud.aiplatform_v1.types import CustomJob

    sent = CustomJob.from_json(json.dumps(scale.job_of(JOB, 3, 3, "store", "scale/now")))
    assert [pool.replica_count for pool in sent.job_spec.worker_pool_specs] == [1, 2]


def test_the_table_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [scale.Row(1, 1800.0, 1000.0, 0.2, 0.5), scale.Row(2, 1200.0, 1600.0, 0.2, 0.5)]
    Console(width=120).print(scale.table(rows))
    _, one, two = capsys.readouterr().out.splitlines()
    assert one.split() == ["1", "1800.0", "s", "1.00", "0.5000", "1,000", "0.5000", "$0.1000", "1.00"]
    assert two.split() == ["2", "1200.0", "s", "1.50", "0.6667", "1,600", "0.5000", "$0.1333", "1.33"]


def test_what_has_no_price_is_said_to_be_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    Console(width=120).print(scale.table([scale.Row(1, 60.0, 1000.0, None, 0.5)]))
    assert "unknown" in capsys.readouterr().out


def test_an_hour_costs_the_machine_and_its_accelerators() -> None:
    table = prices(small=0.25)
    assert table.hourly("small") == 0.25
    assert table.hourly("small", "NVIDIA_TESLA_T4", 2) == 1.25
    assert table.hourly("large") is None
    assert table.hourly("small", "NVIDIA_TESLA_V100", 1) is None


def test_every_environments_machines_have_a_price() -> None:
    table = settings.prices()
    for name in ("local", "production"):
        trained = [each for each in settings.environment(name).pipelines.values() if "machine_type" in each]
        assert len(trained) == 5
        for chosen in trained:
            found = table.hourly(chosen["machine_type"], chosen["accelerator_type"], chosen["accelerator_count"])
            assert found and found > 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("date: yesterday", "prices.yaml: date=yesterday"),
        ("machines: {n1-standard-4: -1}", "prices.yaml: machines.n1-standard-4=-1"),
        ("currency: EUR", "prices.yaml: currency: no such setting"),
    ],
)
def test_a_wrong_price_table_is_one_message(tmp_path: Path, line: str, message: str) -> None:
    values = {
        "source": "source: x",
        "date": "date: 2026-01-02",
        "machines": "machines: {}",
        "accelerators": "accelerators: {}",
    }
    values[line.partition(":")[0]] = line
    (tmp_path / "prices.yaml").write_text("\n".join(values.values()))
    with pytest.raises(UserError, match=message):
        settings.prices(tmp_path)


def test_mistakes_are_told_before_anything_starts() -> None:
    with pytest.raises(UserError, match="PIPELINE=mnits: no such pipeline; did you mean mnist"):
        scale.scale("mnits", targets.TARGETS["local"], [1, 2])
    with pytest.raises(UserError, match="give at least 1"):
        scale.scale("mnist", targets.TARGETS["local"], [0, 2])
