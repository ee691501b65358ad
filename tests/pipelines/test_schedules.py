"""Protects schedules as settings: the service holds what the settings say, and what others made is left alone."""

import dataclasses
import datetime
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st
from kfp import compiler, dsl
from kfp.dsl import OutputPath

from pipelines import UserError
from pipelines.cli import reconcile, run, schedule
from pipelines.cli.reconcile import Verb, Wanted
from pipelines.cli.vertex import Vertex
from pipelines.settings import Environment, Schedule
from tests.pipelines.conftest import LOCAL

PIPELINE = "recurring"
ENVIRONMENT = Environment(project="localvertex", location="us-central1", bucket="schedules", pipelines={PIPELINE: {}})
NOW = datetime.datetime(2026, 5, 4, 3, 2, 1, tzinfo=datetime.UTC)


@dsl.container_component
def note(text: str, image: str, written: OutputPath(str)):  # type: ignore
    return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", 'printf %s "$0" > "$1"'], args=[text, written])


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Two pipelines that take the same: one is what the other became after a change of its code."""
    found = []
    for version in ("1", "2"):

        @dsl.pipeline(name=PIPELINE)
        def recurring(source: str, seed: int = 0) -> None:
            note(text=source, image=version)  # noqa: B023

        file = tmp_path_factory.mktemp("pipeline") / f"{version}.json"
        compiler.Compiler().compile(recurring, str(file))
        found.append(schedule.compile.load(file))
    return found


def wanted(listed: Sequence[Schedule], spec: dict[str, Any]) -> list[Wanted]:
    return [Wanted(each, schedule.job(PIPELINE, spec, each, ENVIRONMENT, LOCAL)) for each in listed]


def bring(listed: Sequence[Schedule], spec: dict[str, Any], vertex: Vertex, most: int | None = None) -> int:
    """Does what is to be done, or the first of it as a killed attempt would; returns how much was to be done."""
    actions = schedule.pending(wanted(listed, spec), vertex, PIPELINE, LOCAL)
    for action in actions[:most]:
        schedule.execute(action, vertex)
    return len(actions)


def held(vertex: Vertex) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in vertex.pages(f"{vertex.parent}/schedules")}


FAR = [datetime.datetime(year, 1, 1, tzinfo=datetime.UTC) for year in (2090, 2091, 2092)]
SCHEDULES = st.builds(
    Schedule,
    name=st.sampled_from(["daily", "weekly", "yearly"]),
    cron=st.sampled_from(["0 3 1 1 *", "30 4 1 1 *"]),  # none of them comes while the tests run
    time_zone=st.sampled_from(["UTC", "Europe/Berlin"]),
    source=st.sampled_from(["gs://schedules/incoming", "gs://schedules/other/"]),
    parameters=st.sampled_from([{}, {"seed": 1}]),
    enabled=st.booleans(),
    start_time=st.sampled_from([None, FAR[0]]),
    end_time=st.sampled_from([None, FAR[1], FAR[2]]),
    max_run_count=st.sampled_from([None, 3, 4]),
    max_concurrent_run_count=st.integers(1, 2),
    max_concurrent_active_run_count=st.integers(1, 2),
    allow_queueing=st.booleans(),
)
MEDDLING = st.sampled_from(["nothing", "pause", "resume", "delete", "rename", "cron", "copy"])
STEPS = st.tuples(
    st.lists(SCHEDULES, max_size=3, unique_by=lambda each: each.name), st.integers(0, 1), MEDDLING, st.integers(0, 3)
)


@effort(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(STEPS, min_size=1, max_size=4))
def test_after_any_history_the_service_holds_what_the_settings_say(
    vertex: Vertex,
    specs: list[dict[str, Any]],
    history: list[tuple[list[Schedule], int, str, int]],
) -> None:
    for name in held(vertex):
        vertex.delete(name)
    foreign = {each["name"]: each for each in (make_foreign(vertex, labels, specs[0]) for labels in FOREIGN)}
    for listed, version, meddling, killed_after in history:
        meddle(meddling, vertex, foreign)
        bring(listed, specs[version], vertex, most=killed_after)
        bring(listed, specs[version], vertex)
        found = held(vertex)
        assert {name: found.pop(name) for name in foreign} == foreign
        assert sorted(map(told, found.values()), key=str) == sorted(
            (expected(each, specs[version]) for each in listed), key=str
        )
        assert not bring(listed, specs[version], vertex)


def expected(listed: Schedule, spec: Mapping[str, Any]) -> dict[str, Any]:
    """What the service has to hold, said in the API's words."""
    return {
        "displayName": f"recurring-{listed.name}",
        "cron": f"TZ={listed.time_zone} {listed.cron}",
        "starts": 2090 if listed.start_time else "now",
        "ends": listed.end_time.year if listed.end_time else None,
        "limits": [listed.max_run_count, listed.max_concurrent_run_count, listed.max_concurrent_active_run_count],
        "queues": listed.allow_queueing,
        "state": "ACTIVE" if listed.enabled else "PAUSED",
        "template": spec,
        "parameters": {"source": listed.source.rstrip("/"), **listed.parameters},
    }


def told(found: Mapping[str, Any]) -> dict[str, Any]:
    """What the service holds, in the same words."""
    job = found["createPipelineJobRequest"]["pipelineJob"]
    start, end = (reconcile.moment(found.get(name)) for name in ("startTime", "endTime"))
    limits = ("maxRunCount", "maxConcurrentRunCount", "maxConcurrentActiveRunCount")
    return {
        "displayName": found["displayName"],
        "cron": found["cron"],
        "starts": start.year if start and start > datetime.datetime.now(datetime.UTC) else "now",
        "ends": end.year if end else None,
        "limits": [int(found[name]) if name in found else None for name in limits],
        "queues": found.get("allowQueueing", False),
        "state": found["state"],
        "template": job["pipelineSpec"],
        "parameters": job["runtimeConfig"]["parameterValues"],
    }


FOREIGN: list[dict[str, str]] = [
    {},
    {"pipeline": PIPELINE, "request": "0"},
    {"pipeline": PIPELINE, "request": "0", "settings": "production", "schedule": "daily"},
    {"pipeline": "iris", "request": "0", "settings": "local", "schedule": "daily"},
]


def make_foreign(vertex: Vertex, labels: Mapping[str, str], spec: dict[str, Any]) -> dict[str, Any]:
    job = run.pipeline_job("iris", spec, {"source": "gs://schedules/x"}, "schedules", cache=True) | {"labels": labels}
    body = {
        "displayName": "recurring-daily",
        "cron": "0 0 1 1 *",
        "maxConcurrentRunCount": 1,
        "createPipelineJobRequest": {"parent": vertex.parent, "pipelineJob": job},
    }
    return vertex.get(vertex.post(f"{vertex.parent}/schedules", body)["name"])


def meddle(how: str, vertex: Vertex, foreign: Mapping[str, Any]) -> None:
    """Somebody changes one of our schedules by hand."""
    ours = [each for name, each in held(vertex).items() if name not in foreign]
    for each in ours[:1]:
        name = each["name"]
        if how == "pause" and each["state"] == "ACTIVE":
            vertex.post(f"{name}:pause")
        elif how == "resume" and each["state"] == "PAUSED":
            vertex.post(f"{name}:resume")
        elif how == "delete":
            vertex.delete(name)
        elif how == "rename":
            vertex.patch(name, {"displayName": "mine"}, "displayName")
        elif how == "cron":
            vertex.patch(name, {"cron": "0 0 2 2 *"}, "cron")
        elif how == "copy":
            kept = ("displayName", "cron", "maxConcurrentRunCount", "createPipelineJobRequest")
            vertex.post(f"{vertex.parent}/schedules", {field: each[field] for field in kept})


def test_a_schedule_fires_and_its_run_succeeds(
    vertex: Vertex, specs: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    # What fell due within the last minute is late, not missed: the first run starts at once.
    started = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    every_minute = Schedule(
        name="often", cron="* * * * *", source="gs://schedules/incoming", start_time=started, max_run_count=1
    )
    bring([every_minute], specs[0], vertex)
    (name,) = (name for name, each in held(vertex).items() if reconcile.is_ours(each, "local", PIPELINE))
    while not (ran := schedule.last_run(vertex, name)) or ran["state"] not in run.graph.FINAL:
        time.sleep(0.1)
    job = vertex.get(ran["name"])
    assert job["state"] == run.graph.DONE
    assert job["labels"]["schedule"] == "often"
    (task,) = (detail for detail in job["jobDetail"]["taskDetails"] if detail["taskName"] == "note")
    assert task["execution"]["metadata"]["output:written"] == "gs://schedules/incoming"
    schedule.schedules(LOCAL)
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("recurring-often"))
    assert "completed" in row and "succeeded" in row and "local.yaml" in row
    assert not bring([every_minute], specs[0], vertex)
    assert bring([], specs[0], vertex) == 1


def test_the_command_prints_its_plan_does_it_and_then_has_nothing_to_do(
    vertex: Vertex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(schedule.compile, "BUILD", tmp_path)
    (listed,) = run.settings.environment("local").schedules["crnn"]
    before = held(vertex)
    schedule.schedule("crnn", LOCAL, plan_only=True)
    assert "next: make schedule PIPELINE=crnn" in capsys.readouterr().out
    assert held(vertex) == before
    schedule.schedule("crnn", LOCAL, plan_only=False)
    (made,) = (each for name, each in held(vertex).items() if name not in before)
    assert (made["displayName"], made["state"]) == (f"crnn-{listed.name}", "PAUSED")
    assert f"create  {listed.name}" in capsys.readouterr().out
    schedule.schedule("crnn", LOCAL, plan_only=False)
    assert "nothing to do" in capsys.readouterr().out
    vertex.delete(made["name"])


def found_for(each: Wanted, **changes: Any) -> dict[str, Any]:
    """The resource as the service would tell it right after it was created."""
    body = each.body("projects/p/locations/l")
    return {
        "name": "s/1",
        "state": "ACTIVE",
        "createTime": NOW.isoformat(),
        "startTime": NOW.isoformat(),
        **body,
        **changes,
    }


@pytest.mark.parametrize(
    ("change", "state", "verbs"),
    [
        ({}, "ACTIVE", []),
        ({}, "COMPLETED", []),
        ({"enabled": False}, "COMPLETED", []),
        ({"cron": "1 1 1 1 *"}, "ACTIVE", [Verb.UPDATE]),
        ({"cron": "1 1 1 1 *"}, "COMPLETED", [Verb.RECREATE]),
        ({"max_run_count": None}, "ACTIVE", [Verb.RECREATE]),
        ({"parameters": {"seed": 5}}, "ACTIVE", [Verb.RECREATE]),
        ({"source": "gs://schedules/elsewhere"}, "ACTIVE", [Verb.RECREATE]),
        ({"enabled": False, "max_run_count": 9}, "ACTIVE", [Verb.PAUSE, Verb.UPDATE]),
        ({"max_run_count": 9}, "PAUSED", [Verb.UPDATE, Verb.RESUME]),
        ({"name": "other"}, "ACTIVE", [Verb.REMOVE, Verb.CREATE]),
        ({"end_time": NOW, "parameters": {"seed": 5}}, "COMPLETED", [Verb.REMOVE]),
        ({"end_time": NOW, "name": "other"}, "ACTIVE", [Verb.REMOVE]),
    ],
)
def test_only_what_the_api_cannot_change_is_made_anew(
    specs: list[dict[str, Any]], change: dict[str, Any], state: str, verbs: list[Verb]
) -> None:
    before = Schedule(name="daily", cron="0 3 * * *", source="gs://schedules/incoming", max_run_count=3)
    (there,) = wanted([before], specs[0])
    now = wanted([before.model_copy(update=change)], specs[0])
    plan = reconcile.plan(now, [found_for(there, state=state)], "local", PIPELINE, NOW)
    assert [action.verb for action in plan] == verbs


def test_a_start_that_is_listed_no_more_is_now(specs: list[dict[str, Any]]) -> None:
    later = NOW + datetime.timedelta(days=2)
    listed = Schedule(name="daily", cron="0 3 * * *", source="gs://schedules/incoming", start_time=later)
    (there,) = wanted([listed], specs[0])
    without = dataclasses.replace(there, schedule=listed.model_copy(update={"start_time": None}))
    (action,) = reconcile.plan([without], [found_for(there)], "local", PIPELINE, NOW)
    assert (action.verb, action.changes) == (Verb.UPDATE, {"startTime": NOW})
    assert not reconcile.plan([without], [found_for(there)], "local", PIPELINE, later)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cron": "0 25 * * *"}, "cron"),
        ({"cron": "0 3 * *"}, "give five fields"),
        ({"cron": "0 0 31 2 *"}, "cron"),
        ({"time_zone": "Mars"}, "no such time zone"),
        ({"name": "Nightly run"}, "name"),
        ({"source": "/data"}, "source"),
        ({"max_run_count": 0}, "max_run_count"),
        ({"end_time": "2026-01-01"}, "end_time"),
        ({"start_time": FAR[1], "end_time": FAR[0]}, "end_time is not after start_time"),
        ({"crom": "0 3 * * *"}, "crom"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=message):
        Schedule(**{"name": "daily", "cron": "0 3 * * *", **wrong})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"source": ""}, "local.yaml: schedules.recurring.daily: source is missing"),
        ({"parameters": {"sead": 1}}, "schedules.recurring.daily: sead: no such parameter; did you mean seed?"),
        ({"parameters": {"seed": "1"}}, "seed=1: must be a whole number"),
    ],
)
def test_a_mistake_in_a_schedule_is_told_by_its_place(
    specs: list[dict[str, Any]], wrong: dict[str, Any], message: str
) -> None:
    listed = Schedule(**{"name": "daily", "cron": "0 3 * * *", "source": "gs://schedules/x", **wrong})
    with pytest.raises(UserError) as refused:
        wanted([listed], specs[0])
    assert message in str(refused.value)


def test_the_settings_file_is_checked_to_the_last_key(tmp_path: Path) -> None:
    plain = "project: p\nlocation: us-central1\nbucket: bucket\npipelines: {}\n"
    for text, message in (
        (
            "schedules: {crnn: [{name: a, cron: 0 3 * * *, enable: false}]}",
            "enable: no such setting; did you mean enabled?",
        ),
        (
            "schedules: {crnn: [{name: a, cron: 0 3 * * *}, {name: a, cron: 1 3 * * *}]}",
            "crnn has two schedules named a",
        ),
        ("retention: {keep_run: 3}", "keep_run: no such setting; did you mean keep_runs?"),
        ("max_cost: {crnn: -1}", "max_cost.crnn=-1"),
    ):
        (tmp_path / "wrong.yaml").write_text(plain + text)
        with pytest.raises(UserError, match=r"wrong\.yaml") as refused:
            run.settings.environment("wrong", tmp_path)
        assert message in str(refused.value)
