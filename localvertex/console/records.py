"""TFRecord files: how many records there are, and what the first ones hold.

The framing is that of https://www.tensorflow.org/tutorials/load_data/tfrecord; the messages are
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/example/example.proto, read without TensorFlow.
"""

from __future__ import annotations

import base64
import json
import math
import mmap
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from localvertex.console.contents import media_type

_MOST_COUNTED = 1_000_000
_LARGEST_RECORD = 4 << 20
_LARGEST_SIDE = 1024
_MOST_VALUES = 8
_PACKAGE = "localvertex.console.records"


@dataclass(frozen=True)
class Shard:
    """One file: how many records it holds, and whether it is whole."""

    path: str
    size: int
    records: int
    whole: bool = True


@dataclass(frozen=True)
class Sample:
    """One record: its features as text, and those that are pictures as `data:` addresses."""

    features: Mapping[str, str]
    pictures: Mapping[str, str]


def count(path: Path, limit: int = _MOST_COUNTED) -> tuple[int, bool]:
    """The number of records in an uncompressed file, and whether it ends where a record does; contents stay unread.

    Args:
        limit: no more are counted; then the file passes for broken off.
    """
    if not path.stat().st_size:
        return 0, True
    records = place = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        size = len(mapped)
        while place + 12 <= size and records < limit:
            (length,) = struct.unpack_from("<Q", mapped, place)
            if place + length + 16 > size:
                break
            place += length + 16
            records += 1
    return records, place == size


def samples(path: Path, schema: Mapping[str, Any], limit: int) -> list[Sample]:
    """The first records of a file, as far as they are Examples.

    Args:
        schema: what is known of the features: `{"features": {name: {"dtype": "uint8", "shape": [28, 28]}}}`; bytes
            of such a feature are shown as a picture.
    """
    described = schema.get("features")
    described = described if isinstance(described, Mapping) else {}
    found = []
    for record in _first(path, limit):
        try:
            example = _EXAMPLE.FromString(record)
        except DecodeError:
            break
        found.append(_sample(example, described))
    return found


def read_schema(path: Path) -> dict[str, Any]:
    """A `schema.json` beside the records; empty where it is none."""
    try:
        if path.stat().st_size > _LARGEST_RECORD:
            return {}
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def png(pixels: bytes, height: int, width: int, channels: int) -> bytes:
    """A picture as PNG (https://www.w3.org/TR/png/).

    Args:
        pixels: row by row, a byte a channel.
        channels: 1 for grey, 3 for red, green and blue.
    """
    row = width * channels
    raw = b"".join(b"\0" + pixels[start : start + row] for start in range(0, height * row, row))
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def _first(path: Path, limit: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        for _ in range(limit):
            head = file.read(12)
            if len(head) < 12:
                return
            (length,) = struct.unpack_from("<Q", head)
            if length > _LARGEST_RECORD:
                return
            content = file.read(length + 4)
            if len(content) < length + 4:
                return
            yield content[:-4]


def _sample(example: Any, described: Mapping[str, Any]) -> Sample:
    features: dict[str, str] = {}
    pictures: dict[str, str] = {}
    for name, feature in sorted(example.features.feature.items()):
        kind = feature.WhichOneof("kind")
        values = list(getattr(feature, kind).value) if kind else []
        picture = _picture(values[0], described.get(name)) if kind == "bytes_list" and len(values) == 1 else ""
        if picture:
            pictures[name] = picture
        else:
            features[name] = _text(values)
    return Sample(features, pictures)


def _picture(content: bytes, described: Any) -> str:
    """The `data:` address of a picture; '' for other bytes."""
    kind = media_type(content)
    if not kind and (shape := _shape(described)) and len(content) == math.prod(shape):
        kind, content = "image/png", png(content, *shape)
    return f"data:{kind};base64,{base64.b64encode(content).decode()}" if kind else ""


def _shape(described: Any) -> tuple[int, int, int] | None:
    if not isinstance(described, Mapping) or described.get("dtype") != "uint8":
        return None
    shape = described.get("shape")
    if not isinstance(shape, Sequence) or len(shape) not in (2, 3):
        return None
    height, width, channels = [*shape, 1][:3]
    sides = all(isinstance(side, int) and 0 < side <= _LARGEST_SIDE for side in (height, width))
    return (height, width, channels) if sides and channels in (1, 3) else None


def _text(values: Sequence[Any]) -> str:
    shown = []
    for value in values[:_MOST_VALUES]:
        if isinstance(value, bytes):
            text = value[:200].decode(errors="replace")
            shown.append(text if text.isprintable() else f"{len(value)} bytes")
        else:
            shown.append(f"{value:.6g}")
    return ", ".join(shown) + (f", … ({len(values)} values)" if len(values) > _MOST_VALUES else "")


def _example_type() -> Any:
    """tf.train.Example, made here: TensorFlow need not be installed."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto3")

    def message(name: str, *fields: tuple[str, int, bool, str, int], within: Any = None, union: str = "") -> Any:
        made = (within.nested_type if within else file.message_type).add(name=name)
        if union:
            made.oneof_decl.add(name=union)
        for field_name, number, repeated, type_name, type_ in fields:
            one = made.field.add(
                name=field_name,
                number=number,
                label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL,
                type=field.Type.ValueType(type_),
            )
            if type_name:
                one.type_name = f".{_PACKAGE}.{type_name}"
            if union:
                one.oneof_index = 0
        return made

    message("BytesList", ("value", 1, True, "", field.TYPE_BYTES))
    message("FloatList", ("value", 1, True, "", field.TYPE_FLOAT))
    message("Int64List", ("value", 1, True, "", field.TYPE_INT64))
    message(
        "Feature",
        ("bytes_list", 1, False, "BytesList", field.TYPE_MESSAGE),
        ("float_list", 2, False, "FloatList", field.TYPE_MESSAGE),
        ("int64_list", 3, False, "Int64List", field.TYPE_MESSAGE),
        union="kind",
    )
    features = message("Features", ("feature", 1, True, "Features.FeatureEntry", field.TYPE_MESSAGE))
    entry = message(
        "FeatureEntry",
        ("key", 1, False, "", field.TYPE_STRING),
        ("value", 2, False, "Feature", field.TYPE_MESSAGE),
        within=features,
    )
    entry.options.map_entry = True
    message("Example", ("features", 1, False, "Features", field.TYPE_MESSAGE))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Example"))


_EXAMPLE = _example_type()
