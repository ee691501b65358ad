"""Protects Cloud Logging's `entries:list`: the lines of a task in either order, and a page size that is checked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions

from localvertex.api.logging_frontend import LoggingFrontend
from localvertex.engine.journal import Journal, Record
from localvertex.engine.values import State
from localvertex.home import Home
from localvertex.store import Store

TASK = 77


@pytest.fixture
def frontend(tmp_path: Path) -> Iterator[LoggingFrontend]:
    """What answers when a task has printed a hundred lines."""
    home = Home(tmp_path / "state").create()
    store = Store.at(home.database)
    journal = Journal(store)
    journal.put([Record("projects/1/locations/l/pipelineJobs/mine", "train", "", "train", TASK, State.SUCCEEDED)])
    log = home.logs / "mine" / "train.log"
    log.parent.mkdir(parents=True)
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    yield LoggingFrontend(home, journal)
    store.close()


def entries(frontend: LoggingFrontend, task: int = TASK, **body: Any) -> list[str]:
    asked = {"filter": f'resource.type="ml_job" AND resource.labels.job_id="{task}"', **body}
    return [entry["textPayload"] for entry in frontend.answer("POST", "/v2/entries:list", {}, asked).get("entries", [])]


def test_the_first_or_the_last_lines_are_read(frontend: LoggingFrontend) -> None:
    assert entries(frontend, pageSize=2) == ["line 0", "line 1"]
    assert entries(frontend, pageSize="2", orderBy="timestamp desc") == ["line 99", "line 98"]
    assert len(entries(frontend, pageSize=1000)) == 100
    assert entries(frontend, task=78) == entries(frontend, task=1 << 70) == []


@pytest.mark.parametrize("size", [None, 0, "0"])
def test_fifty_lines_are_read_where_no_size_is_given(frontend: LoggingFrontend, size: Any) -> None:
    assert len(entries(frontend, pageSize=size)) == 50


@pytest.mark.parametrize("size", [-1, 1001, "many", "", "-5", 1.5, True, [], ["2"], {"a": 1}, "1e400", 10**400])
def test_a_page_size_that_is_none_is_refused(frontend: LoggingFrontend, size: Any) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="pageSize"):
        entries(frontend, pageSize=size)
