"""Protects ingest: nothing unusable gets in, nothing usable is lost, and no split leaks into another."""

from __future__ import annotations

import base64
import csv
import functools
import hashlib
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from images.executor import UserError
from images.trainer import splits
from images.trainer.candidates import Rejection
from images.trainer.ingest import ingest
from images.trainer.pictures import decode_grey
from images.trainer.sample import sample
from images.trainer.systems.crnn import data as crnn

ROOT = Path(__file__).parents[3]
SIZE = {"width": 128, "height": 32}


def picture(seed: int, width: int = 60, height: int = 30) -> bytes:
    """A PNG that no other seed gives."""
    file = io.BytesIO()
    greys = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    Image.fromarray(greys).save(file, "png")
    return file.getvalue()


def table(folder: Path, rows: list[tuple[str, str, bytes | None]], ends: str = "\n", start: str = "") -> Path:
    """A folder with `words_metadata.csv`: location, label and image (None: no file) of each row."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["image_location,transcription"] + [f"{location},{label}" for location, label, _ in rows]
    (folder / crnn.TABLE).write_bytes((start + ends.join(lines) + ends).encode())
    for location, _, data in rows:
        if data is not None:
            (folder / location).parent.mkdir(parents=True, exist_ok=True)
            (folder / location).write_bytes(data)
    return folder


def good(count: int, first: int = 0) -> list[tuple[str, str, bytes | None]]:
    return [(f"words/{seed}.png", "abc", picture(seed)) for seed in range(first, first + count)]


def rejects(examples: Path) -> dict[str, str]:
    """Reason by location."""
    with open(examples / "rejects.csv", newline="") as file:
        return {row["location"]: row["reason"] for row in csv.DictReader(file)}


@functools.cache
def read(examples: Path, split: str) -> list[dict[str, object]]:
    """The examples of a split, parsed by TensorFlow."""
    import tensorflow as tf

    files = sorted(str(file) for file in (examples / split).iterdir())
    records = tf.data.TFRecordDataset(files).as_numpy_iterator()
    parsed = (tf.train.Example.FromString(record).features.feature for record in records)
    return [
        {
            "image": features["image"].bytes_list.value[0],
            "label": list(features["label"].int64_list.value),
            "key": features["key"].bytes_list.value[0].decode(),
        }
        for features in parsed
    ]


def tree_digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(str(f.relative_to(folder)).encode() + f.read_bytes() for f in files)).hexdigest()


@pytest.fixture(scope="module")
def iam(tmp_path_factory):
    folder = tmp_path_factory.mktemp("iam") / "source"
    sample("crnn", folder, "words", 1600, seed=3)
    return folder


@pytest.fixture(scope="module")
def ingested(iam, tmp_path_factory):
    examples = tmp_path_factory.mktemp("ingested") / "examples"
    return examples, ingest("crnn", iam, examples, SIZE)


# What comes out.


def test_every_word_is_an_example_or_a_reject(iam, ingested):
    examples, schema = ingested
    keys = [example["key"] for split in splits.SPLITS for example in read(examples, split)]
    assert len(keys) == len(set(keys)) == 1600 - schema["counts"]["rejected"]
    assert schema["reject_reasons"]["segmentation error"] == (iam / "words.txt").read_text().count(" err ")
    assert sum(schema["reject_reasons"].values()) == len(rejects(examples)) == schema["counts"]["rejected"]


def test_examples_hold_the_picture_and_the_label(iam, ingested):
    examples, schema = ingested
    lines = [line.split(maxsplit=8) for line in (iam / "words.txt").read_text().splitlines() if line[0] != "#"]
    labels = {fields[0]: fields[8] for fields in lines}
    for example in read(examples, "test"):
        key = example["key"]
        form = key[: key.index("-", key.index("-") + 1)]
        file = iam / "words" / form.partition("-")[0] / form / f"{key}.png"
        grey = crnn.padded(crnn.scaled(Image.open(file).convert("L"), 128, 32), 128, 32)
        assert example["image"] == grey.tobytes()
        assert "".join(schema["alphabet"][i - 1] for i in example["label"]) == labels[key]


def test_the_schema_says_what_readers_need(ingested):
    examples, schema = ingested
    assert json.loads((examples / "schema.json").read_text()) == schema
    assert schema["image"] == {"height": 32, "width": 128, "channels": 1}
    assert schema["frames"] == 32
    lengths = [len(example["label"]) for split in splits.SPLITS for example in read(examples, split)]
    assert schema["max_label_length"] == max(lengths)
    assert list(schema["alphabet"]) == sorted(set(schema["alphabet"]))
    assert {split: len(read(examples, split)) for split in splits.SPLITS} == {
        split: schema["counts"][split] for split in splits.SPLITS
    }


def test_samples_are_originals_of_the_test_split(iam, ingested):
    examples, _ = ingested
    samples = [json.loads(line) for line in (examples / "samples.jsonl").read_text().splitlines()]
    assert 0 < len(samples) <= 50
    assert {each["key"] for each in samples} <= {each["key"] for each in read(examples, "test")}
    originals = {path.read_bytes() for path in iam.rglob("*.png")}
    assert {base64.b64decode(each["bytes_inputs"]["b64"]) for each in samples} <= originals


def test_writers_do_not_straddle_splits(iam, ingested):
    examples, schema = ingested
    assert schema["split_by"] == "writer"
    forms = [line.split() for line in (iam / "forms.txt").read_text().splitlines() if line[0] != "#"]
    writer = {fields[0]: fields[1] for fields in forms}
    of_split = {
        split: {writer["-".join(example["key"].split("-")[:2])] for example in read(examples, split)}
        for split in splits.SPLITS
    }
    assert not of_split["train"] & (of_split["validation"] | of_split["test"])
    assert not of_split["validation"] & of_split["test"]
    assert all(of_split.values())


@pytest.mark.parametrize("processes", [1, 3])
def test_bytes_do_not_depend_on_the_number_of_processes(iam, ingested, tmp_path, processes):
    ingest("crnn", iam, tmp_path / "again", SIZE, processes=processes)
    assert tree_digest(tmp_path / "again") == tree_digest(ingested[0])


def test_a_tar_gives_the_same_bytes_as_the_folder(iam, ingested, tmp_path):
    (tmp_path / "packed").mkdir()
    with tarfile.open(tmp_path / "packed" / "source.tar", "w") as tar:
        tar.add(iam, ".")
    ingest("crnn", tmp_path / "packed", tmp_path / "examples", SIZE)
    assert tree_digest(tmp_path / "examples") == tree_digest(ingested[0])


def test_a_changed_picture_changes_the_source_digest(iam, ingested, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(iam, changed)
    victim = min(changed.rglob("*.png"))
    victim.write_bytes(picture(1))
    assert ingest("crnn", changed, tmp_path / "e", SIZE)["source_digest"] != ingested[1]["source_digest"]


# What is left out.


def test_each_fault_is_rejected_with_its_reason_and_the_rest_trains(tmp_path):
    faults = {
        "cut.png": ("abc", picture(901)[:200], "damaged image"),
        "endless.png": ("abc", picture(902)[:-12], "damaged image: cut short"),
        "header.png": ("abc", picture(903)[:20], "damaged image"),
        "zero.png": ("abc", b"", "empty file"),
        "text.png": ("abc", b"this is text", "not a PNG or JPEG image"),
        "missing.png": ("abc", None, "missing file"),
        "white.png": ("abc", plain_white(), "no writing in the image"),
        "bomb.png": ("abc", bomb(), "image too large"),
        "blank.png": ("   ", picture(904), "empty label"),
        "bell.png": ("a\x07c", picture(905), "unknown character: U+0007"),
        "snow.png": ("ab☃", picture(906), "unknown character: ☃ (U+2603)"),
        "long.png": ("ab" * 17, picture(907), "label too long for the image: needs 34 frames of 32"),
        "double.png": ("a" * 17, picture(908), "label too long for the image: needs 33 frames of 32"),
        "../up.png": ("abc", None, "missing file"),
    }
    rows = good(60) + [(location, label, data) for location, (label, data, _) in faults.items()]
    source = table(tmp_path / "source", rows, ends="\r\n", start="\ufeff")
    (source / crnn.TABLE).open("a").write(",no location\r\nwords/1.png,abc\r\n")
    schema = ingest("crnn", source, tmp_path / "examples", SIZE, max_reject_share=0.5)
    reasons = rejects(tmp_path / "examples")
    for location, (_, _, reason) in faults.items():
        assert reasons[location].startswith(reason), location
    assert reasons[""].startswith("no image location")
    assert reasons["words/1.png"].startswith("listed twice")
    assert schema["counts"]["rejected"] == len(faults) + 2
    assert sum(schema["counts"][split] for split in splits.SPLITS) == 60
    assert schema["unknown_characters"] == {"\x07": 1, "☃": 1}
    assert schema["alphabet"] == "abc"


def plain_white() -> bytes:
    file = io.BytesIO()
    Image.new("L", (60, 30), 255).save(file, "png")
    return file.getvalue()


def bomb() -> bytes:
    """A PNG whose header announces 10,000 megapixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    return picture(1)[:12] + header + struct.pack(">I", zlib.crc32(header)) + picture(1)[33:]


def test_faults_in_iam_lines(iam, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(iam, source)
    index = source / "words.txt"
    lines = index.read_text().splitlines()
    ok = [n for n, line in enumerate(lines) if " ok " in line]
    blank, short, broken = (lines[n].split()[0] for n in (ok[0], ok[1], ok[2]))
    lines[ok[0]] = " ".join(lines[ok[0]].split()[:8]) + " "
    lines[ok[1]] = f"{short} ok 154"
    lines[ok[2]] = lines[ok[2]].rsplit(maxsplit=1)[0] + " caf\udce9"
    index.write_bytes("\r\n".join(lines).encode("utf-8-sig", errors="surrogateescape"))
    ingest("crnn", source, tmp_path / "examples", SIZE)
    with open(tmp_path / "examples" / "rejects.csv", newline="") as file:
        reasons = [(row["location"], row["label"], row["reason"]) for row in csv.DictReader(file)]
    assert any(blank in where and why == "empty label" for where, _, why in reasons)
    assert any(why == f"not a line of IAM's index: line {ok[1] + 1} of words.txt" for *_, why in reasons)
    assert any(broken in where and what == "caf\\udce9" and "unknown" in why for where, what, why in reasons)


def test_a_character_that_training_lacks_is_unknown():
    alphabet = crnn.Alphabet.learned(["abc", "bcd"])
    assert alphabet.encode("dab") == {"label": [4, 1, 2]}
    with pytest.raises(Rejection, match="unknown character"):
        alphabet.encode("abe")


@pytest.mark.parametrize("share, fails", [(0.2, True), (0.3, False)])
def test_too_large_a_share_of_rejects_fails_and_writes_nothing(tmp_path, share, fails):
    rows = good(30) + [(f"bad/{n}.png", "abc", b"text") for n in range(10)]
    source = table(tmp_path / "source", rows)
    if fails:
        with pytest.raises(UserError, match=r"10 of 40 inputs rejected.*\n.*10 not a PNG or JPEG image; first bad/"):
            ingest("crnn", source, tmp_path / "examples", SIZE, max_reject_share=share)
        assert os.listdir(tmp_path) == ["source"]
    else:
        assert ingest("crnn", source, tmp_path / "examples", SIZE, max_reject_share=share)["counts"]["rejected"] == 10


def test_rows_without_a_location_are_counted_but_fail_nothing(tmp_path):
    source = table(tmp_path / "source", good(20))
    (source / crnn.TABLE).open("a").write(",abc\n" * 40)
    schema = ingest("crnn", source, tmp_path / "examples", SIZE)
    assert schema["reject_reasons"] == {"no image location": 40}


@pytest.mark.parametrize(
    "written", ["data/words/{}.png", "C:\\\\old\\\\words\\\\{}.png", "./words/../words/{}.png", "{}.png"]
)
def test_locations_are_found_beside_the_table(tmp_path, written):
    source = table(tmp_path / "source", good(10))
    lines = ["image_location,transcription"] + [f"{written.format(n)},abc" for n in range(10)]
    (source / crnn.TABLE).write_text("\n".join(lines))
    assert ingest("crnn", source, tmp_path / "examples", SIZE)["counts"]["rejected"] == 0


# Mistakes of the caller.


def stage(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "images.trainer.ingest", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda source: shutil.rmtree(source), "no such folder"),
        (lambda source: (source / crnn.TABLE).unlink(), "neither words.txt nor words_metadata.csv"),
        (lambda source: (source / crnn.TABLE).write_text("image,label\n"), "no column image_location"),
        (
            lambda source: (source / crnn.TABLE).write_text("image_location,transcription\n"),
            "too little usable data",
        ),
        (lambda source: shutil.rmtree(source / "words"), "missing file"),
    ],
    ids=["missing folder", "no index", "no column", "no rows", "no images"],
)
def test_a_hopeless_source_is_one_message_and_exit_2(tmp_path, spoil, message):
    source = table(tmp_path / "source", good(10))
    spoil(source)
    done = stage("--system=crnn", f"--source={source}", f"--examples={tmp_path / 'examples'}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "examples").exists()


@pytest.mark.parametrize(
    "flag, message",
    [
        ("--system=crn", "no such system"),
        ("--width=130", "multiple of 4"),
        ("--max_reject_share=2", "from 0 to 1"),
    ],
)
def test_a_wrong_setting_is_one_message_and_exit_2(tmp_path, flag, message):
    source = table(tmp_path / "source", good(10))
    done = stage("--system=crnn", f"--source={source}", f"--examples={tmp_path / 'examples'}", flag)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_other_peoples_files_are_not_replaced(tmp_path):
    source = table(tmp_path / "source", good(10))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match=r"thesis\.txt"):
        ingest("crnn", source, tmp_path / "home", SIZE)
    ingest("crnn", source, tmp_path / "examples", SIZE)
    ingest("crnn", source, tmp_path / "examples", SIZE)  # Earlier Examples are.


def test_the_stage_reports_to_kfp_and_needs_no_tensorflow(tmp_path):
    source, examples = table(tmp_path / "source", good(10)), tmp_path / "examples"
    output = {
        "outputFile": str(tmp_path / "output.json"),
        "artifacts": {"examples": {"artifacts": [{"name": "e"}]}},
    }
    flags = [
        f"--source={source}",
        f"--examples={examples}",
        f"--executor_input={json.dumps({'outputs': output})}",
    ]
    code = (
        "import sys; from images.trainer.ingest import main; main(sys.argv[1:]);"
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'kfp', 'pandas')))"
    )
    subprocess.run([sys.executable, "-c", code, "--system=crnn", *flags], check=True, cwd=ROOT)
    metadata = json.loads((tmp_path / "output.json").read_text())["artifacts"]["examples"]["artifacts"][0]["metadata"]
    assert metadata["train"] == 8 and len(metadata["digest"]) == 64


def test_memory_does_not_grow_with_the_pictures(tmp_path):
    """Peak memory of two runs that differ by 600 decoded pictures of 128 KB: 75 MB, had they been kept."""
    code = (
        "import resource, sys; from images.trainer.ingest import ingest;"
        "ingest('crnn', sys.argv[1], sys.argv[2], {'width': 512, 'height': 256}, processes=1);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for count in (100, 700):
        source = table(tmp_path / f"source-{count}", good(count))
        command = [sys.executable, "-c", code, str(source), str(tmp_path / f"examples-{count}")]
        peaks.append(int(subprocess.check_output(command, cwd=ROOT, text=True).split()[-1]))
    assert peaks[1] - peaks[0] < 15_000  # kB


# Splits.

GROUPS = st.lists(st.tuples(st.integers(0, 40).map(str), st.integers(0, 60)), min_size=3, max_size=200)


@given(GROUPS)
def test_splits_divide_neither_groups_nor_duplicates_and_none_is_empty(inputs):
    names, contents = [name for name, _ in inputs], [content for _, content in inputs]
    joined = splits.joined(names, contents)
    assume(len(set(joined)) >= 3)
    of = splits.assigned(joined)
    assert {of[group] for group in joined} == set(splits.SPLITS)
    for by in (names, contents):
        sides: dict[object, set[str]] = {}
        for key, group in zip(by, joined, strict=True):
            sides.setdefault(key, set()).add(of[group])
        assert all(len(side) == 1 for side in sides.values())


@given(st.lists(st.integers(1, 40), min_size=30, max_size=150))
def test_shares_are_near_80_10_10(sizes):
    groups = [str(number) for number, size in enumerate(sizes) for _ in range(size)]
    of = splits.assigned(groups)
    for split in (splits.VALIDATION, splits.TEST):
        held_out = sum(of[group] == split for group in groups)
        assert abs(held_out - 0.1 * len(groups)) <= max(sizes) / 2 + 1


@given(GROUPS, st.randoms())
def test_splits_do_not_depend_on_the_order_of_inputs(inputs, random):
    groups = [name for name, _ in inputs]
    assume(len(set(groups)) >= 3)
    shuffled = random.sample(groups, len(groups))
    assert splits.assigned(shuffled) == splits.assigned(groups)


def test_one_writer_is_split_by_content(tmp_path):
    sample("crnn", tmp_path / "source", "words", 40)
    assert ingest("crnn", tmp_path / "source", tmp_path / "examples", SIZE)["split_by"] == "content"


def test_duplicates_stay_together_without_writers(tmp_path):
    rows = [(f"words/{n}-{copy}.png", "abc", picture(n)) for n in range(12) for copy in range(3)]
    ingest("crnn", table(tmp_path / "source", rows), tmp_path / "examples", SIZE)
    sides: dict[bytes, set[str]] = {}
    for split in splits.SPLITS:
        for example in read(tmp_path / "examples", split):
            sides.setdefault(example["image"], set()).add(split)
    assert len(sides) == 12 and all(len(side) == 1 for side in sides.values())


# Pictures.


@settings(max_examples=100, deadline=None)
@given(width=st.integers(1, 300), height=st.integers(1, 300), seed=st.integers(0, 99))
def test_scaling_is_tensorflows_within_one_grey_level(width, height, seed):
    import tensorflow as tf

    greys = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    ours = np.asarray(crnn.scaled(Image.fromarray(greys), 128, 32), int)
    size = crnn.fitted_size(width, height, 128, 32)
    theirs = tf.image.resize(greys[..., None].astype(np.float32), size[::-1], "bilinear", antialias=True)
    rounded = np.floor(np.clip(theirs.numpy()[..., 0], 0, 255) + 0.5)
    assert np.abs(ours - rounded).max() <= 1
    if size == (width, height):
        assert (ours == greys).all()


@given(st.integers(1, 500), st.integers(1, 500))
def test_the_fitted_size_fits_and_touches_a_side(width, height):
    fitted = crnn.fitted_size(width, height, 128, 32)
    assert 1 <= fitted[0] <= 128 and 1 <= fitted[1] <= 32
    assert fitted[0] == 128 or fitted[1] == 32


def encoded(image: Image.Image, form: str = "png", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def test_every_kind_of_png_becomes_the_same_greys():
    grey = Image.fromarray(np.arange(0, 256, 2, np.uint8).reshape(8, 16))
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 256 + 77)
    for image in (
        grey,
        grey.convert("RGB"),
        grey.convert("RGBA"),
        grey.convert("LA"),
        grey.convert("P"),
        deep,
    ):
        assert decode_grey(encoded(image)).tobytes() == grey.tobytes(), image.mode


def test_transparency_is_white_paper():
    ink = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    ink.putpixel((1, 0), (0, 0, 0, 0))
    assert decode_grey(encoded(ink)).tobytes() == b"\x00\xff"
    keyed = encoded(Image.fromarray(np.array([[0, 90]], np.uint8)), transparency=90)
    assert decode_grey(keyed).tobytes() == b"\x00\xff"


def test_jpegs_are_read():
    assert decode_grey(encoded(Image.new("RGB", (20, 10), (200, 200, 200)), "jpeg")).size == (20, 10)


@settings(max_examples=300)
@given(st.binary(max_size=200), st.integers(0, 400))
def test_no_bytes_make_the_decoder_fail_otherwise_than_by_rejection(noise, cut):
    for data in (noise, picture(1)[:cut] + noise):
        try:
            assert decode_grey(data).mode == "L"
        except Rejection as why:
            assert "0x" not in str(why)  # No addresses: rejects.csv is the same on every run.
