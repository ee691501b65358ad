"""Protects the records' bytes: TensorFlow reads what was written without it, and the other way round."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from images.trainer import records

INT64 = st.integers(-(2**63), 2**63 - 1)
VALUES = st.one_of(
    st.binary(max_size=300),
    st.text(max_size=40),
    st.lists(INT64, max_size=20),
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=20),
)


@pytest.fixture(scope="module")
def tf():
    import tensorflow

    return tensorflow


def framed(data: bytes) -> bytes:
    """A record as it stands in a file."""
    return b"".join(records.framed(data))


def parsed(tf, data: bytes) -> dict[str, object]:
    """What TensorFlow reads: name -> bytes, or a list of numbers."""
    result: dict[str, object] = {}
    for name, feature in tf.train.Example.FromString(data).features.feature.items():
        kind = feature.WhichOneof("kind")
        values = list(getattr(feature, kind).value)
        result[name] = values[0] if kind == "bytes_list" else values
    return result


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=20), VALUES, max_size=5))
def test_tensorflow_parses_what_was_encoded(tf, values):
    expected = {name: value.encode() if isinstance(value, str) else value for name, value in values.items()}
    assert parsed(tf, records.example(records.features(values))) == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=2000), max_size=10))
def test_tensorflow_reads_the_file_and_accepts_its_checksums(tf, tmp_path_factory, payloads):
    path = tmp_path_factory.mktemp("records") / "part.tfrecord"
    records.write(path, payloads)
    assert [record.numpy() for record in tf.data.TFRecordDataset(str(path))] == payloads


def test_a_flipped_bit_is_noticed(tf, tmp_path):
    path = tmp_path / "part.tfrecord"
    records.write(path, [b"some data"])
    spoilt = bytearray(path.read_bytes())
    spoilt[14] ^= 1
    path.write_bytes(spoilt)
    with pytest.raises(tf.errors.DataLossError):
        list(tf.data.TFRecordDataset(str(path)))


def test_entries_of_two_calls_form_one_map(tf):
    entries = records.features({"image": b"\x00\xff"}) + records.features({"label": [1, 200], "key": "a01"})
    assert parsed(tf, records.example(entries)) == {"image": b"\x00\xff", "label": [1, 200], "key": b"a01"}


def test_numpy_numbers_keep_their_kind(tf):
    values = {"whole": np.arange(3), "broken": np.array([0.5, 1.0], np.float32)}
    assert parsed(tf, records.example(records.features(values))) == {"whole": [0, 1, 2], "broken": [0.5, 1.0]}


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_a_number_too_large_is_refused(number):
    with pytest.raises(OverflowError):
        records.features({"label": [number]})


def test_text_among_numbers_is_refused():
    with pytest.raises(struct.error):
        records.features({"label": ["a"]})


def test_writing_needs_no_tensorflow():
    code = "import sys, images.trainer.records; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


# Reading.

INT64_LISTS = st.lists(INT64, max_size=20)
FLOATS = st.lists(st.floats(width=32, allow_nan=False), max_size=20)
EXAMPLES = st.dictionaries(st.text(max_size=20), st.one_of(st.lists(st.binary(max_size=50)), INT64_LISTS, FLOATS))


def serialized(tf, values: dict[str, list]) -> bytes:
    """An example as TensorFlow itself encodes it."""
    example = tf.train.Example()
    for name, items in values.items():
        feature = example.features.feature[name]
        kind = {bytes: "bytes_list", int: "int64_list", float: "float_list"}[type(items[0]) if items else int]
        getattr(feature, kind).value.extend(items)
    return example.SerializeToString()


@settings(max_examples=200, deadline=None)
@given(st.lists(EXAMPLES, max_size=4))
def test_what_tensorflow_wrote_is_read(tf, tmp_path_factory, examples):
    path = tmp_path_factory.mktemp("records") / "part.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for values in examples:
            writer.write(serialized(tf, values))
    assert list(records.read(path.read_bytes())) == examples


def test_numbers_that_are_not_packed_are_read(tf):
    """Older writers give each number a tag of its own."""
    one_by_one = b"\x08\x07\x08" + b"\xff" * 9 + b"\x01"  # int64_list.value: 7 and -1
    feature = b"\x1a" + bytes((len(one_by_one),)) + one_by_one
    entry = b"\x0a\x01n\x12" + bytes((len(feature),)) + feature
    message = records.example(b"\x0a" + bytes((len(entry),)) + entry)
    assert parsed(tf, message) == {"n": [7, -1]}
    assert list(records.read(framed(message))) == [{"n": [7, -1]}]


WHOLE = b"".join(
    framed(records.example(records.features({"label": [n], "image": bytes(20), "x": [0.5]}))) for n in range(3)
)


@given(st.integers(0, len(WHOLE) - 1))
def test_a_file_cut_short_gives_whole_records_and_then_says_so(size):
    found = []
    try:
        for example in records.read(WHOLE[:size]):
            found.append(example["label"])
        assert size % (len(WHOLE) // 3) == 0  # Cut between records, it is whole.
    except records.Damaged:
        assert size % (len(WHOLE) // 3)
    assert found == [[number] for number in range(size // (len(WHOLE) // 3))]


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_changed_byte_never_goes_unnoticed(place, change):
    spoilt = bytearray(WHOLE)
    spoilt[place] ^= change
    with pytest.raises(records.Damaged):
        list(records.read(bytes(spoilt)))


@settings(max_examples=500)
@given(st.binary(max_size=200))
def test_a_record_of_anything_is_an_example_or_damaged(data):
    try:
        (found,) = records.read(framed(data))
    except records.Damaged:
        return
    assert all(isinstance(name, str) and isinstance(values, list) for name, values in found.items())


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(WHOLE) // 3 - 17), st.integers(0, 255))
def test_a_changed_example_is_read_as_tensorflow_reads_it_or_refused(tf, place, value):
    """The frame is whole, so that only the reading of the message inside is tried."""
    message = bytearray(WHOLE[12 : len(WHOLE) // 3 - 4])
    message[place] = value
    try:
        (found,) = records.read(framed(bytes(message)))
    except records.Damaged:
        return
    theirs = tf.train.Example.FromString(bytes(message)).features.feature
    expected = {name: list(getattr(of, of.WhichOneof("kind") or "int64_list").value) for name, of in theirs.items()}
    # Of entries with fields that it does not know, TensorFlow gives nothing. NaN equals nothing, but its name does.
    assert repr([(name, found.get(name)) for name in expected]) == repr(list(expected.items()))


def test_a_number_without_end_is_refused_at_once():
    with pytest.raises(records.Damaged):
        list(records.read(framed(b"\xff" * 10_000_000)))
