"""TFRecord files of `tf.train.Example`, written and read without TensorFlow.

Sources: tensorflow.org/tutorials/load_data/tfrecord (file format and masked CRC-32C); example.proto and
feature.proto in tensorflow/core/example; protobuf.dev/programming-guides/encoding (wire format; maps are
repeated entries).
"""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

import google_crc32c


class Damaged(ValueError):
    """What is wrong with a TFRecord file."""


Value = bytes | str | Sequence[int] | Sequence[float]

# Field numbers with wire type 2 (length-delimited), as the one byte that stands before the length.
_FIELD_1, _FIELD_2, _FIELD_3 = b"\x0a", b"\x12", b"\x1a"
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = _FIELD_1, _FIELD_2, _FIELD_3
_VARINT, _LENGTH = 0, 2  # Wire types.
_FIXED = {1: 8, 5: 4}
_ONE_BYTE = 0x7F  # The largest number whose varint is the one byte of that value.
_MOST_BITS = 64
_FIELD_NUMBERS = 1 << 29
_RECURRING = 4096  # Numbers and sizes of values are the same in many examples: so many are kept encoded.


def features(values: Mapping[str, Value]) -> bytes:
    """Encodes named values as entries of an Example's feature map.

    Args:
        values: for each name bytes or text (a list of one string), integers (int64), or floats (float32). An
            empty sequence counts as integers.

    Returns:
        Encoded entries, sorted by name. Entries of several calls may be joined: they still form one map.

    Raises:
        OverflowError: an integer needs more than 64 bits, or a float is too large for 32.
        struct.error: a sequence holds something that is no number.
    """
    return b"".join(part for name in sorted(values) for part in _entry(name, values[name]))


def example(*entries: bytes) -> bytes:
    """Wraps encoded entries (see `features`) as one serialized `tf.train.Example`."""
    return b"".join((_FIELD_1, _varint(sum(map(len, entries))), *entries))


def framed(data: bytes) -> tuple[bytes, ...]:
    """One record in the parts that make its frame: its length and its data, each followed by a masked CRC-32C."""
    length = struct.pack("<Q", len(data))
    return length, _masked_crc(length), data, _masked_crc(data)


def write(path: str | os.PathLike[str], examples: Iterable[bytes]) -> None:
    """Writes one uncompressed TFRecord file.

    Args:
        path: the file to write; replaced if it is there.
        examples: serialized examples, taken one at a time.
    """
    with open(path, "wb", buffering=1 << 20) as file:
        for data in examples:
            file.writelines(framed(data))


def read(data: bytes) -> Iterator[dict[str, list[bytes] | list[int] | list[float]]]:
    """Reads the examples of an uncompressed TFRecord file.

    Args:
        data: the whole file.

    Yields:
        The features of each example by name: bytes, integers or floats.

    Raises:
        Damaged: a record is cut short, does not match its checksum, or is no `tf.train.Example`.
    """
    for at, size in extents(data):
        yield parse(data[at : at + size])


def extents(data: bytes) -> Iterator[tuple[int, int]]:
    """Where the records of a TFRecord file lie.

    Args:
        data: the whole file.

    Yields:
        The offset of each record in the file, and its length.

    Raises:
        Damaged: a record is cut short or does not match its checksum.
    """
    at = 0
    while at < len(data):
        head = data[at : at + 12]
        if len(head) < 12 or _masked_crc(head[:8]) != head[8:]:
            raise Damaged("its length is damaged; is this a TFRecord file?")
        (size,) = struct.unpack("<Q", head[:8])
        if _masked_crc(data[at + 12 : at + 12 + size]) != data[at + 12 + size : at + 16 + size]:
            raise Damaged("cut short, or it does not match its checksum")
        yield at + 12, size
        at += 16 + size


def parse(record: bytes) -> dict[str, list[bytes] | list[int] | list[float]]:
    """The features of one serialized example by name: bytes, integers or floats.

    Raises:
        Damaged: it is no `tf.train.Example`.
    """
    try:
        return dict(_parsed(record))
    except (IndexError, ValueError, struct.error) as error:
        raise Damaged("not a tf.train.Example") from error


def _parsed(record: bytes) -> Iterator[tuple[str, list[bytes] | list[int] | list[float]]]:
    for features in _inside(record, 1):
        for entry in _inside(features, 1):
            (name,), values = _inside(entry, 1) or [b""], _inside(entry, 2)
            yield name.decode(), [value for feature in values for value in _values(feature)]  # type: ignore[misc]


def _values(feature: bytes) -> Iterator[bytes | int | float]:
    for kind, wire, values in _fields(feature):
        if wire == _LENGTH and kind == 1:
            yield from _inside(values, 1)
        elif wire == _LENGTH and kind == 2:
            for number, _, value in _fields(values):
                if number == 1 and isinstance(value, bytes):
                    yield from struct.unpack(f"<{len(value) // 4}f", value)
        elif wire == _LENGTH and kind == 3:
            for number, _, value in _fields(values):
                if number == 1:
                    yield from map(_signed, _varints(value) if isinstance(value, bytes) else (value,))


def _inside(message: bytes, number: int) -> list[bytes]:
    """The values of one field of a message, such as hold bytes or messages themselves."""
    return [value for found, wire, value in _fields(message) if found == number and wire == _LENGTH]


def _fields(message: bytes) -> Iterator[tuple[int, int, Any]]:
    """The fields of a message: number, wire type, and bytes, or an integer where the wire type is a varint."""
    at = 0
    while at < len(message):
        tag, at = _varint_at(message, at)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < _FIELD_NUMBERS:
            raise ValueError(f"field {number}")
        if wire == _VARINT:
            value, at = _varint_at(message, at)
            yield number, wire, value
            continue
        if wire == _LENGTH:
            size, at = _varint_at(message, at)
        elif wire in _FIXED:
            size = _FIXED[wire]
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > len(message):
            raise IndexError(at)
        yield number, wire, message[at : at + size]
        at += size


def _varints(packed: bytes) -> Iterator[int]:
    at = 0
    while at < len(packed):
        number, at = _varint_at(packed, at)
        yield number


def _varint_at(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & _ONE_BYTE) << shift
        at, shift = at + 1, shift + 7
        if byte <= _ONE_BYTE:
            return number & (1 << _MOST_BITS) - 1, at
        if shift >= _MOST_BITS:
            raise ValueError("a varint of more than ten bytes")


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


def _entry(name: str, value: Value) -> tuple[bytes, bytes]:
    kind, content = _content(value)
    return _head(name, kind, len(content)), content


@functools.lru_cache(_RECURRING)
def _head(name: str, kind: bytes, size: int) -> bytes:
    """What stands before the bytes of a value."""
    value = b""
    for tag in (_FIELD_1, kind, _FIELD_2):
        value = tag + _varint(len(value) + size) + value
    encoded = name.encode()
    entry = _FIELD_1 + _varint(len(encoded)) + encoded + value
    return _FIELD_1 + _varint(len(entry) + size) + entry


def _content(value: Value) -> tuple[bytes, bytes]:
    """The tag of a value's list, and its bytes."""
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return _BYTES_LIST, value
    kinds = set(map(type, value))
    if kinds <= {int} or all(issubclass(kind, Integral) for kind in kinds):
        return _INT64_LIST, b"".join(map(_int64, value))  # type: ignore[arg-type]
    return _FLOAT_LIST, struct.pack(f"<{len(value)}f", *value)


@functools.lru_cache(_RECURRING)
def _int64(number: int) -> bytes:
    if not -(1 << 63) <= number < 1 << 63:
        raise OverflowError(f"{number} does not fit 64 bits")
    return _varint(int(number) & 0xFFFFFFFFFFFFFFFF)  # Two's complement: a negative number takes ten bytes.


def _varint(number: int) -> bytes:
    if number <= _ONE_BYTE:
        return bytes((number,))
    encoded = bytearray()
    while number > _ONE_BYTE:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _masked_crc(data: bytes) -> bytes:
    crc: int = google_crc32c.value(data)
    rotated = crc >> 15 | crc << 17 & 0xFFFFFFFF
    return struct.pack("<I", rotated + 0xA282EAD8 & 0xFFFFFFFF)
