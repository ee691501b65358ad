"""The seam between ingest, the same for all systems, and a system's `data` module, which knows its format."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from images.trainer.records import Value
from images.trainer.sources import Source

NO_LOCATION = "no image location"


class Rejection(Exception):
    """One input is left out, and this is why.

    Args:
        reason: the kind of fault, in the same words for every input that has it.
        detail: what is particular to this input.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def bare(self) -> Rejection:
        """The same without a traceback, which would keep what was being decoded in memory."""
        return Rejection(self.reason, self.detail)

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
    """

    key: str
    location: str
    label: str
    group: str = ""
    split: str = ""
    fault: Rejection | None = None

    @property
    def place(self) -> str:
        """Where a person finds it: its file, or its place in it."""
        return self.key if self.key.startswith(self.location) else self.location


def file_instance(original: bytes) -> dict[str, Any]:
    """A file as a client sends it to the endpoint."""
    return {"bytes_inputs": {"b64": base64.b64encode(original).decode()}}


class Labels(Protocol):
    """What was learned from the training split."""

    def encode(self, label: str) -> Mapping[str, Value]:
        """The features that stand for a label; raises Rejection when the training split does not teach it."""


class Data(Protocol):
    """A system's format. Pickled once into each worker process.

    Attributes:
        group_name: what a group is: "writer", "patient"; where inputs have no group, they are split by content.
        stratified: every split holds the same share of each label.
    """

    group_name: str
    stratified: bool

    def candidates(self, source: Source) -> Iterator[Candidate]:
        """Lists the inputs, in a fixed order; raises UserError when the source is not in this format."""

    def original(self, source: Source, candidate: Candidate) -> bytes:
        """An input's bytes, as `features` decodes them; raises FileNotFoundError."""

    def instance(self, original: bytes) -> dict[str, Any]:
        """An input as a client sends it to the endpoint: JSON, bytes as `{"b64": …}`."""

    def features(self, candidate: Candidate, original: bytes) -> Mapping[str, Value]:
        """The features that do not depend on other inputs; raises Rejection."""

    def learn(self, training: Sequence[Candidate]) -> Labels:
        """Learns from the training split."""

    def schema(self, labels: Any, kept: Sequence[str], left_out: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """The system's part of schema.json.

        Args:
            labels: what `learn` gave.
            kept: labels of all examples.
            left_out: label and kind of fault of each input left out.
        """
