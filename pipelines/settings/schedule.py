"""A pipeline that recurs, as the settings say it."""

from __future__ import annotations

import datetime
import zoneinfo
from typing import Annotated, Any

import cronsim
import pydantic
from pydantic import AwareDatetime, ConfigDict, Field, StrictBool, StrictInt, StrictStr

Count = Annotated[StrictInt, Field(ge=1)]


class Schedule(pydantic.BaseModel):
    """A pipeline that is run again and again.

    Attributes:
        name: of the schedule, among those of its pipeline.
        cron: minute, hour, day of month, month, day of week, as in unix cron.
        time_zone: that `cron` is in, of the IANA database.
        source: gs:// folder with the data, if the pipeline takes a source.
        parameters: those that differ from the environment's.
        enabled: false: it is there, and paused.
        start_time: no run before it; none: from now on.
        end_time: no run after it; none: for ever.
        max_run_count: it is completed after so many; none: never.
        max_concurrent_run_count: runs that may be being started at once.
        max_concurrent_active_run_count: runs that may be under way at once.
        allow_queueing: whether a run beyond those limits waits, or else is left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[StrictStr, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    cron: StrictStr
    time_zone: StrictStr = "UTC"
    source: Annotated[StrictStr, Field(pattern=r"^(gs://[a-z0-9][a-z0-9._-]+[a-z0-9](/.*)?)?$")] = ""
    parameters: dict[str, Any] = {}
    enabled: StrictBool = True
    start_time: AwareDatetime | None = None
    end_time: AwareDatetime | None = None
    max_run_count: Count | None = None
    max_concurrent_run_count: Count = 1
    max_concurrent_active_run_count: Count = 1
    allow_queueing: StrictBool = False

    @pydantic.field_validator("cron")
    @classmethod
    def _is_cron(cls, text: str) -> str:
        words = text.split()
        if len(words) != 5:
            raise ValueError("give five fields: minute, hour, day of month, month, day of week")
        try:
            next(cronsim.CronSim(text, datetime.datetime.now(datetime.UTC)))
        except cronsim.CronSimError as error:
            raise ValueError(str(error)) from None
        except StopIteration:
            raise ValueError("never comes") from None
        return " ".join(words)

    @pydantic.field_validator("time_zone")
    @classmethod
    def _is_zone(cls, name: str) -> str:
        try:
            zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("no such time zone; give one such as Europe/Berlin") from None
        return name

    @pydantic.model_validator(mode="after")
    def _ends_after_it_starts(self) -> Schedule:
        if self.start_time and self.end_time and self.end_time <= self.start_time:
            raise ValueError("end_time is not after start_time")
        return self
