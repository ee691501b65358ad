"""Irises, as ingest reads them: CSV files of four lengths in centimetres and a species.

The classic pair `iris_training.csv` and `iris_test.csv` keeps its split. Its header is misspelt (`PentalLength`):
columns whose names are not known are matched by position, and ingest says so.

Source: R. A. Fisher, "The use of multiple measurements in taxonomic problems" (1936).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from images.executor import UserError
from images.trainer import splits, tables
from images.trainer.candidates import Candidate, Rejection
from images.trainer.records import Value
from images.trainer.sources import Source

CLASSES = ("setosa", "versicolor", "virginica")
COLUMNS = tuple(
    tables.Column(name, 0.0, 30.0) for name in ("sepal_length", "sepal_width", "petal_length", "petal_width")
)
NAMES = tuple(column.name for column in COLUMNS)
LABEL = "species"

SPELLINGS = {
    spelling: name
    for number, name in enumerate(CLASSES)
    for spelling in (name, f"iris-{name}", f"iris {name}", str(number), f"{number}.0")
}


class Species:
    """The classes are known beforehand."""

    def encode(self, label: str) -> dict[str, Value]:
        """The class of a species."""
        return {"label": [CLASSES.index(label)]}


class Data:
    """Reads irises from a source; keeps the table in memory."""

    group_name = "group"
    stratified = True
    columns = NAMES
    enough = math.inf
    answer = "class"

    def __init__(self) -> None:
        self._rows: dict[str, tuple[float, ...]] = {}

    def candidates(self, source: Source) -> Iterator[Candidate]:
        """Lists the rows of all CSV files.

        Raises:
            UserError: there is none, or one is no table of irises.
        """
        names = [name for name in source.names if name.lower().endswith(".csv")]
        if not names:
            raise UserError(f"{source.root}: no .csv file among its {len(source.names)} files")
        first: dict[tuple[Any, ...], str] = {}
        for name in names:
            data = source.read(name, 0, tables.MAX_BYTES + 1)
            rows, note = tables.rows(data, str(source.root / name), COLUMNS, LABEL, SPELLINGS)
            if note:
                print(note, flush=True)
            for row in rows:
                key = f"{name}:{row.line}"
                self._rows[key] = row.values
                split, fault = _split(name), row.fault
                if not fault and (earlier := first.setdefault((split, row.label, row.values), key)) != key:
                    fault = Rejection("duplicate row", f"the same as {earlier}")
                yield Candidate(key, name, row.label, split=split, fault=fault)

    def original(self, source: Source, candidate: Candidate) -> bytes:
        """The row's numbers, as a line of CSV."""
        return ",".join(repr(value) for value in self._rows[candidate.key]).encode()

    def instance(self, original: bytes) -> dict[str, Any]:
        """The row's numbers by name."""
        return dict(zip(NAMES, self.decoded(original), strict=True))

    def received(self, instance: Any) -> bytes:
        """The row's numbers as a line of CSV, from any form that the endpoint takes; `nan` for what is none."""
        return ",".join(map(repr, tables.numbers_of(instance, NAMES))).encode()

    def decoded(self, original: bytes) -> tuple[float, ...]:
        """The row's numbers, in the order of the columns."""
        return tuple(map(float, original.split(b",")))

    def row(self, decoded: tuple[float, ...]) -> tuple[float, ...]:
        """The same: they are what is counted."""
        return decoded

    def number(self, label: str) -> float:
        """The number of the class."""
        return float(CLASSES.index(label))

    def features(self, candidate: Candidate, decoded: tuple[float, ...]) -> dict[str, Value]:
        """The row's numbers, in the order of the columns."""
        return {"numbers": decoded}

    def learn(self, training: Sequence[Candidate]) -> Species:
        """Nothing is to be learned: the classes are known."""
        return Species()

    def schema(self, labels: Species, kept: Sequence[str], left_out: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """The classes."""
        return {
            "classes": list(CLASSES),
            "features": {
                "numbers": {"dtype": "float32", "shape": [len(COLUMNS)]},
                "label": {"dtype": "int64", "shape": []},
                "key": {"dtype": "string", "shape": []},
            },
        }


def _split(name: str) -> str:
    stem = PurePosixPath(name).stem.lower()
    return splits.TRAIN if "train" in stem else splits.TEST if "test" in stem else ""


def data(settings: Mapping[str, int]) -> Data:
    """This system's format; it has no settings.

    Raises:
        UserError: one is given.
    """
    for name, value in settings.items():
        raise UserError(f"--{name}={value}: irises have no such setting; leave it out")
    return Data()
