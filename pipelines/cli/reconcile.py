"""From what the settings say of schedules and what the service holds to what is to be done; no call is made here.

A schedule is ours if the labels of the runs that it creates say so: a Schedule has no labels of its own, its display
name can be changed by anybody, but what it creates cannot be changed at all.
Source: cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.schedules
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipelines.settings import Schedule

OWNER, NAME, PIPELINE, REQUEST = "settings", "schedule", "pipeline", "request"
"""Labels of our runs: the settings file, the schedule in it, its pipeline, a digest of template and parameters."""

ACTIVE, PAUSED, COMPLETED = "ACTIVE", "PAUSED", "COMPLETED"
FIRST_TIME = datetime.datetime.min.replace(tzinfo=datetime.UTC)


class Verb(enum.StrEnum):
    """What can be done about a schedule."""

    CREATE = "create"
    UPDATE = "update"
    RECREATE = "recreate"
    PAUSE = "pause"
    RESUME = "resume"
    REMOVE = "remove"


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A schedule as the settings say it.

    Attributes:
        schedule: the settings.
        job: the PipelineJob that each run creates, with its labels.
    """

    schedule: Schedule
    job: Mapping[str, Any]

    @property
    def display_name(self) -> str:
        """As the console shows it."""
        return f"{self.job['labels'][PIPELINE]}-{self.schedule.name}"

    @property
    def fields(self) -> dict[str, Any]:
        """All that the API can change, by its names; None: it is not set."""
        schedule = self.schedule
        return {
            "displayName": self.display_name,
            "cron": f"TZ={schedule.time_zone} {schedule.cron}",
            "startTime": schedule.start_time,
            "endTime": schedule.end_time,
            "maxRunCount": schedule.max_run_count,
            "maxConcurrentRunCount": schedule.max_concurrent_run_count,
            "maxConcurrentActiveRunCount": schedule.max_concurrent_active_run_count,
            "allowQueueing": schedule.allow_queueing,
        }

    def body(self, parent: str) -> dict[str, Any]:
        """The Schedule resource to create.

        Args:
            parent: `projects/<project>/locations/<location>`.
        """
        request = {"parent": parent, "pipelineJob": self.job}
        return {**as_json(self.fields), "createPipelineJobRequest": request}


@dataclasses.dataclass(frozen=True)
class Action:
    """One thing to do.

    Attributes:
        verb: what.
        name: of the schedule in the settings.
        reason: why, for people.
        resource: name of the schedule at the service; empty: there is none yet.
        changes: fields to update, by the API's names.
        wanted: what to create.
    """

    verb: Verb
    name: str
    reason: str
    resource: str = ""
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    wanted: Wanted | None = None


def labels(found: Mapping[str, Any]) -> Mapping[str, str]:
    """Those of the runs that a Schedule resource creates."""
    said: Mapping[str, str] = found.get("createPipelineJobRequest", {}).get("pipelineJob", {}).get("labels", {})
    return said


def is_ours(found: Mapping[str, Any], owner: str, pipeline: str) -> bool:
    """Whether a Schedule resource came from these settings and belongs to this pipeline."""
    said = labels(found)
    return said.get(OWNER) == owner and said.get(PIPELINE) == pipeline and NAME in said and REQUEST in said


def plan(
    wanted: Sequence[Wanted], found: Iterable[Mapping[str, Any]], owner: str, pipeline: str, now: datetime.datetime
) -> list[Action]:
    """What to do so that the service holds what the settings say; nothing if it does.

    Args:
        wanted: all schedules of the pipeline in these settings, each with another name.
        found: all Schedule resources there are, of others too.
        owner: the settings' name.
        pipeline: whose schedules these are.
        now: the time.

    Returns:
        The actions, in an order in which nothing runs that should not: first what goes or pauses, then what changes,
        at last what is new or goes on.
    """
    ours = [each for each in found if is_ours(each, owner, pipeline)]
    actions: list[Action] = []
    for each in wanted:
        same = [one for one in ours if labels(one)[NAME] == each.schedule.name]
        same.sort(key=lambda one: _effort(each, one, now))
        actions += _actions(each, same[0] if same else None, now)
        actions += [_remove(one, f"a second {each.schedule.name}") for one in same[1:]]
    names = {each.schedule.name for each in wanted}
    actions += [_remove(one, "not in the settings") for one in ours if labels(one)[NAME] not in names]
    order = [Verb.REMOVE, Verb.PAUSE, Verb.UPDATE, Verb.RECREATE, Verb.CREATE, Verb.RESUME]
    return sorted(actions, key=lambda action: order.index(action.verb))


def as_json(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as the REST API takes them; those that are not set are left out."""
    return {
        name: value.isoformat() if isinstance(value, datetime.datetime) else value
        for name, value in fields.items()
        if value is not None
    }


def moment(text: str | None) -> datetime.datetime | None:
    """A time of the REST API; None if it has none."""
    return datetime.datetime.fromisoformat(text) if text else None


def _effort(wanted: Wanted, found: Mapping[str, Any], now: datetime.datetime) -> tuple[bool, int]:
    actions = _actions(wanted, found, now)
    return any(action.verb is Verb.RECREATE for action in actions), len(actions)


def _actions(wanted: Wanted, found: Mapping[str, Any] | None, now: datetime.datetime) -> list[Action]:
    name, end = wanted.schedule.name, wanted.schedule.end_time
    over = end is not None and end <= now  # The service would refuse to create it.
    if found is None and over:
        return []
    if found is None:
        paused = "" if wanted.schedule.enabled else ", paused"
        return [Action(Verb.CREATE, name, f"not at the service{paused}", wanted=wanted)]
    changes, state, resource = _changes(wanted, found, now), found.get("state", ACTIVE), str(found["name"])
    if reason := _unchangeable(wanted, found, changes):
        if over:
            return [_remove(found, "its end_time is over")]
        return [Action(Verb.RECREATE, name, reason, resource, wanted=wanted)]
    actions = []
    if changes:
        reason = ", ".join(f"{field} {_shown(found.get(field))} -> {value}" for field, value in changes.items())
        actions.append(Action(Verb.UPDATE, name, reason, resource, changes))
    if state == PAUSED and wanted.schedule.enabled:
        actions.append(Action(Verb.RESUME, name, "enabled", resource))
    if state == ACTIVE and not wanted.schedule.enabled:
        actions.append(Action(Verb.PAUSE, name, "disabled", resource))
    return actions


def _unchangeable(wanted: Wanted, found: Mapping[str, Any], changes: Mapping[str, Any]) -> str:
    """Why a schedule cannot become what is wanted without being made anew; empty if it can."""
    if labels(found)[REQUEST] != wanted.job["labels"][REQUEST]:
        return "its template or parameters changed"
    if unset := [field for field, value in changes.items() if value is None]:
        return f"{', '.join(unset)} cannot be unset"
    if changes and found.get("state") == COMPLETED:
        return "it is completed"
    return ""


def _changes(wanted: Wanted, found: Mapping[str, Any], now: datetime.datetime) -> dict[str, Any]:
    """Fields that are to have another value; None: that are not to be set any more."""
    changes = {}
    for field, value in wanted.fields.items():
        present = _value(found.get(field), value)
        if field == "startTime" and value is None:
            # The service fills in when it was created; a start that is over has no effect any more.
            starts = moment(found.get(field))
            if starts is not None and starts > now and starts > (moment(found.get("createTime")) or FIRST_TIME):
                changes[field] = now
        elif present != value:
            changes[field] = value
    return changes


def _value(present: Any, like: Any) -> Any:
    """A field of the resource in the type of the settings: JSON has 64-bit integers and times as text."""
    if isinstance(like, bool):
        return bool(present)
    if isinstance(like, datetime.datetime):
        return moment(present)
    if isinstance(like, int):
        return int(present or 0)
    return None if present in ("", "0", 0) else present


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


def _remove(found: Mapping[str, Any], reason: str) -> Action:
    return Action(Verb.REMOVE, labels(found)[NAME], reason, str(found["name"]))
