"""Protects running again from a task: it and what depends on it are executed, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from google.api_core import exceptions

from localvertex.console.again import executed_from


def task(component: str, *after: str, **more: Any) -> dict[str, Any]:
    return {"componentRef": {"name": component}, "dependentTasks": list(after), **more}


def spec() -> dict[str, Any]:
    """a -> twice, again (both of the same DAG, x -> y) -> z; and a loop of that DAG beside it."""
    inner = {"dag": {"tasks": {"x": task("leaf"), "y": task("leaf", "x")}}}
    loop = task("inner", "a", parameterIterator={"items": {"raw": "[1, 2]"}, "itemInput": "item"})
    tasks = {
        "a": task("leaf", cachingOptions={"enableCache": False}),
        "once": task("inner", "a"),
        "twice": task("inner", "a"),
        "loop": loop,
        "z": task("leaf", "once", inputs={"parameters": {"p": {"taskOutputParameter": {"producerTask": "twice"}}}}),
    }
    return {"root": {"dag": {"tasks": tasks}}, "components": {"leaf": {"executorLabel": "exec"}, "inner": inner}}


def executed(spec: dict[str, Any]) -> set[str]:
    """Paths of the tasks that take nothing from the cache."""
    found: set[str] = set()

    def walk(component: dict[str, Any], prefix: str) -> None:
        for name, each in component.get("dag", {}).get("tasks", {}).items():
            if not each["cachingOptions"].get("enableCache"):
                found.add(prefix + name)
            walk(spec["components"][each["componentRef"]["name"]], f"{prefix}{name}/")

    walk(spec["root"], "")
    return found


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("z", {"z"}),
        ("once", {"once", "once/x", "once/y", "z"}),
        ("once/x", {"once/x", "once/y", "z"}),
        ("twice/y", {"twice/y", "z"}),
        ("loop/1/y", {"loop/y"}),
        ("loop", {"loop", "loop/x", "loop/y"}),
        ("a", {"a", "once", "once/x", "once/y", "twice", "twice/x", "twice/y", "loop", "loop/x", "loop/y", "z"}),
    ],
)
def test_a_task_and_its_descendants_are_executed(start: str, expected: set[str]) -> None:
    before = spec()
    again = executed_from(before, start)
    assert executed(again) == expected
    assert before == spec(), "the run's own text stays as it is"
    assert executed(executed_from(again, start)) == expected
    assert len(executed_from(again, start)["components"]) == len(again["components"]), "copies do not pile up"


def test_an_unknown_task_is_refused() -> None:
    for start in ("nothing", "once/nothing", "a/b"):
        with pytest.raises(exceptions.NotFound):
            executed_from(spec(), start)
