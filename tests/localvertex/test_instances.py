"""Protects how the instances of batch prediction are read, in each format, and converted; bad ones are named."""

from __future__ import annotations

import base64
import gzip
import json
import struct
from pathlib import Path
from typing import Any

import google_crc32c
import pytest

from localvertex.instances import Conversion, InstanceError, Rejected, UnreadableError, read


def in_base64(content: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(content).decode()}


def record(content: bytes) -> bytes:
    """A record as TensorFlow writes it."""

    def masked(data: bytes) -> bytes:
        crc = google_crc32c.value(data)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(content))
    return length + masked(length) + content + masked(content)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "input"


def instances(file: Path, format: str, content: bytes, **files: bytes) -> list[Any]:
    file.write_bytes(content)
    return list(read(file, format, lambda uri: files[uri]))


def test_json_lines_may_hold_anything_and_bad_ones_are_named(file: Path) -> None:
    found = instances(file, "jsonl", b'{"a": 100}\r\n\n[1, 2.5]\n"text"\n{"a": \n\xff\n7')
    assert found[:3] == [{"a": 100}, [1, 2.5], "text"] and found[5] == 7
    assert isinstance(found[3], Rejected) and found[3].text == '{"a": ' and "not valid JSON" in found[3].problem
    assert "not UTF-8" in found[4].problem


def test_cells_are_text_where_they_are_quoted(file: Path) -> None:
    found = instances(file, "csv", b'"size", kind\n0.5, "cat,1"\n4,"dog"\n4,dog\n1\n')
    assert found[:2] == [{"size": 0.5, "kind": "cat,1"}, {"size": 4.0, "kind": "dog"}]
    assert "text must stand in double quotes" in found[2].problem and "1 cells" in found[3].problem


@pytest.mark.parametrize("format", ["tf-record", "tf-record-gzip"])
def test_records_are_sent_whole_and_damage_is_said(file: Path, format: str) -> None:
    pack = gzip.compress if format.endswith("gzip") else bytes
    content = record(b"first") + record(b"") + record(b"\x00\xff")
    assert instances(file, format, pack(content)) == [in_base64(b"first"), in_base64(b""), in_base64(b"\x00\xff")]
    for damaged, problem in ((content[:-1], "breaks off"), (content[:15] + b"x" + content[16:], "checksum is wrong")):
        file.write_bytes(pack(damaged))
        with pytest.raises(UnreadableError, match=problem):
            list(read(file, format, lambda _: b""))


def test_records_of_tensorflow_are_read(file: Path) -> None:
    tensorflow = pytest.importorskip("tensorflow")
    with tensorflow.io.TFRecordWriter(str(file)) as writer:
        writer.write(b"an example")
    assert list(read(file, "tf-record", lambda _: b"")) == [in_base64(b"an example")]


def test_files_of_a_list_are_sent_whole(file: Path) -> None:
    def fetch(uri: str) -> bytes:
        if uri != "gs://b/a.png":
            raise ValueError(f"there is no {uri}")
        return b"\x89PNG"

    file.write_bytes(b"gs://b/a.png\ngs://b/none.png\n")
    found = list(read(file, "file-list", fetch))
    assert found[0] == in_base64(b"\x89PNG") and "there is no gs://b/none.png" in found[1].problem


def test_missing_files_are_unreadable(file: Path) -> None:
    with pytest.raises(UnreadableError, match="No such file"):
        list(read(file, "jsonl", lambda _: b""))


@pytest.mark.parametrize(
    ("conversion", "instance", "sent", "shown"),
    [
        (Conversion(), {"a": 1}, {"a": 1}, {"instance": {"a": 1}}),
        (Conversion(), [1], [1], {"instance": [1]}),
        (Conversion(key="id"), {"id": 7, "a": 1}, {"a": 1}, {"key": 7}),
        (Conversion(type="array", included=["b", "a"]), {"a": 1, "b": 2}, [2, 1], {"instance": {"a": 1, "b": 2}}),
        (Conversion(type="array"), [1], [1], {"instance": [1]}),
        (Conversion(excluded=["b"]), {"a": 1, "b": 2}, {"a": 1}, {"instance": {"a": 1, "b": 2}}),
        (Conversion(table=True), {"a": 1, "b": "c"}, [1, "c"], {"instance": [1, "c"]}),
        (Conversion(table=True, key="b"), {"a": 1, "b": "c"}, [1], {"key": "c"}),
    ],
)
def test_instances_are_converted(conversion: Conversion, instance: Any, sent: Any, shown: Any) -> None:
    assert (conversion.sent(instance), conversion.shown(instance)) == (sent, shown)


@pytest.mark.parametrize(
    ("conversion", "instance", "problem"),
    [
        (Conversion(type="object"), [1], "not a JSON object"),
        (Conversion(key="id"), "text", "not a JSON object"),
        (Conversion(included=["b"]), {"a": 1}, "no field 'b'"),
        (Conversion(type="array"), {"a": 1}, "included_fields gives the order"),
        (Conversion(type="array"), 7, "not a JSON array"),
    ],
)
def test_what_cannot_be_converted_is_said(conversion: Conversion, instance: Any, problem: str) -> None:
    with pytest.raises(InstanceError, match=problem):
        conversion.sent(json.loads(json.dumps(instance)))
