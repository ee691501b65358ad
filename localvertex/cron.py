"""Cron schedules in time zones: when the next moment is, across changes of the clocks.

The language is the five fields of unix cron with an optional `TZ=<zone>` or `CRON_TZ=<zone>` before them
(https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.schedules, field `cron`).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

_ZONE = re.compile(r"\s*(?:CRON_)?TZ=(\S+)\s+(.*)", re.DOTALL)
_FIELD = re.compile(r"(?:[0-9*/,-]|[A-Za-z]{3})+")
_FIELDS = 5


class CronError(ValueError):
    """A cron schedule that cannot be; the message says what is wrong."""


class Cron:
    """A cron schedule; without a zone it is in UTC.

    At a fixed hour that the clocks leave out, it is due right after the gap; at one that comes twice, once.

    Args:
        text: `30 9 * * 1-5` or `TZ=America/New_York 30 9 * * 1-5`.

    Raises:
        CronError: it is not a schedule, names no time zone, or never comes.
    """

    def __init__(self, text: str) -> None:
        match = _ZONE.fullmatch(text)
        zone, self._fields = (match[1], match[2]) if match else ("", text)
        self._zone = _zone(zone)
        words = self._fields.split()
        if len(words) != _FIELDS or not all(map(_FIELD.fullmatch, words)):
            raise CronError(
                f"{text!r} is not a cron schedule of five fields (minute, hour, day of month, month, day of week)"
            )
        try:
            self.after(datetime.now(UTC).timestamp())
        except CronSimError as error:
            raise CronError(f"{text!r} is not a cron schedule: {error}") from None
        except StopIteration:
            raise CronError(f"{text!r} never comes") from None

    def after(self, moment: float) -> float:
        """The first time after a moment, both in seconds since 1970."""
        times = CronSim(self._fields, datetime.fromtimestamp(moment, self._zone))
        # In an hour that comes twice, a fixed time's next is its first coming, which may be over already.
        return next(time for time in (found.timestamp() for found in times) if time > moment)


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise CronError(f"{name!r} is not a time zone of the IANA database, such as America/New_York") from None
