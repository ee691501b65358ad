"""DICOM files in a TensorFlow graph, decoded to the same greys as `dicom` decodes them to, where they are uncompressed.

A file is a chain of data elements; the graph goes along it to the pixels. It descends into sequences of undefined
length only to find their end, and takes nothing from inside.

Source: DICOM PS3.5, section 7 (data elements) and PS3.10, section 7 (file meta information).
"""

from __future__ import annotations

import functools
import operator

import tensorflow as tf

from images.trainer.systems.ddsm.dicom import HIGHEST, PLAIN, PREAMBLE, PREFIX

_META = 0x0002
_ITEM_GROUP = 0xFFFE
_ITEM_END, _SEQUENCE_END = 0xE00D, 0xE0DD
_UNDEFINED = 0xFFFFFFFF
_LONG = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
_IMPLICIT, _EXPLICIT = PLAIN
_MOST_ELEMENTS = 100_000

_SYNTAX = 0x00020010
_SAMPLES, _SHOWN, _FRAMES = 0x00280002, 0x00280004, 0x00280008
_ROWS, _COLUMNS, _ALLOCATED, _STORED, _SIGNED = 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280103
_PIXELS = 0x7FE00010
_WANTED = (_SYNTAX, _SAMPLES, _SHOWN, _FRAMES, _ROWS, _COLUMNS, _ALLOCATED, _STORED, _SIGNED, _PIXELS)


def is_dicom(file: tf.Tensor) -> tf.Tensor:
    """Whether a file, string [], says that it is DICOM."""
    long_enough = tf.strings.length(file) >= PREAMBLE + len(PREFIX)
    return tf.cond(
        long_enough, lambda: tf.strings.substr(file, PREAMBLE, len(PREFIX)) == PREFIX, lambda: tf.constant(False)
    )


def decode_deep(file: tf.Tensor) -> tf.Tensor:
    """Decodes a file of one grey image, in little endian and uncompressed.

    Args:
        file: string [].

    Returns:
        float32 [rows, columns], 0 to 65535.

    Raises:
        tf.errors.InvalidArgumentError: when run, if the file is of another kind or damaged; it says which.
    """
    at, size = _elements(file)
    found = dict(zip(_WANTED, zip(tf.unstack(at), tf.unstack(size), strict=True), strict=True))
    syntax, shown = _text(file, *found[_SYNTAX]), _text(file, *found[_SHOWN])
    plain = tf.logical_or(syntax == _IMPLICIT, syntax == _EXPLICIT)
    known = tf.logical_or(shown == "MONOCHROME1", shown == "MONOCHROME2")
    rows, columns, bits = (_number(file, *found[tag]) for tag in (_ROWS, _COLUMNS, _STORED))
    allocated, samples = _number(file, *found[_ALLOCATED]), _number(file, *found[_SAMPLES], absent=1)
    pixels, length = found[_PIXELS]
    one = tf.logical_and(samples == 1, _is_one_frame(file, *found[_FRAMES]))
    wide = tf.logical_and(tf.logical_or(allocated == 8, allocated == 16), tf.logical_and(bits >= 1, bits <= allocated))
    checks = [
        tf.debugging.Assert(plain, ["DICOM: compressed or big endian; send it uncompressed, or as PNG"]),
        tf.debugging.Assert(tf.logical_and(known, one), ["DICOM: not one grey image"]),
        tf.debugging.Assert(
            tf.logical_and(wide, tf.logical_and(rows * columns > 0, length >= rows * columns * allocated // 8)),
            ["DICOM: damaged, or its pixels are cut short"],
        ),
    ]
    with tf.control_dependencies(checks):
        raw = tf.strings.substr(file, tf.identity(pixels), rows * columns * allocated // 8)
    values = tf.cond(
        allocated == 8,
        lambda: tf.cast(tf.io.decode_raw(raw, tf.uint8), tf.int32),
        lambda: tf.cast(tf.io.decode_raw(raw, tf.uint16), tf.int32),
    )
    signed = _number(file, *found[_SIGNED]) == 1
    # Values of two's complement: those from the middle on are negative, and the lowest of all is black.
    highest, lowest = tf.bitwise.left_shift(1, bits) - 1, tf.where(signed, tf.bitwise.left_shift(1, bits - 1), 0)
    turn = tf.bitwise.left_shift(1, allocated)
    values = tf.where(tf.logical_and(signed, values >= turn // 2), values - turn, values)
    greys = tf.cast(tf.clip_by_value(values + lowest, 0, highest), tf.int64)
    highest = tf.cast(highest, tf.int64)
    greys = (greys * HIGHEST + highest // 2) // highest
    greys = tf.where(shown == "MONOCHROME1", HIGHEST - greys, greys)
    return tf.reshape(tf.cast(greys, tf.float32), [rows, columns])


def _elements(file: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where the values of the wanted elements begin, int32 [wanted], and how long they are; -1 where there is none."""
    end = tf.strings.length(file)
    tags = tf.constant(_WANTED, tf.int64)
    nowhere = tf.fill([len(_WANTED)], -1)

    def going(at: tf.Tensor, depth: tf.Tensor, implicit: tf.Tensor, places: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
        return tf.logical_and(at + 8 <= end, places[-1] < 0)

    def step(
        at: tf.Tensor, depth: tf.Tensor, implicit: tf.Tensor, places: tf.Tensor, sizes: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        head = tf.cast(tf.io.decode_raw(tf.strings.substr(file, at, 8), tf.uint8), tf.int64)
        group, element = head[0] + 256 * head[1], head[2] + 256 * head[3]
        delimiter = tf.equal(group, _ITEM_GROUP)
        short = tf.logical_or(delimiter, tf.logical_and(implicit, tf.not_equal(group, _META)))
        kind = tf.strings.substr(file, at + 4, 2)
        long = functools.reduce(tf.logical_or, [kind == name for name in _LONG])
        header = tf.where(tf.logical_and(long, tf.logical_not(short)), 12, 8)
        in_four = _little(head[4:8])
        length = tf.cond(
            short,
            lambda: in_four,
            lambda: tf.cond(
                tf.logical_and(long, at + 12 <= end),
                lambda: _little(tf.cast(tf.io.decode_raw(tf.strings.substr(file, at + 8, 4), tf.uint8), tf.int64)),
                lambda: head[6] + 256 * head[7],
            ),
        )
        undefined = tf.equal(length, _UNDEFINED)
        ends = tf.logical_and(delimiter, tf.logical_or(tf.equal(element, _ITEM_END), tf.equal(element, _SEQUENCE_END)))
        here = tf.logical_and(tf.equal(tags, group * 65536 + element), tf.logical_and(depth == 0, places < 0))
        value = at + header
        fits = tf.minimum(tf.where(undefined, tf.constant(0, tf.int64), length), tf.cast(end - value, tf.int64))
        size = tf.cast(tf.maximum(fits, 0), tf.int32)
        places, sizes = tf.where(here, value, places), tf.where(here, size, sizes)
        depth += tf.where(ends, -1, tf.where(undefined, 1, 0))
        syntax = tf.logical_and(tf.equal(group, _META), tf.equal(element, _SYNTAX & 0xFFFF))
        implicit = tf.cond(syntax, lambda: _text(file, value, size) == _IMPLICIT, lambda: implicit)
        return value + size, depth, implicit, places, sizes

    start = (tf.constant(PREAMBLE + len(PREFIX)), tf.constant(0), tf.constant(False), nowhere, nowhere)
    _, _, _, places, sizes = tf.while_loop(going, step, start, maximum_iterations=_MOST_ELEMENTS)
    return places, sizes


def _little(values: tf.Tensor) -> tf.Tensor:
    """Bytes, the least first, as one number."""
    return functools.reduce(operator.add, [values[index] * 256**index for index in range(4)])


def _text(file: tf.Tensor, at: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """A value as text, without its padding; empty where there is none."""
    return tf.cond(
        at >= 0,
        lambda: tf.strings.regex_replace(tf.strings.substr(file, at, size), "[ \\x00]+$", ""),
        lambda: tf.constant(""),
    )


def _number(file: tf.Tensor, at: tf.Tensor, size: tf.Tensor, absent: int = 0) -> tf.Tensor:
    """A value of two bytes."""

    def read() -> tf.Tensor:
        values = tf.cast(tf.io.decode_raw(tf.strings.substr(file, at, 2), tf.uint8), tf.int32)
        return values[0] + 256 * values[1]

    return tf.cond(tf.logical_and(at >= 0, size == 2), read, lambda: tf.constant(absent))


def _is_one_frame(file: tf.Tensor, at: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    frames = tf.strings.strip(_text(file, at, size))
    return tf.logical_or(frames == "", frames == "1")
