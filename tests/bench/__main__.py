"""`make bench`: runs every benchmark and prints its ratios, each measured within this one run."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import time

from rich.console import Console
from rich.table import Table

import tests.bench


def main(chosen: list[str]) -> int:
    """Runs the benchmarks of these modules of `tests.bench`, or all, and returns how many missed their bound."""
    console = Console()
    names = [module.name for module in pkgutil.iter_modules(tests.bench.__path__)]
    benchmarks = [name for name in names if name not in ("__main__", "measurement")]
    unknown = sorted(set(chosen) - set(benchmarks))
    if unknown:
        console.print(f"error: no benchmark named {', '.join(unknown)}; there are {', '.join(benchmarks)}")
        return 2
    table = Table("benchmark", "ratio", "bound", "", "detail", title="Ratios measured in this run")
    missed = 0
    for name in chosen or benchmarks:
        console.print(f"[bold]{name}[/]…")
        started = time.monotonic()
        for measurement in importlib.import_module(f"tests.bench.{name}").measurements():
            console.print(f"  {measurement.name}: {measurement.ratio:.2f} ({measurement.bound})")
            verdict = "[green]met[/]" if measurement.passed else "[red]missed[/]"
            table.add_row(measurement.name, f"{measurement.ratio:.2f}", measurement.bound, verdict, measurement.detail)
            missed += not measurement.passed
        console.print(f"  took {time.monotonic() - started:.0f} s")
    console.print(table)
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
