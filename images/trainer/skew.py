"""The skew stage: how far new data has drifted from what a network was trained on.

    python -m images.trainer.skew --system=iris --examples=FOLDER --data=new.csv --metrics=FILE --report=FILE

Of each feature the Jensen-Shannon distance (base 2, from 0 to 1) between the training rows and the new ones, over the
bins in schema.json, each with as many training rows; what is missing is a bin of its own. Few rows differ from the
training rows by chance alone: a feature has drifted when its distance is above the threshold and above what one in a
hundred samples of as many training rows would show.

Source: J. Lin, "Divergence Measures Based on the Shannon Entropy" (1991).
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from images import executor
from images.executor import ExecutorOutput, UserError
from images.trainer import roles, tables
from images.trainer.sources import Source

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from images.trainer.report import Number, Section

THRESHOLD = 0.2  # About where the population stability index, another measure of the same, has its customary 0.2.
RARELY = 0.99
DRAWS = 2000

_TABLE, _LOG = ".csv", ".jsonl"


@dataclasses.dataclass(frozen=True)
class Drift:
    """How one feature differs from the training rows.

    Attributes:
        name: the feature's.
        distance: Jensen-Shannon, from 0 to 1.
        by_chance: the distance that as many training rows exceed once in a hundred times.
        missing: the share of rows where it is missing or is no number.
        outside: the share of rows where it is below or above all training rows.
        mean: of the new rows that have it; NaN where none has.
        shares: of the new rows in each bin, the missing ones last.
        drifted: whether the distance is above the threshold and not by chance.
    """

    name: str
    distance: float
    by_chance: float
    missing: float
    outside: float
    mean: float
    shares: Sequence[float]
    drifted: bool


def skew(
    system: str, examples: str, data: str, metrics: str, report: str, threshold: float = THRESHOLD
) -> dict[str, float | bool]:
    """Compares new data with the training rows.

    Args:
        system: a system of tables, such as "iris".
        examples: the folder that ingest wrote; only its `schema.json` is read.
        data: a file or a folder of new data: CSV as for ingest, with or without a class in each row; or logged
            requests as JSON, one a line: an instance in any form that the endpoint takes, `{"instances": […]}`, or
            `{"instance": …}` with anything beside it, as batch prediction writes.
        metrics: the JSON file to write, name -> number.
        report: the HTML file to write.
        threshold: the distance from 0 to 1 up to which a feature passes.

    Returns:
        What the metrics file holds: `passed`, `new_rows`, `largest_distance`, and of each feature `<name>_distance`,
        `<name>_missing` and `<name>_outside`.

    Raises:
        UserError: an input is missing or malformed.
    """
    if not 0 <= threshold <= 1:
        raise UserError(f"--threshold={threshold}: must be from 0 to 1")
    schema = _schema(system, examples)
    rows = read(data, roles.load(system, "data").COLUMNS)
    drifts = [
        compared(name, column, rows[name].to_numpy(), schema["counts"]["train"], threshold)
        for name, column in schema["columns"].items()
    ]
    found: dict[str, float | bool] = {
        "passed": not any(drift.drifted for drift in drifts),
        "new_rows": len(rows),
        "largest_distance": max(drift.distance for drift in drifts),
    }
    for drift in drifts:
        found |= {f"{drift.name}_{name}": getattr(drift, name) for name in ("distance", "missing", "outside")}
    with executor.whole(metrics) as aside:
        aside.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    with executor.whole(report) as aside:
        aside.write_text(_page(schema, drifts, len(rows), threshold), encoding="utf-8")
    return found


def compared(name: str, column: Mapping[str, Any], values: np.ndarray, trained: int, threshold: float) -> Drift:
    """Compares one feature.

    Args:
        name: the feature's.
        column: its statistics in `schema.json`.
        values: float [rows]; NaN where it is missing.
        trained: how many rows the statistics are of.
        threshold: the distance up to which it passes.
    """
    import numpy as np
    from scipy.spatial.distance import jensenshannon

    there = values[~np.isnan(values)]
    missing = 1 - len(there) / len(values)
    bins = np.bincount(np.searchsorted(column["edges"], there, side="right"), minlength=len(column["shares"]))
    shares = [*(bins / len(values)), missing]
    expected = np.array([*column["shares"], 0.0])
    chance = np.random.default_rng(0)
    samples = [chance.multinomial(size, expected / expected.sum(), DRAWS) / size for size in (trained, len(values))]
    by_chance = float(np.quantile(jensenshannon(*samples, base=2, axis=1), RARELY))
    distance = float(jensenshannon(expected, shares, base=2))
    # A float32 that came of a decimal number need not be within its float64.
    outside = (there < column["minimum"] - 1e-4) | (there > column["maximum"] + 1e-4)
    return Drift(
        name=name,
        distance=distance,
        by_chance=by_chance,
        missing=missing,
        outside=float(outside.sum() / len(values)),
        mean=float(there.mean()) if len(there) else float("nan"),
        shares=[float(share) for share in shares],
        drifted=distance > max(threshold, by_chance),
    )


def read(data: str, columns: Sequence[tables.Column]) -> pd.DataFrame:
    """Reads new data.

    Args:
        data: a file or a folder, as for `skew`.
        columns: the features.

    Returns:
        Float columns by name; NaN where a number is missing or is none.

    Raises:
        UserError: there is nothing to read, or a file is not what its name says.
    """
    import pandas as pd

    parts = []
    for name, content in _files(Path(data)):
        if name.lower().endswith(_TABLE):
            parts.append(tables.numbers(content, name, columns))
        else:
            rows = [_row(instance, columns) for instance in _logged(content, name)]
            parts.append(pd.DataFrame(rows, columns=[column.name for column in columns], dtype=float))
    rows = pd.concat(parts, ignore_index=True)
    if rows.empty:
        raise UserError(f"--data={data}: no row in it")
    return rows


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_file():
        with path.open("rb") as file:
            yield str(path), file.read(tables.MAX_BYTES + 1)
        return
    source = Source(path)
    names = [name for name in source.names if name.lower().endswith((_TABLE, _LOG))]
    if not names:
        raise UserError(f"--data={path}: no .csv or .jsonl file there")
    for name in names:
        yield f"{path}/{name}", source.read(name, 0, tables.MAX_BYTES + 1)


def _logged(content: bytes, name: str) -> Iterator[Any]:
    """The instances of logged requests."""
    if len(content) > tables.MAX_BYTES:
        raise UserError(f"{name}: more than {tables.MAX_BYTES >> 20} MB; give fewer requests")
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            raise UserError(f"{name}: line {number}: not JSON; give one request a line") from None
        if isinstance(said, dict) and isinstance(said.get("instances"), list):
            yield from said["instances"]
        else:
            yield said["instance"] if isinstance(said, dict) and "instance" in said else said


def _row(instance: Any, columns: Sequence[tables.Column]) -> list[float]:
    """The numbers of one instance, in whatever form it was sent; NaN where there is none."""
    if isinstance(instance, dict) and "csv_row" in instance:
        instance = instance["csv_row"]
    elif isinstance(instance, dict) and "numbers" in instance:
        instance = instance["numbers"]
    elif isinstance(instance, dict):
        instance = [instance.get(column.name) for column in columns]
    if isinstance(instance, str):
        instance = next(csv.reader([instance]), [])
    given = instance if isinstance(instance, list) else []
    return [_number(value) for value in [*given, *[None] * len(columns)][: len(columns)]]


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _schema(system: str, examples: str) -> dict[str, Any]:
    path = Path(examples) / "schema.json"
    try:
        schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"--examples={examples}: no schema.json there; give the folder that ingest wrote") from None
    if schema.get("system") != system or "columns" not in schema:
        raise UserError(f"--examples={examples}: no table of {system}")
    return schema


def _page(schema: Mapping[str, Any], drifts: Sequence[Drift], rows: int, threshold: float) -> str:
    from images.trainer.report import page

    subtitle = f"{rows:,} new rows against {schema['counts']['train']:,} that the network was trained on"
    sections = [_overview(schema, drifts), *(_bins(schema["columns"][drift.name], drift) for drift in drifts)]
    return page("Has the data drifted?", subtitle, _numbers(drifts, threshold), sections)


def _numbers(drifts: Sequence[Drift], threshold: float) -> list[Number]:
    from images.trainer.report import Number

    drifted = [drift.name for drift in drifts if drift.drifted]
    furthest = max(drifts, key=lambda drift: drift.distance)
    return [
        Number("Verdict", "drifted" if drifted else "passed", ", ".join(drifted) or f"threshold {threshold:g}"),
        Number("Largest distance", f"{furthest.distance:.3f}", furthest.name),
    ]


def _overview(schema: Mapping[str, Any], drifts: Sequence[Drift]) -> Section:
    from images.trainer.report import Section, percent

    heads = ("feature", "distance", "by chance", "missing", "outside", "mean", "trained on", "verdict")
    rows = [
        (
            drift.name,
            f"{drift.distance:.3f}",
            f"{drift.by_chance:.3f}",
            percent(drift.missing),
            percent(drift.outside),
            f"{drift.mean:.3g}",
            f"{schema['columns'][drift.name]['mean']:.3g}",
            "drifted" if drift.drifted else "passed",
        )
        for drift in drifts
    ]
    note = "Jensen-Shannon distance, and what as many training rows exceed once in a hundred times."
    return Section("Features", note, None, heads, rows)


def _bins(column: Mapping[str, Any], drift: Drift) -> Section:
    from images.trainer.report import Section, percent

    edges = [f"{edge:.4g}" for edge in column["edges"]]
    names = [f"below {edges[0]}", *(f"{low} to {high}" for low, high in itertools.pairwise(edges))]
    names += [f"from {edges[-1]}", "missing"]
    expected = [*column["shares"], 0.0]
    rows = [(name, percent(old), percent(new)) for name, old, new in zip(names, expected, drift.shares, strict=True)]
    return Section(drift.name, "", None, ("", "training", "new"), rows)


def main(argv: Sequence[str]) -> None:
    """The command line; `--help` lists the flags."""
    parser = argparse.ArgumentParser(prog="python -m images.trainer.skew", description=__doc__, allow_abbrev=False)
    parser.add_argument("--system", required=True)
    parser.add_argument("--examples", required=True, help="the folder that ingest wrote")
    parser.add_argument("--data", required=True, help="new data: CSV, or logged requests as JSON lines")
    parser.add_argument("--threshold", type=float, default=THRESHOLD, help=f"0 to 1, default {THRESHOLD}")
    parser.add_argument("--metrics", required=True, help="the JSON file to write")
    parser.add_argument("--report", required=True, help="the HTML file to write")
    parser.add_argument("--executor_input", help="KFP's ExecutorInput; leave it out by hand")
    arguments = vars(parser.parse_args(argv))
    output = ExecutorOutput(arguments.pop("executor_input"))
    found = skew(**arguments)
    output.log("metrics", **found, digest=executor.digest(arguments["metrics"]))
    output.log("report", digest=executor.digest(arguments["report"]))
    output.write()
    print(
        "  ".join(
            f"{name} {value}" if isinstance(value, bool) else f"{name} {value:.4g}" for name, value in found.items()
        )
    )


if __name__ == "__main__":
    executor.run(main)
