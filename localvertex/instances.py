"""The instances of a batch prediction job: read from files, and converted to what the model is sent.

Sources: https://cloud.google.com/vertex-ai/docs/predictions/get-batch-predictions#input_data_requirements,
https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.batchPredictionJobs#InstanceConfig
"""

from __future__ import annotations

import base64
import csv
import gzip
import json
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import google_crc32c

OBJECT, ARRAY = "object", "array"
_MASK = 0xA282EAD8


@dataclass(frozen=True)
class Rejected:
    """Part of a file that is no instance; `text` is what stands there."""

    text: str
    problem: str


class UnreadableError(Exception):
    """A file that cannot be read on; the message says why."""


class InstanceError(ValueError):
    """An instance that cannot be converted; the message says why."""


@dataclass(frozen=True)
class Conversion:
    """How an instance of the input becomes one that the model accepts.

    Args:
        type: `object`, `array`, or empty for what the input has.
        key: name of the field that stands for the instance in the output, and is not sent.
        included: names of the only fields that are sent, in this order; empty for all.
        excluded: names of fields that are not sent.
        table: objects are rows of a table: their own order is that of an array.
    """

    type: str = ""
    key: str = ""
    included: Sequence[str] = ()
    excluded: Sequence[str] = ()
    table: bool = False

    def sent(self, instance: Any) -> Any:
        """What the model is sent.

        Raises:
            InstanceError: the instance is not an object, or lacks a field.
        """
        if not isinstance(instance, dict):
            if self.key or self.included or self.excluded or self.type == OBJECT:
                raise InstanceError("the instance is not a JSON object")
            if self.type == ARRAY and not isinstance(instance, list):
                raise InstanceError("the instance is not a JSON array")
            return instance
        left_out = {self.key, *self.excluded}
        names = self.included or instance
        sent = {name: _field(instance, name) for name in names if name not in left_out}
        if self.type != ARRAY and not self.table:
            return sent
        if not (self.included or self.table):
            raise InstanceError("an object becomes an array only where included_fields gives the order")
        return list(sent.values())

    def shown(self, instance: Any) -> dict[str, Any]:
        """What stands beside the prediction: the key, or the whole instance."""
        if self.key:
            return {"key": _field(instance, self.key)}
        return {"instance": list(instance.values()) if self.table else instance}


def _field(instance: Any, name: str) -> Any:
    if not isinstance(instance, dict) or name not in instance:
        raise InstanceError(f"the instance has no field {name!r}")
    return instance[name]


Fetch = Callable[[str], bytes]


def read(file: Path, format: str, fetch: Fetch) -> Iterator[Any]:
    """The instances in a file, with `Rejected` in the place of what is none.

    Args:
        format: one of `FORMATS`.
        fetch: the content of a `gs://` URI that a file list names.

    Raises:
        UnreadableError: the file is missing or breaks off; what stands before was yielded.
    """
    try:
        with gzip.open(file) if format == "tf-record-gzip" else file.open("rb") as stream:
            yield from FORMATS[format](cast(BinaryIO, stream), fetch)
    except (OSError, EOFError) as error:
        raise UnreadableError(getattr(error, "strerror", None) or str(error)) from error


def _lines(stream: BinaryIO) -> Iterator[str | Rejected]:
    for line in stream:
        try:
            text = line.decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            yield Rejected(line.decode(errors="replace").rstrip("\r\n"), f"not UTF-8: {error}")
            continue
        if text.strip():
            yield text


def _json_lines(stream: BinaryIO, _: Fetch) -> Iterator[Any]:
    for line in _lines(stream):
        try:
            yield line if isinstance(line, Rejected) else json.loads(line)
        except ValueError as error:
            yield Rejected(str(line), f"not valid JSON: {error}")


def _csv(stream: BinaryIO, _: Fetch) -> Iterator[Any]:
    """Rows as objects of text, where it is quoted, and numbers; no cell holds a line break."""
    lines = _lines(stream)
    header = next(lines, None)
    if header is None:
        return
    names = next(csv.reader([str(header)], skipinitialspace=True))
    for line in lines:
        if isinstance(line, Rejected):
            yield line
            continue
        try:
            cells = next(csv.reader([line], quoting=csv.QUOTE_NONNUMERIC, skipinitialspace=True, strict=True))
        except (ValueError, csv.Error) as error:
            yield Rejected(line, f"not valid CSV: {error}; text must stand in double quotes")
            continue
        if len(cells) == len(names):
            yield dict(zip(names, cells, strict=True))
        else:
            yield Rejected(line, f"{len(cells)} cells, while the header has {len(names)}")


def _records(stream: BinaryIO, _: Fetch) -> Iterator[Any]:
    """The framing of a TFRecord: length, checksum, content, checksum (https://www.tensorflow.org/tutorials/load_data)."""
    while head := stream.read(12):
        length = _checked(head, 8)
        content = stream.read(int.from_bytes(length, "little") + 4)
        yield {"b64": base64.b64encode(_checked(content, int.from_bytes(length, "little"))).decode()}


def _checked(framed: bytes, length: int) -> bytes:
    content, checksum = framed[:length], framed[length:]
    if len(checksum) != 4:
        raise UnreadableError("the file breaks off within a record")
    crc = google_crc32c.value(content)
    if struct.unpack("<I", checksum)[0] != ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF:
        raise UnreadableError("a record's checksum is wrong: the file is damaged, or not in TFRecord format")
    return content


def _file_list(stream: BinaryIO, fetch: Fetch) -> Iterator[Any]:
    for line in _lines(stream):
        if isinstance(line, Rejected):
            yield line
            continue
        try:
            yield {"b64": base64.b64encode(fetch(line.strip())).decode()}
        except (OSError, ValueError) as error:
            yield Rejected(line, f"cannot be read: {error}")


FORMATS: dict[str, Callable[[BinaryIO, Fetch], Iterator[Any]]] = {
    "jsonl": _json_lines,
    "csv": _csv,
    "tf-record": _records,
    "tf-record-gzip": _records,
    "file-list": _file_list,
}
