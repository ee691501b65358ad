"""Points, as ingest reads them: `points.csv` with `x,y,quadrant` a line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from images.executor import UserError
from images.trainer.candidates import Candidate, Rejection
from images.trainer.records import Value
from images.trainer.sources import Source

FILE = "points.csv"
CLASSES = ("north-east", "north-west", "south-west", "south-east")


class Quadrants:
    """The labels are known beforehand."""

    def encode(self, label: str) -> dict[str, Value]:
        """The class of a quadrant."""
        return {"label": [CLASSES.index(label)]}


class Data:
    """Reads points from a source."""

    group_name = "group"
    stratified = True
    columns = ("x", "y")
    enough = math.inf
    answer = "class"

    def candidates(self, source: Source) -> Iterator[Candidate]:
        """Lists the lines; raises UserError when there is no file of them."""
        if FILE not in source:
            raise UserError(f"{source.root}: no {FILE} in it")
        for number, line in enumerate(source.text(FILE).splitlines(), start=1):
            place, _, label = line.rpartition(",")
            fault = None if label in CLASSES else Rejection("unknown quadrant", repr(label))
            yield Candidate(f"{number}:{place}", FILE, label, fault=fault)

    def original(self, source: Source, candidate: Candidate) -> bytes:
        """The point, as it is written."""
        return candidate.key.partition(":")[2].encode()

    def instance(self, original: bytes) -> dict[str, Any]:
        """The point by its coordinates' names."""
        return dict(zip("xy", map(float, original.split(b",")), strict=True))

    def received(self, instance: Any) -> bytes:
        """The point, from its coordinates by name; raises Rejection."""
        try:
            return f"{instance['x']},{instance['y']}".encode()
        except (KeyError, TypeError) as error:
            raise Rejection("no point in the request", str(error)) from None

    def decoded(self, original: bytes) -> tuple[float, ...]:
        """The point's coordinates; raises Rejection when they are not two numbers."""
        try:
            x, y = map(float, original.split(b","))
        except ValueError as error:
            raise Rejection("not two numbers", str(error)) from None
        return x, y

    def features(self, candidate: Candidate, decoded: tuple[float, ...]) -> dict[str, Value]:
        """The point's coordinates."""
        return {"point": decoded}

    def row(self, decoded: tuple[float, ...]) -> tuple[float, ...]:
        """The point's coordinates."""
        return decoded

    def number(self, label: str) -> float:
        """The number of the quadrant."""
        return float(CLASSES.index(label))

    def learn(self, training: Sequence[Candidate]) -> Quadrants:
        """Nothing is to be learned."""
        return Quadrants()

    def schema(self, labels: Quadrants, kept: Sequence[str], left_out: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """The classes, and the features' shapes."""
        return {
            "classes": list(CLASSES),
            "features": {
                "point": {"dtype": "float32", "shape": [2]},
                "label": {"dtype": "int64", "shape": []},
                "key": {"dtype": "string", "shape": []},
            },
        }


def data(settings: Mapping[str, int]) -> Data:
    """This system's format; it has no settings."""
    return Data()
