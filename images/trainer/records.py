"""TFRecord files of `tf.train.Example`, written without TensorFlow.

Sources: tensorflow.org/tutorials/load_data/tfrecord (file format and masked CRC-32C); example.proto and
feature.proto in tensorflow/core/example; protobuf.dev/programming-guides/encoding (wire format; maps are
repeated entries).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral

import google_crc32c

Value = bytes | str | Sequence[int] | Sequence[float]

# Field numbers with wire type 2 (length-delimited), as the one byte that stands before the length.
_FIELD_1, _FIELD_2, _FIELD_3 = b"\x0a", b"\x12", b"\x1a"
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = _FIELD_1, _FIELD_2, _FIELD_3
_ONE_BYTE = 0x7F  # The largest number whose varint is the one byte of that value.


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
    return b"".join(_entry(name, values[name]) for name in sorted(values))


def example(entries: bytes) -> bytes:
    """Wraps encoded entries (see `features`) as one serialized `tf.train.Example`."""
    return _field(_FIELD_1, entries)


def framed(data: bytes) -> bytes:
    """Frames one record: its length and its data, each followed by a masked CRC-32C."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, _masked_crc(length), data, _masked_crc(data)))


def write(path: str | os.PathLike[str], examples: Iterable[bytes]) -> None:
    """Writes one uncompressed TFRecord file.

    Args:
        path: the file to write; replaced if it is there.
        examples: serialized examples, taken one at a time.
    """
    with open(path, "wb", buffering=1 << 20) as file:
        for data in examples:
            file.write(framed(data))


def _entry(name: str, value: Value) -> bytes:
    return _field(_FIELD_1, _field(_FIELD_1, name.encode()) + _field(_FIELD_2, _feature(value)))


def _feature(value: Value) -> bytes:
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return _field(_BYTES_LIST, _field(_FIELD_1, value))
    if all(type(number) is int or isinstance(number, Integral) for number in value):
        return _field(_INT64_LIST, _field(_FIELD_1, _int64s(value)))  # type: ignore[arg-type]
    return _field(_FLOAT_LIST, _field(_FIELD_1, struct.pack(f"<{len(value)}f", *value)))


def _field(tag: bytes, payload: bytes) -> bytes:
    return tag + _varint(len(payload)) + payload


def _int64s(numbers: Sequence[int]) -> bytes:
    if len(numbers) == 0 or (min(numbers) >= 0 and max(numbers) <= _ONE_BYTE):
        return bytes(list(numbers))
    return b"".join(_int64(int(number)) for number in numbers)


def _int64(number: int) -> bytes:
    if not -(1 << 63) <= number < 1 << 63:
        raise OverflowError(f"{number} does not fit 64 bits")
    return _varint(number & 0xFFFFFFFFFFFFFFFF)  # Two's complement: a negative number takes ten bytes.


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
