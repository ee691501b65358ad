"""Protects monitors: every system has one, made by the one definition, on a schedule that the settings can run."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines import settings
from pipelines.cli import compile, graph, schedule, targets

SYSTEMS = sorted(path.parent.name for path in (compile.ROOT / "images" / "trainer" / "systems").glob("*/data.py"))


def test_every_system_has_a_monitor() -> None:
    assert {f"{system}_monitor" for system in SYSTEMS} == {
        name for name in compile.names() if name.endswith("_monitor")
    }


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_monitor_is_of_its_system_and_on_a_schedule_of_its_own(system: str, tmp_path: Path) -> None:
    pipeline, file = f"{system}_monitor", tmp_path / "monitor.json"
    compile.write(pipeline, file)
    spec = compile.load(file)
    assert spec["pipelineInfo"]["name"] == f"{system}-monitor"
    assert list(graph.names(spec).values()) == ["requests", "skew", "notify"]
    containers = [executor["container"] for executor in spec["deploymentSpec"]["executors"].values()]
    assert all(f":{system}-" in container["image"] for container in containers)
    for target in targets.TARGETS.values():
        environment = settings.environment(target.settings)
        (listed,) = environment.schedules[pipeline]
        job = schedule.job(pipeline, spec, listed, environment, target)
        given = job["runtimeConfig"]["parameterValues"]
        assert (listed.enabled, given["endpoint_name"]) == (True, environment.pipelines[system]["endpoint_name"])


def test_pictures_are_not_logged_unless_the_settings_say_so() -> None:
    for target in targets.TARGETS.values():
        chosen = settings.environment(target.settings).pipelines
        assert {system for system in SYSTEMS if chosen[system].get("logged_share", 0.0)} == {"iris"}
