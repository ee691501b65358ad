"""Protects what is shown of artifacts' files and metadata: recognised, bounded, and never taken for what it is not."""

from __future__ import annotations

import gzip
import io
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from PIL import Image

from localvertex.buckets import Buckets
from localvertex.console import charts, contents, evaluation, records
from localvertex.console.contents import Contents
from localvertex.home import Home
from localvertex.store import Store


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "state").create()


@pytest.fixture
def reader(home: Home) -> Contents:
    return Contents(Buckets(home, Store.at(home.database)))


def place(home: Home, name: str, content: bytes | str = b"x") -> Path:
    path = home.gcs / "bucket" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_files_are_listed(home: Home, reader: Contents) -> None:
    place(home, "run/out/b/c.txt", "abc")
    place(home, "run/out/a.txt", "a")
    place(home, "run/output.txt")
    listing = reader.list("gs://bucket/run/out")
    assert [(file.path, file.name, file.size) for file in listing.files] == [
        ("a.txt", "a.txt", 1),
        ("b/c.txt", "c.txt", 3),
    ]
    assert listing.size == 4 and not listing.more
    (single,) = reader.list("gs://bucket/run/output.txt").files
    assert (single.path, single.name) == ("", "output.txt")
    for nothing in (
        "",
        "gs://bucket/none",
        "gs://",
        "gs://../etc",
        "file:///etc/passwd",
        "https://x/y",
        "gs://bucket/../x",
    ):
        assert not reader.list(nothing).files


def test_no_path_leads_out(home: Home, reader: Contents) -> None:
    inside = place(home, "run/out/a.txt")
    place(home, "run/secret.txt")
    os.symlink(home.gcs / "bucket/run/secret.txt", inside.parent / "link.txt")
    os.symlink("/etc", inside.parent / "etc")
    os.mkfifo(inside.parent / "pipe")
    uri = "gs://bucket/run/out"
    assert reader.path(uri, "a.txt") == inside.resolve()
    for path in (
        "",
        ".",
        "..",
        "../secret.txt",
        "link.txt",
        "etc/passwd",
        "/etc/passwd",
        "pipe",
        "a.txt/..",
        "a\0",
        "\ud800",
    ):
        with pytest.raises(exceptions.NotFound):
            reader.path(uri, path)
    for uri in ("", "file:///etc/passwd", "gs://bucket/run/../run/secret.txt"):
        with pytest.raises(exceptions.NotFound):
            reader.path(uri, "")


@pytest.mark.parametrize(
    ("name", "content", "schema", "kind"),
    [
        ("a.PNG", b"", "", contents.PICTURE),
        ("part.tfrecord-00000-of-00002", b"", "", contents.RECORDS),
        ("data", b"\x89PNG\r\n\x1a\n...", "", contents.PICTURE),
        ("data", b"RIFF....WEBPVP8 ", "", contents.PICTURE),
        ("report", b"plain", "system.HTML", contents.REPORT),
        ("report", b"  <!DOCTYPE HTML><p>", "", contents.REPORT),
        ("notes", "ünïcode".encode(), "", contents.TEXT),
        ("notes", b"\xc3\x28" * 9, "", contents.OTHER),
        ("cut", ("x" * 4095 + "ü").encode(), "", contents.TEXT),
        ("binary", b"a\0b", "", contents.OTHER),
        ("empty", b"", "", contents.OTHER),
    ],
)
def test_files_are_recognised(tmp_path: Path, name: str, content: bytes, schema: str, kind: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert contents.kind_of(tmp_path / name, schema) == kind


def test_the_type_handed_to_a_browser(tmp_path: Path) -> None:
    for name, content, kind, media in (
        ("a.png", b"\xff\xd8\xff", contents.PICTURE, "image/jpeg"),
        ("a.jpg", b"<script>", contents.PICTURE, "application/octet-stream"),
        ("a.svg", b"<svg/>", contents.PICTURE, "image/svg+xml"),
        ("a.html", b"", contents.REPORT, "text/html; charset=utf-8"),
        ("a.js", b"", contents.TEXT, "text/plain; charset=utf-8"),
    ):
        (tmp_path / name).write_bytes(content)
        assert contents.shown_type(tmp_path / name, kind) == media


def test_table_heads(tmp_path: Path) -> None:
    def head(name: str, text: str) -> contents.Table | None:
        (tmp_path / name).write_text(text)
        return contents.table_head(tmp_path / name)

    table = head("a.csv", 'x,y\n"1,5",2\n3\n4,5,6\n')
    assert table == contents.Table(["x", "y", ""], [["1,5", "2", ""], ["3", "", ""], ["4", "5", "6"]])
    assert head("a.tsv", "x\ty\n1\t2\n").rows == [["1", "2"]]
    assert head("a.jsonl", '{"a": 1}\n{"b": [1, "x"], "a": "t"}\n') == contents.Table(
        ["a", "b"], [["1", ""], ["t", '[1, "x"]']]
    )
    assert head("b.jsonl", "no json\n") is None and head("empty.csv", "") is None
    long = head("long.csv", "n\n" + "".join(f"{n}\n" for n in range(50_000)))
    assert long.more and len(long.rows) == 20
    wide = head("wide.csv", ",".join(map(str, range(100))) + "\n" + "y" * 999 + "\n")
    assert wide.hidden == 76 and len(wide.rows[0][0]) == 160
    assert head("deep.jsonl", "[" * 5000 + "]" * 5000) is None


def test_text_heads(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a":[1]}')
    assert contents.text_head(tmp_path / "a.json") == ('{\n  "a": [\n    1\n  ]\n}', False)
    (tmp_path / "long.log").write_text("line\n" * 100_000)
    text, more = contents.text_head(tmp_path / "long.log")
    assert more and text.count("\n") < 100


def framed(*contents: bytes) -> bytes:
    return b"".join(struct.pack("<Q", len(each)) + b"crc1" + each + b"crc2" for each in contents)


def test_records_are_counted_without_being_read(tmp_path: Path) -> None:
    file = tmp_path / "a.tfrecord"
    for content, found in (
        (framed(b"one", b"", b"three"), (3, True)),
        (b"", (0, True)),
        (framed(b"one", b"two")[:-1], (1, False)),
        (struct.pack("<Q", 2**63) + b"xxxxxxxx", (0, False)),
        (gzip.compress(framed(b"one")), (0, False)),
    ):
        file.write_bytes(content)
        assert records.count(file) == found
    file.write_bytes(framed(*[b"x"] * 100))
    assert records.count(file, limit=7) == (7, False)


def test_examples_are_read_without_tensorflow(tmp_path: Path) -> None:
    example = records._EXAMPLE()
    feature = example.features.feature
    feature["label"].int64_list.value.append(7)
    feature["sizes"].float_list.value.extend([0.5] * 12)
    feature["name"].bytes_list.value.append("Zoë".encode())
    feature["pixels"].bytes_list.value.append(bytes(range(6)))
    feature["other"].bytes_list.value.append(b"\xff\xfe\x00")
    file = tmp_path / "a.tfrecord"
    file.write_bytes(framed(example.SerializeToString(), b"\xff\xff\xff no example"))
    schema = {"features": {"pixels": {"dtype": "uint8", "shape": [2, 3]}}}
    (sample,) = records.samples(file, schema, 5)
    assert (
        sample.features["label"] == "7" and sample.features["name"] == "Zoë" and sample.features["other"] == "3 bytes"
    )
    assert sample.features["sizes"].endswith("… (12 values)")
    assert list(sample.pictures) == ["pixels"] and sample.pictures["pixels"].startswith("data:image/png;base64,")
    for wrong in ({}, {"features": []}, {"features": {"pixels": {"dtype": "uint8", "shape": [9**9, 9**9]}}}):
        assert records.samples(file, wrong, 1)[0].pictures == {}


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_pixels_become_a_picture(channels: int, mode: str) -> None:
    pixels = bytes(n % 251 for n in range(5 * 7 * channels))
    picture = Image.open(io.BytesIO(records.png(pixels, 5, 7, channels)))
    assert (picture.size, picture.mode, picture.tobytes()) == ((7, 5), mode, pixels)


def matrix(*rows: Any, labels: int = 2) -> dict[str, Any]:
    return {
        "confusionMatrix": {"annotationSpecs": [{"displayName": f"c{n}"} for n in range(labels)], "rows": list(rows)}
    }


def test_a_confusion_matrix() -> None:
    found = evaluation.confusion(matrix({"row": [3, 1]}, {"row": [0, 4]}))
    assert found is not None and found.labels == ["c0", "c1"] and found.accuracy == 7 / 8
    assert found.share(0, 1) == 0.25
    assert evaluation.confusion(matrix([0, 0], [0, 0])).accuracy is None
    for wrong in (
        {},
        {"confusionMatrix": "x"},
        {"confusionMatrix": {"annotationSpecs": {}, "rows": 1}},
        matrix([1, 2]),
        matrix([1], [2]),
        matrix("ab", "cd"),
        matrix([1, -1], [0, 0]),
        matrix([1, "2"], [0, 0]),
        matrix([1, float("nan")], [0, 0]),
        matrix(labels=0),
    ):
        assert evaluation.confusion(wrong) is None


def test_curves() -> None:
    points = [(0.9, 0.0, 0.2, 1.0), (0.5, 0.5, 1.0, 0.8), (0.1, 1.0, 1.0, 0.5)]
    entries = [{"confidenceThreshold": t, "falsePositiveRate": f, "recall": r, "precision": p} for t, f, r, p in points]
    roc, pr = evaluation.curves({"confidenceMetrics": [*entries, "x", {"recall": "no"}]})
    assert roc.points == [(1.0, 1.0), (0.5, 1.0), (0.0, 0.2)]
    assert roc.area == pytest.approx(0.5 * 0.6 + 0.5) and pr.title == "Precision and recall"
    assert evaluation.curves({"confidenceMetrics": entries[:1]}) == evaluation.curves({}) == []


def test_ticks_are_round_and_span() -> None:
    assert charts.ticks(0.0, 1.0) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    for low, high in ((-3.7, 12.2), (1e-9, 2e-9), (0.999, 1.001), (1e12, 1.1e12)):
        found = charts.ticks(low, high)
        assert found[0] <= low and found[-1] >= high and 2 <= len(found) <= 8
    assert len(charts.ticks(5.0, 5.0)) >= 2


def test_charts_escape_what_they_are_given() -> None:
    evil = "<script>\"'</script>"
    drawn = [
        charts.lines(evil, [charts.Series(evil, [(0, 0), (1, 1)], dots=True, link=f"/x?{evil}")], x=evil, y=evil),
        charts.parallel(evil, [charts.Axis(evil, evil, evil, [(evil, 0.5)])] * 2, [charts.Strand(evil, [0, None])]),
        charts.columns(evil, [(1, 0), (2, 1)]),
    ]
    assert not [each for each in drawn if "<script" in each or "\"'" in each]
    assert charts.lines("empty", [], x="x", y="y").startswith("<svg")
