"""Prints what a run would take and cost, before it is submitted."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from pipelines import settings
from pipelines.cli import budget, compile, run, tables, targets
from pipelines.cli.budget import Hours, Row
from pipelines.cli.targets import Target
from pipelines.cli.vertex import Vertex
from pipelines.settings import Prices


def cost(pipeline: str, target: Target, arguments: str) -> list[Row]:
    """Prints what a run would take, task by task.

    Args:
        pipeline: a module of `pipelines/`.
        target: where it would be run, and where earlier runs were.
        arguments: overrides of parameters, such as `max_trials=2`.

    Raises:
        UserError: a mistake of the person who called.
        ServiceError: the service refused or failed a call.
    """
    spec = compile.load(compile.compiled(pipeline))
    environment, prices = settings.environment(target.settings), settings.prices()
    limit = budget.limit(pipeline, environment)
    values = run.parameters(pipeline, spec, environment, target, arguments)
    targets.prepare(target, quiet=True)
    found = budget.estimate(spec, values, budget.history(Vertex(environment), pipeline), prices)
    tables.show(table(found, prices))
    notes = [
        "a task whose outputs are in the cache costs nothing; storage and the endpoint's hours are not in it",
        f"prices of {prices.date} from {prices.source}, on demand; edit them in pipelines/settings/prices.yaml",
        f"max_cost of {target.settings}.yaml: {'none' if limit is None else f'${limit:,.2f}'}",
        f"next: make run {target.flags(pipeline)}",
    ]
    print(*notes, sep="\n")
    return found


def table(rows: Sequence[Row], prices: Prices) -> Table:
    """A row a task and machine, and their sum."""
    shown = Table(box=None, pad_edge=False, show_footer=True)
    everything = Hours(sum(row.hours.low for row in rows), sum(row.hours.high for row in rows))
    known = budget.total(rows, prices)
    incomplete = " + unknown" if any(row.cost is None for row in rows) else ""
    shown.add_column("task", "together", no_wrap=True)
    shown.add_column("machine", no_wrap=True)
    shown.add_column("device-hours", _span(everything, "{:,.2f}"), justify="right", no_wrap=True)
    shown.add_column("cost", _span(known, "${:,.2f}") + incomplete, justify="right", no_wrap=True)
    shown.add_column("from", f"with ${prices.run:g} for the run")
    for row in rows:
        dollars = "unknown" if row.cost is None else _span(row.cost, "${:,.2f}")
        shown.add_row(row.task, row.machine, _span(row.hours, "{:,.2f}"), dollars, row.basis)
    return shown


def _span(hours: Hours, form: str) -> str:
    low, high = form.format(hours.low), form.format(hours.high)
    return low if low == high else f"{low} - {high}"
