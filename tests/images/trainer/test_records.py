"""Protects the records' bytes: TensorFlow must read back exactly what was written without it."""

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
