"""Protects the estimate before a run: tasks on their machines, by earlier runs or by what is allowed; and the limit."""

import datetime
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kfp import compiler, dsl
from kfp.dsl import OutputPath

from pipelines import UserError
from pipelines.cli import budget, compile, cost, graph, run
from pipelines.cli.budget import Hours, Past
from pipelines.cli.vertex import Vertex
from pipelines.settings import Environment, Prices
from tests.pipelines.conftest import LOCAL

PRICES = Prices(
    source="https://example.test/prices",
    date=datetime.date(2026, 1, 2),
    run=0.5,
    machines={"e2-standard-4": 0.1, "n1-standard-4": 0.2},
    accelerators={"NVIDIA_TESLA_T4": 0.4},
)


@dsl.container_component
def search(
    max_trials: int,
    parallel_trials: int,
    trial_epochs: int,
    machine_type: str,
    accelerator_type: str,
    accelerator_count: int,
    tune_budget: float = 0.0,
):
    return dsl.ContainerSpec(image="alpine:3", command=["true"])


@dsl.container_component
def fit(epochs: int, machine_type: str, accelerator_type: str, accelerator_count: int, timeout: str):
    return dsl.ContainerSpec(image="alpine:3", command=["true"])


@dsl.container_component
def wait(epochs: int, done: OutputPath(str)):  # type: ignore
    return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", 'sleep "$0"; echo > "$1"'], args=[epochs, done])


@dsl.pipeline(name="inner")
def inner(epochs: int) -> None:
    wait(epochs=epochs)


@dsl.pipeline(name="costly")
def costly(machine: str, epochs: int = 10, budget: float = 0.0) -> None:
    search(
        max_trials=20,
        parallel_trials=4,
        trial_epochs=5,
        machine_type=machine,
        accelerator_type="NVIDIA_TESLA_T4",
        accelerator_count=2,
        tune_budget=budget,
    )
    fit(epochs=epochs, machine_type=machine, accelerator_type="", accelerator_count=0, timeout="7200s")
    inner(epochs=epochs)
    with dsl.ParallelFor([1, 2, 3]) as each:
        wait(epochs=each)


def compiled(pipeline: Any, folder: Path) -> dict[str, Any]:
    compiler.Compiler().compile(pipeline, str(folder / "pipeline.json"))
    return compile.load(folder / "pipeline.json")


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return compiled(costly, tmp_path_factory.mktemp("costly"))


def rows(spec: dict[str, Any], past: Any = None, **values: Any) -> dict[tuple[str, str], budget.Row]:
    found = budget.estimate(spec, {"machine": "n1-standard-4", **values}, past or {}, PRICES)
    return {(row.task, row.machine): row for row in found}


def test_every_task_is_in_it_on_each_of_its_machines(spec: dict[str, Any]) -> None:
    found = rows(spec)
    assert sorted(found) == [
        ("fit", "e2-standard-4"),
        ("fit", "n1-standard-4"),
        ("inner/wait", "e2-standard-4"),
        ("search", "e2-standard-4"),
        ("search", "n1-standard-4 + 2 NVIDIA_TESLA_T4"),
        ("wait", "e2-standard-4"),
    ]
    assert found["search", "n1-standard-4 + 2 NVIDIA_TESLA_T4"].hourly == pytest.approx(1.0)


def test_without_earlier_runs_the_limits_count_and_that_is_said(spec: dict[str, Any]) -> None:
    found = rows(spec)
    assert found["fit", "n1-standard-4"].hours == Hours(0.0, 2.0)
    assert "up to its timeout" in found["fit", "n1-standard-4"].basis
    # Ten epochs may take two hours: twenty trials of five epochs may take twenty, four of them at a time.
    trials = found["search", "n1-standard-4 + 2 NVIDIA_TESLA_T4"]
    assert (trials.hours.high, found["search", "e2-standard-4"].hours.high) == (pytest.approx(20.0), pytest.approx(5.0))
    assert found["wait", "e2-standard-4"].hours == Hours(0.0, 3.0)
    assert all("no earlier run" in row.basis for row in found.values())


def test_trials_take_no_more_than_their_budget(spec: dict[str, Any]) -> None:
    trials = rows(spec, budget=3.0)["search", "n1-standard-4 + 2 NVIDIA_TESLA_T4"]
    assert trials.hours.high == 3.0 and "ends at its budget of 3 h" in trials.basis


def test_earlier_runs_give_the_range_and_are_scaled_to_the_size(spec: dict[str, Any]) -> None:
    past = {("fit",): [Past(0.5, 0.4, {"epochs": 5}), Past(1.0, 0.9, {"epochs": 10})]}
    found = rows(spec, past, epochs=20)
    assert found["fit", "n1-standard-4"].hours == Hours(pytest.approx(1.6), pytest.approx(1.8))  # type: ignore[arg-type]
    assert found["fit", "n1-standard-4"].basis == "2 earlier runs, scaled by 4"
    same = rows(spec, {("fit",): past["fit",][1:]}, epochs=10)
    assert (same["fit", "e2-standard-4"].hours, same["fit", "e2-standard-4"].basis) == (
        Hours(1.0, 1.0),
        "1 earlier run",
    )


@given(st.fixed_dictionaries({name: st.integers(1, 99) for group in budget.SIZES for name in group}), st.data())
def test_more_work_never_takes_less(before: dict[str, int], data: st.DataObject) -> None:
    now = {name: value + data.draw(st.integers(0, 9)) for name, value in before.items()}
    assert budget.growth(before, now) >= 1.0 >= budget.growth(now, before) * (1 - 1e-9)
    assert budget.growth(before, before) == 1.0


def environment(**max_cost: float) -> Environment:
    return Environment(
        project="localvertex",
        location="us-central1",
        bucket="cost",
        pipelines={"costly": {"machine": "n1-standard-4"}},
        max_cost=max_cost,
    )


def test_a_run_over_the_limit_is_refused(spec: dict[str, Any], vertex: Vertex) -> None:
    values = {"machine": "n1-standard-4"}
    budget.check("iris", spec, values, environment(), vertex)
    budget.check("iris", spec, values, environment(iris=1000.0), vertex)
    with pytest.raises(
        UserError, match=r"may cost \$[\d.]+, which is over max_cost.iris=1; most of it is search on n1"
    ):
        budget.check("iris", spec, values, environment(iris=1.0), vertex)
    with pytest.raises(UserError, match=r"prices.yaml has no price of brick"):
        budget.check("iris", spec, {"machine": "brick"}, environment(iris=1000.0), vertex)
    with pytest.raises(UserError, match=r"max_cost.irys: no such pipeline; did you mean iris?"):
        budget.check("iris", spec, values, environment(irys=1000.0), vertex)


def test_what_trials_may_cost_is_so_many_device_hours_of_their_machine() -> None:
    machine = {"machine_type": "n1-standard-8", "accelerator_type": "NVIDIA_TESLA_T4", "accelerator_count": 2}
    hourly = run.settings.prices().hourly(*machine.values())  # type: ignore[arg-type]
    assert hourly

    def limited(asked: float, **most: float) -> Any:
        chosen = environment().model_copy(update={"max_tune_cost": most})
        found = budget.within_tune_cost("iris", {**machine, "tune_budget": asked, "seed": 1}, chosen)
        assert found == {**machine, "tune_budget": found["tune_budget"], "seed": 1}
        return found["tune_budget"]

    for unlimited_or_above in (0.0, 100.0):
        assert 2.49 < limited(unlimited_or_above, iris=2.5) * hourly <= 2.5
    assert limited(0.1, iris=2.5) == 0.1
    assert limited(100.0) == limited(100.0, mnist=2.5) == 100.0


@pytest.mark.parametrize(
    ("limits", "values", "message"),
    [
        ({"irys": 1.0}, {}, "max_tune_cost.irys: no such pipeline; did you mean iris?"),
        ({"iris_monitor": 1.0}, {"seed": 1}, "max_tune_cost.iris_monitor=1: iris_monitor has no tune_budget"),
        ({"iris": 1.0}, {"tune_budget": 0, "machine_type": "brick"}, "max_tune_cost.iris=1: .* has no price of brick"),
    ],
)
def test_a_limit_that_cannot_be_kept_to_is_refused(
    limits: dict[str, float], values: dict[str, Any], message: str
) -> None:
    pipeline = next(iter(limits)).replace("irys", "iris")
    machine = {"machine_type": "", "accelerator_type": "", "accelerator_count": 0}
    with pytest.raises(UserError, match=message):
        chosen = environment().model_copy(update={"max_tune_cost": limits})
        budget.within_tune_cost(pipeline, machine | values, chosen)


def test_the_limit_of_the_trials_reaches_the_run() -> None:
    kinds = {"machine_type": "STRING", "accelerator_type": "STRING", "accelerator_count": "NUMBER_INTEGER"}
    taken = {name: {"parameterType": kind} for name, kind in {**kinds, "tune_budget": "NUMBER_DOUBLE"}.items()}
    spec = {"root": {"inputDefinitions": {"parameters": taken}}}
    local = run.settings.environment("local")
    pipelines = {"iris": {name: value for name, value in local.pipelines["iris"].items() if name in taken}}
    chosen = local.model_copy(update={"max_tune_cost": {"iris": 1.0}, "pipelines": pipelines})
    assert 0 < run.parameters("iris", spec, chosen, LOCAL, "")["tune_budget"] < 24
    assert run.parameters("iris", spec, chosen, LOCAL, "tune_budget=0.5")["tune_budget"] == 0.5


@dsl.pipeline(name="timed")
def timed(epochs: int, other: int) -> None:
    wait(epochs=epochs)
    inner(epochs=other)
    with dsl.ParallelFor([0, 1]) as each:
        wait(epochs=each)


def test_what_earlier_runs_took_is_read_from_the_service(vertex: Vertex, tmp_path: Path) -> None:
    spec = compiled(timed, tmp_path)
    for other in (0, 2):  # The second time, only the inner task is run: the rest comes from the cache.
        job = vertex.post(
            f"{vertex.parent}/pipelineJobs",
            run.pipeline_job("timed", spec, {"epochs": 1, "other": other}, "cost", True),
        )
        while job["state"] not in graph.FINAL:
            time.sleep(0.05)
            job = vertex.get(job["name"])
        assert job["state"] == graph.DONE, job
    past = budget.history(vertex, "timed")
    assert {path: len(found) for path, found in past.items()} == {
        ("wait",): 1,
        ("inner", "wait"): 2,
        ("for-loop-2", "wait-2"): 1,
    }
    assert past["wait",][0].own * 3600 >= 1.0 and past["wait",][0].inputs == {"epochs": 1}
    assert sorted(each.inputs["epochs"] for each in past["inner", "wait"]) == [0, 2]
    assert max(each.own for each in past["inner", "wait"]) * 3600 >= 2.0
    shown = cost.table(budget.estimate(spec, {"epochs": 1, "other": 4}, past, PRICES), PRICES)
    assert shown.row_count == 3
    assert LOCAL.flags("timed") == "PIPELINE=timed"
