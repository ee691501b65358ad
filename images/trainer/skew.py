"""The skew stage: how far new data has drifted from what a network was trained on.

    python -m images.trainer.skew --system=iris --examples=FOLDER --data=new.csv --metrics=FILE --report=FILE

A feature is a column of a table, or what is counted of a picture; where answers were logged too, what is counted of
them is one more. Of each the Jensen-Shannon distance (base 2, from 0 to 1) between the training examples and the new
ones, over the bins in schema.json; what is missing, what is below all training examples and what is above them are bins
of their own. Few examples differ from those of the training by chance alone: a feature has drifted when its distance is
above the threshold and above what one in a hundred samples of as many training examples would show.

Source: J. Lin, "Divergence Measures Based on the Shannon Entropy" (1991).
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from images import executor
from images.executor import ExecutorOutput, UserError
from images.trainer import roles, tables
from images.trainer.candidates import Data, Rejection
from images.trainer.sources import Source

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from images.trainer.report import Number, Section

THRESHOLD = 0.2  # About where the population stability index, another measure of the same, has its customary 0.2.
RARELY = 0.99
DRAWS = 2000

ANSWER = "answer"
LARGEST = "largest_distance"

_TABLE, _LOG = ".csv", ".jsonl"
_NAN = float("nan")
# A float32 that came of a decimal number need not be within its float64.
_TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Drift:
    """How one feature differs from the training rows.

    Attributes:
        name: the feature's.
        distance: Jensen-Shannon, from 0 to 1.
        by_chance: the distance that as many examples of the same distribution exceed once in a hundred times.
        missing: the share of examples where it is missing or is no number.
        outside: the share of examples where it is below or above all training examples.
        mean: of the new examples that have it; NaN where none has.
        shares: of the new examples in each bin: those below all others first, the missing ones last.
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
    """Compares new data with the training examples.

    Args:
        system: such as "iris".
        examples: the folder that ingest wrote; only its `schema.json` is read.
        data: a file or a folder of new data: logged requests as JSON, one a line: an instance in any form that the
            endpoint takes, `{"instances": […]}`, or `{"instance": …, "prediction": …}`, as batch prediction writes; of
            a table also CSV as for ingest, with or without a class in each row.
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
    rows = read(data, system)
    trained = {**schema["columns"], ANSWER: schema[ANSWER]}
    drifts = [compared(name, trained[name], rows[name].to_numpy(), threshold) for name in rows]
    found: dict[str, float | bool] = {
        "passed": not any(drift.drifted for drift in drifts),
        "new_rows": len(rows),
        LARGEST: max(drift.distance for drift in drifts),
    }
    for drift in drifts:
        found |= {f"{drift.name}_{name}": getattr(drift, name) for name in ("distance", "missing", "outside")}
    with executor.whole(metrics) as aside:
        aside.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    with executor.whole(report) as aside:
        aside.write_text(_page(trained, schema["counts"]["train"], drifts, len(rows), threshold), encoding="utf-8")
    return found


def compared(name: str, column: Mapping[str, Any], values: np.ndarray, threshold: float) -> Drift:
    """Compares one feature.

    Args:
        name: the feature's.
        column: its statistics in `schema.json`.
        values: float [rows]; NaN where it is missing.
        threshold: the distance up to which it passes.
    """
    import numpy as np
    from scipy.spatial.distance import jensenshannon

    there = values[~np.isnan(values)]
    missing = 1 - len(there) / len(values)
    bins = np.bincount(np.searchsorted(_edges(column), there, side="right"), minlength=len(column["shares"]) + 2)
    shares = [*(bins / len(values)), missing]
    expected = np.array([0.0, *column["shares"], 0.0, 0.0])
    by_chance = _by_chance(expected, column["examples"], len(values))
    distance = float(jensenshannon(expected, shares, base=2))
    return Drift(
        name=name,
        distance=distance,
        by_chance=by_chance,
        missing=missing,
        outside=float((bins[0] + bins[-1]) / len(values)),
        mean=float(there.mean()) if len(there) else float("nan"),
        shares=[float(share) for share in shares],
        drifted=distance > max(threshold, by_chance),
    )


def _by_chance(expected: np.ndarray, trained: int, new: int) -> float:
    """The distance from as many training examples that as many new ones of the same distribution seldom exceed.

    That the next one is above, or below, all that came before has a chance of 1 in their number and itself.
    """
    import numpy as np
    from scipy.spatial.distance import jensenshannon

    beyond = 1 / (trained + 1)
    same = (1 - 2 * beyond) * expected / expected.sum()
    same[0] = same[-2] = beyond
    chance = np.random.default_rng(0)
    before = chance.multinomial(trained, expected / expected.sum(), DRAWS) / trained
    after = chance.multinomial(new, same, DRAWS) / new
    return float(np.quantile(jensenshannon(before, after, base=2, axis=1), RARELY))


def read(data: str, system: str) -> pd.DataFrame:
    """Reads new data.

    Args:
        data: a file or a folder, as for `skew`.
        system: such as "iris".

    Returns:
        Float columns by name, `answer` among them where answers were logged; NaN where a number is missing or is none.

    Raises:
        UserError: there is nothing to read, or a file is not what its name says.
    """
    import pandas as pd

    role = roles.load(system, "data")
    form, columns = role.data({}), getattr(role, "COLUMNS", ())
    parts = []
    for name, content in _files(Path(data), (_TABLE, _LOG) if columns else (_LOG,)):
        if name.lower().endswith(_TABLE):
            parts.append(tables.numbers(content, name, columns))
        else:
            parts.append(_counted(form, _logged(content, name)))
    rows = pd.concat(parts, ignore_index=True)
    if rows.empty:
        raise UserError(f"--data={data}: no row in it")
    return rows


def _counted(form: Data, logged: Iterable[tuple[Any, Any]]) -> pd.DataFrame:
    """What is counted of logged instances, and of the answers if there are any."""
    import pandas as pd

    rows, answers = [], []
    for instance, prediction in logged:
        rows.append(_row(form, instance))
        answers.append(None if prediction is None else _answer(form, prediction))
    found = pd.DataFrame(rows, columns=list(form.columns), dtype=float)
    return found if set(answers) <= {None} else found.assign(**{ANSWER: pd.Series(answers, dtype=float)})


def _row(form: Data, instance: Any) -> tuple[float, ...]:
    try:
        return form.row(form.decoded(form.received(instance)))
    except Rejection:
        return (_NAN,) * len(form.columns)


def _answer(form: Data, prediction: Any) -> float:
    try:
        return form.number(prediction[form.answer])
    except (KeyError, TypeError, ValueError, AttributeError):
        return _NAN


def _files(path: Path, endings: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    if path.is_file():
        with path.open("rb") as file:
            yield str(path), file.read(tables.MAX_BYTES + 1)
        return
    source = Source(path)
    names = [name for name in source.names if name.lower().endswith(endings)]
    if not names:
        raise UserError(f"--data={path}: no {' or '.join(endings)} file there")
    for name in names:
        yield f"{path}/{name}", source.read(name, 0, tables.MAX_BYTES + 1)


def _logged(content: bytes, name: str) -> Iterator[tuple[Any, Any]]:
    """The instances of logged requests, each with its answer; None where that is not known."""
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
            yield from ((instance, None) for instance in said["instances"])
        elif isinstance(said, dict) and "instance" in said:
            yield said["instance"], said.get("prediction")
        else:
            yield said, None


def _schema(system: str, examples: str) -> dict[str, Any]:
    path = Path(examples) / "schema.json"
    try:
        schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"--examples={examples}: no schema.json there; give the folder that ingest wrote") from None
    if schema.get("system") != system or not (schema.get("columns") and schema.get(ANSWER)):
        raise UserError(f"--examples={examples}: no statistics of {system} there; ingest writes them, run it again")
    return schema


def _edges(column: Mapping[str, Any]) -> list[float]:
    """Between all bins but the missing: those of the training examples lie between the second and the last but one."""
    return [column["minimum"] - _TOLERANCE, *column["edges"], column["maximum"] + _TOLERANCE]


def _page(trained: Mapping[str, Any], count: int, drifts: Sequence[Drift], rows: int, threshold: float) -> str:
    from images.trainer.report import page

    subtitle = f"{rows:,} new examples against {count:,} that the network was trained on"
    sections = [_overview(trained, drifts), *(_bins(trained[drift.name], drift) for drift in drifts)]
    return page("Has the data drifted?", subtitle, _numbers(drifts, threshold), sections)


def _numbers(drifts: Sequence[Drift], threshold: float) -> list[Number]:
    from images.trainer.report import Number

    drifted = [drift.name for drift in drifts if drift.drifted]
    furthest = max(drifts, key=lambda drift: drift.distance)
    return [
        Number("Verdict", "drifted" if drifted else "passed", ", ".join(drifted) or f"threshold {threshold:g}"),
        Number("Largest distance", f"{furthest.distance:.3f}", furthest.name),
    ]


def _overview(trained: Mapping[str, Any], drifts: Sequence[Drift]) -> Section:
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
            f"{trained[drift.name]['mean']:.3g}",
            "drifted" if drift.drifted else "passed",
        )
        for drift in drifts
    ]
    note = "Jensen-Shannon distance, and what as many training examples exceed once in a hundred times."
    return Section("Features", note, None, heads, rows)


def _bins(column: Mapping[str, Any], drift: Drift) -> Section:
    from images.trainer.report import Section, percent

    edges = [f"{edge:.4g}" for edge in (column["minimum"], *column["edges"], column["maximum"])]
    names = ["below all", *(f"{low} to {high}" for low, high in itertools.pairwise(edges)), "above all", "missing"]
    expected = [0.0, *column["shares"], 0.0, 0.0]
    rows = [(name, percent(old), percent(new)) for name, old, new in zip(names, expected, drift.shares, strict=True)]
    return Section(drift.name, "", None, ("", "training", "new"), rows)


def _told(found: Mapping[str, float | bool]) -> str:
    """The verdict in one line."""
    distances = {name: value for name, value in found.items() if name.endswith("_distance") and name != LARGEST}
    furthest = max(distances, key=lambda name: distances[name])
    of_all = f"of {found['new_rows']:,} new examples, {furthest.removesuffix('_distance')} is furthest from training"
    return f"{'passed' if found['passed'] else 'drifted'}: {of_all}, by {found[LARGEST]:.3f}"


def main(argv: Sequence[str]) -> None:
    """The command line; `--help` lists the flags."""
    parser = argparse.ArgumentParser(prog="python -m images.trainer.skew", description=__doc__, allow_abbrev=False)
    parser.add_argument("--system", required=True)
    parser.add_argument("--examples", required=True, help="the folder that ingest wrote")
    parser.add_argument("--data", required=True, help="logged requests as JSON lines, or CSV of a table")
    parser.add_argument("--threshold", type=float, default=THRESHOLD, help=f"0 to 1, default {THRESHOLD}")
    parser.add_argument("--metrics", required=True, help="the JSON file to write")
    parser.add_argument("--report", required=True, help="the HTML file to write")
    parser.add_argument("--executor_input", help="KFP's ExecutorInput; leave it out by hand")
    arguments = vars(parser.parse_args(argv))
    output = ExecutorOutput(arguments.pop("executor_input"))
    found = skew(**arguments)
    output.log("metrics", **found, told=_told(found), digest=executor.digest(arguments["metrics"]))
    output.log("report", digest=executor.digest(arguments["report"]))
    output.write()
    print(
        "  ".join(
            f"{name} {value}" if isinstance(value, bool) else f"{name} {value:.4g}" for name, value in found.items()
        )
    )


if __name__ == "__main__":
    executor.run(main)
