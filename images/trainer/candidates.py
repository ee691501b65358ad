"""The seam between ingest, the same for all systems, and a system's `data` module, which knows its format."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from images.trainer.records import Value
from images.trainer.sources import Source

NO_LOCATION = "no image location"
NO_FILE = "described, but not in the folder"
UNCOUNTED = (NO_LOCATION, NO_FILE)
"""Reasons that are no fault of the source: whoever has a part of a public data set has its whole tables."""


class Rejection(Exception):
    """One input is left out, and this is why.

    Args:
        reason: the kind of fault, in the same words for every input that has it.
        detail: what is particular to this input.
        counts: whether it counts among those left out; what is only put right, and listed so, does not.
    """

    def __init__(self, reason: str, detail: str = "", counts: bool = True) -> None:
        super().__init__(reason, detail, counts)
        self.reason = reason
        self.detail = detail
        self.counts = counts

    def bare(self) -> Rejection:
        """The same without a traceback, which would keep what was being decoded in memory."""
        return Rejection(self.reason, self.detail, self.counts)

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


class Candidate(NamedTuple):
    """One labelled input as the source lists it, before its data is read.

    Attributes:
        key: its name, unique in the source.
        location: the path inside the source of the file that holds it.
        label: what it shows, as written there but tidied.
        group: whom it comes from (a writer, a patient); inputs of a group share a split. "": not known.
        split: the split that the source puts it in; "": the source leaves that open.
        fault: why it cannot be used, when its listing already shows that.
        notes: features of the example that its file does not hold, such as the view.
    """

    key: str
    location: str
    label: str
    group: str = ""
    split: str = ""
    fault: Rejection | None = None
    notes: Mapping[str, Value] = {}

    @property
    def place(self) -> str:
        """Where a person finds it: its file, or its place in it."""
        return self.key if self.key.startswith(self.location) else self.location


def file_instance(original: bytes) -> dict[str, Any]:
    """A file as a client sends it to the endpoint."""
    return {"bytes_inputs": {"b64": base64.b64encode(original).decode()}}


def instance_file(instance: Any) -> bytes:
    """The file that a client sent, by the input's name or bare; raises Rejection when there is none."""
    try:
        file = instance if "b64" in instance else instance["bytes_inputs"]
        return base64.b64decode(file["b64"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise Rejection("no file in the request", str(error)) from None


class Labels(Protocol):
    """What was learned from the training split."""

    def encode(self, label: str) -> Mapping[str, Value]:
        """The features that stand for a label; raises Rejection when the training split does not teach it."""


class Data(Protocol):
    """A system's format. Pickled once into each worker process.

    What can be counted of an input and of its label is kept of the training split, so that logged requests and their
    answers can be compared with it: an answer has the form of a label.

    Where the network needs numbers of the training examples themselves, such as the mean of their pixels, a format has
    two more methods: `summary(features)`, some numbers of an input, and `statistics(summaries)` of the training split,
    which schema.json then holds.

    Attributes:
        group_name: what a group is: "writer", "patient"; where inputs have no group, they are split by content.
        stratified: every split holds the same share of each label.
        identity: the feature by which duplicates are known; where there is no such attribute, all features together.
        columns: names of what is counted of an input.
        enough: inputs that are counted, about; infinite: all are.
        answer: which of the endpoint's outputs is the answer.
    """

    group_name: str
    stratified: bool
    columns: tuple[str, ...]
    enough: float
    answer: str

    def candidates(self, source: Source) -> Iterator[Candidate]:
        """Lists the inputs, in a fixed order; raises UserError when the source is not in this format."""

    def original(self, source: Source, candidate: Candidate) -> bytes:
        """An input's bytes, as `decoded` reads them; raises FileNotFoundError."""

    def instance(self, original: bytes) -> dict[str, Any]:
        """An input as a client sends it to the endpoint: JSON, bytes as `{"b64": …}`."""

    def received(self, instance: Any) -> bytes:
        """An input's bytes, from whatever a client sent; raises Rejection."""

    def decoded(self, original: bytes) -> Any:
        """What an input's bytes hold; raises Rejection."""

    def features(self, candidate: Candidate, decoded: Any) -> Mapping[str, Value]:
        """The features that do not depend on other inputs; raises Rejection."""

    def row(self, decoded: Any) -> tuple[float, ...]:
        """What is counted of an input, in the order of `columns`; NaN where it is missing."""

    def number(self, label: str) -> float:
        """What is counted of a label: the class as a number, or how much it names."""

    def learn(self, training: Sequence[Candidate]) -> Labels:
        """Learns from the training split."""

    def schema(self, labels: Any, kept: Sequence[str], left_out: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """The system's part of schema.json.

        Args:
            labels: what `learn` gave.
            kept: labels of all examples.
            left_out: label and kind of fault of each input left out.
        """
