"""Brings the schedules of the settings to the service, and lists what is there."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from pipelines import UserError, settings
from pipelines.cli import budget, compile, reconcile, run, tables, targets
from pipelines.cli.reconcile import Action, Verb, Wanted
from pipelines.cli.targets import Target
from pipelines.cli.vertex import Vertex
from pipelines.settings import Environment, Schedule

STYLES = {"ACTIVE": "green", "PAUSED": "yellow", "COMPLETED": "dim"}


def schedule(pipeline: str, target: Target, plan_only: bool) -> list[Action]:
    """Prints what is to be done so that the service holds what the settings say, and does it.

    Args:
        pipeline: a module of `pipelines/`.
        target: where its schedules are.
        plan_only: whether to leave it at printing.

    Returns:
        What is to be done, or was.

    Raises:
        UserError: no such pipeline, a mistake in its schedules, or a run of one may cost more than `max_cost`.
        ServiceError: the service refused or failed a call.
    """
    environment = settings.environment(target.settings)
    for name in environment.schedules:
        compile.check_name(name, f"{target.settings}.yaml: schedules.")
    spec = compile.load(compile.compiled(pipeline))
    listed = environment.schedules.get(pipeline, ())
    wanted = [Wanted(each, job(pipeline, spec, each, environment, target)) for each in listed]
    targets.prepare(target, quiet=True)
    vertex = Vertex(environment)
    for each in wanted:
        if each.schedule.enabled:
            budget.check(pipeline, spec, each.job["runtimeConfig"]["parameterValues"], environment, vertex)
    actions = pending(wanted, vertex, pipeline, target)
    flags = target.flags(pipeline)
    if not actions:
        count = f"{len(wanted)} schedule{'' if len(wanted) == 1 else 's'}" if wanted else "no schedule"
        print(f"{pipeline} has {count} in {target.settings}.yaml, and so it is at the service: nothing to do")
    else:
        tables.show(plan_table(actions))
    if plan_only and actions:
        print(f"next: make schedule {flags}")
        return actions
    for action in actions:
        execute(action, vertex)
    print(f"next: make schedules {target.flags()}".rstrip())
    return actions


def job(
    pipeline: str, spec: dict[str, Any], wanted: Schedule, environment: Environment, target: Target
) -> dict[str, Any]:
    """The PipelineJob that each run of a schedule creates, with the labels that say whose it is.

    Raises:
        UserError: a parameter is unknown, missing, mistyped or out of bounds, or what trials may cost cannot be
            kept to.
    """
    origin = f"{target.settings}.yaml: schedules.{pipeline}.{wanted.name}"
    interface = compile.interface(spec)
    if wanted.source and run.SOURCE not in interface:
        raise UserError(f"{origin}: source={wanted.source}: {pipeline} takes no source; leave it out")
    if run.SOURCE in interface and not wanted.source:
        raise UserError(f"{origin}: source is missing; give the gs:// folder that new data arrives in")
    given = {run.SOURCE: wanted.source.rstrip("/")} if wanted.source else {}
    chosen = {**environment.pipelines.get(pipeline, {}), **wanted.parameters}
    values = settings.parameters(interface, chosen, given=given, origin=origin)
    values = budget.within_tune_cost(pipeline, values, environment)
    values |= {name: given[run.SOURCE] for name in run.FOLDERS if values.get(name) == "" and given}
    made = run.pipeline_job(pipeline, spec, values, environment.bucket, cache=True)
    made["labels"] |= {reconcile.OWNER: target.settings, reconcile.NAME: wanted.name}
    return made


def pending(wanted: Sequence[Wanted], vertex: Vertex, pipeline: str, target: Target) -> list[Action]:
    """What is to be done now."""
    found = vertex.pages(f"{vertex.parent}/schedules")
    return reconcile.plan(wanted, found, target.settings, pipeline, datetime.datetime.now(datetime.UTC))


def execute(action: Action, vertex: Vertex) -> None:
    """Does one thing; whatever of it a killed attempt left undone is part of the next plan.

    Raises:
        ServiceError: the service refused or failed a call.
    """
    if action.verb in (Verb.REMOVE, Verb.RECREATE):
        # First away, then anew: the other way round a kill in between would leave two that both start runs.
        vertex.delete(action.resource)
    if action.wanted is not None:
        made = vertex.post(f"{vertex.parent}/schedules", action.wanted.body(vertex.parent))
        if not action.wanted.schedule.enabled:
            vertex.post(f"{made['name']}:pause")
    if action.verb is Verb.UPDATE:
        changes = {"name": action.resource, **reconcile.as_json(action.changes)}
        vertex.patch(action.resource, changes, ",".join(action.changes))
    if action.verb in (Verb.PAUSE, Verb.RESUME):
        vertex.post(f"{action.resource}:{action.verb}")


def schedules(target: Target) -> None:
    """Prints every schedule at the service: when it runs next, and how its last run went.

    Raises:
        ServiceError: the service refused or failed a call.
    """
    environment = settings.environment(target.settings)
    targets.prepare(target, quiet=True)
    vertex = Vertex(environment)
    found = list(vertex.pages(f"{vertex.parent}/schedules"))
    if not found:
        print(f"no schedules; list them under schedules: in pipelines/settings/{target.settings}.yaml")
        print(f"next: make schedule {target.flags('<name>')}")
        return
    tables.show(list_table(found, {each["name"]: last_run(vertex, each["name"]) for each in found}, target))
    print(f"next: change pipelines/settings/{target.settings}.yaml, then make schedule {target.flags('<name>')}")


def last_run(vertex: Vertex, name: str) -> dict[str, Any] | None:
    """The newest PipelineJob that a schedule created, without its details; None if there is none."""
    query = {"filter": f'schedule_name="{name}"', "orderBy": "create_time desc", "pageSize": "1"}
    found = vertex.get(f"{vertex.parent}/pipelineJobs", **query, readMask="name,createTime,state")
    return next(iter(found.get("pipelineJobs", [])), None)


def plan_table(actions: Iterable[Action]) -> Table:
    """A row an action."""
    table = Table(box=None, pad_edge=False)
    for title in ("do", "schedule", "because"):
        table.add_column(title, overflow="fold")
    for action in actions:
        table.add_row(action.verb, action.name, Text(action.reason))
    return table


def list_table(
    found: Iterable[Mapping[str, Any]], last: Mapping[str, Mapping[str, Any] | None], target: Target
) -> Table:
    """A row a schedule.

    Args:
        found: Schedule resources.
        last: the newest run by the schedule's name.
        target: whose settings to tell from others.
    """
    table = Table(box=None, pad_edge=False)
    for title in ("schedule", "when", "state", "next run", "last run", "it", "made by"):
        table.add_column(title, overflow="fold")
    for each in sorted(found, key=lambda one: str(one.get("displayName", ""))):
        labels, ran = reconcile.labels(each), last.get(each["name"])
        ours = reconcile.is_ours(each, target.settings, labels.get(reconcile.PIPELINE, ""))
        state = each.get("state", reconcile.ACTIVE)
        coming = each.get("nextRunTime") if state == reconcile.ACTIVE else None
        table.add_row(
            Text(each.get("displayName", "")),
            each.get("cron", ""),
            Text(state.lower(), STYLES.get(state, "")),
            _time(coming),
            _time(ran.get("createTime")) if ran else "never",
            _ending(each, ran),
            f"{target.settings}.yaml" if ours else "others",
        )
    return table


def _ending(found: Mapping[str, Any], ran: Mapping[str, Any] | None) -> str:
    """How the last run went; or the service's words, if it could not even be created."""
    said = str(found.get("lastScheduledRunResponse", {}).get("runResponse", ""))
    if said not in ("", "OK"):
        return said
    return str(ran.get("state", "")).removeprefix("PIPELINE_STATE_").lower() if ran else ""


def _time(text: str | None) -> str:
    when = reconcile.moment(text)
    return f"{when.astimezone():%Y-%m-%d %H:%M}" if when else ""
