"""Protects cron: fields, time zones, and the hours that a change of the clocks leaves out or repeats."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from localvertex.cron import Cron, CronError


def times(cron: str, start: str, count: int = 3) -> list[str]:
    """The next times after a moment, in UTC."""
    moment = datetime.fromisoformat(start).timestamp()
    found = []
    for _ in range(count):
        moment = Cron(cron).after(moment)
        found.append(datetime.fromtimestamp(moment, UTC).strftime("%m-%d %H:%M:%S"))
    return found


@pytest.mark.parametrize(
    ("cron", "start", "expected"),
    [
        ("* * * * *", "2026-01-01T00:00:00Z", ["01-01 00:01:00", "01-01 00:02:00", "01-01 00:03:00"]),
        ("*/20 9-10 * * *", "2026-01-01T09:30:30Z", ["01-01 09:40:00", "01-01 10:00:00", "01-01 10:20:00"]),
        ("0 9 * * MON,fri", "2026-01-01T00:00:00Z", ["01-02 09:00:00", "01-05 09:00:00", "01-09 09:00:00"]),
        ("0 0 13 * 5", "2026-01-31T00:00:00Z", ["02-06 00:00:00", "02-13 00:00:00", "02-20 00:00:00"]),
        ("TZ=Asia/Kolkata 0 9 * * *", "2026-01-01T00:00:00Z", ["01-01 03:30:00", "01-02 03:30:00", "01-03 03:30:00"]),
    ],
)
def test_times_follow_the_fields_and_the_zone(cron: str, start: str, expected: list[str]) -> None:
    assert times(cron, start) == expected


def test_a_time_that_the_clocks_leave_out_comes_right_after_the_gap() -> None:
    found = times("TZ=America/New_York 30 2 * * *", "2026-03-07T00:00:00Z")
    assert found == ["03-07 07:30:00", "03-08 07:00:00", "03-09 06:30:00"]


def test_a_fixed_time_comes_once_in_an_hour_that_comes_twice() -> None:
    cron = "CRON_TZ=America/New_York 30 1 * * *"
    assert times(cron, "2026-10-31T12:00:00Z", 2) == ["11-01 05:30:00", "11-02 06:30:00"]
    assert times(cron, "2026-11-01T06:15:00Z", 1) == ["11-02 06:30:00"]


def test_every_hour_is_every_hour_whatever_the_clocks_do() -> None:
    found = times("TZ=America/New_York 0 * * * *", "2026-11-01T04:30:00Z")
    assert found == ["11-01 05:00:00", "11-01 06:00:00", "11-01 07:00:00"]


@pytest.mark.parametrize(
    "cron",
    [
        "",
        "* * * *",
        "0 * * * * *",
        "60 * * * *",
        "0 0 L * *",
        "@daily",
        "0 0 30 2 *",
        "0 0 31 4,6 *",
        "TZ=Mars 0 0 * * *",
    ],
)
def test_what_is_no_schedule_is_refused(cron: str) -> None:
    with pytest.raises(CronError, match=r"cron schedule|time zone|never"):
        Cron(cron)
