"""Protects mnist's ingest: three source formats give the same digits, and a damaged file is one clear message."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from images.executor import UserError
from images.trainer import records, splits
from images.trainer.ingest import ingest
from images.trainer.systems.mnist import sample

ROOT = Path(__file__).parents[3]
FULL = ROOT.parent / "shared" / "data" / "mnist"
TRAINING, TESTED = 200, 40


def digits(count: int, seed: int = 0) -> np.ndarray:
    """Pictures that no other seed gives, light on dark."""
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), np.uint8) // 2


def labels(count: int) -> np.ndarray:
    """A tenth of each class."""
    return np.arange(count, dtype=np.uint8) % 10


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def mnist(folder: Path, packed: bool = True, **changed: bytes) -> Path:
    """A folder of the four files, some of them changed: `train_images=…`."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "train_images": idx(digits(TRAINING)),
        "train_labels": idx(labels(TRAINING)),
        "t10k_images": idx(digits(TESTED, seed=1)),
        "t10k_labels": idx(labels(TESTED)),
    }
    for name, data in {**content, **changed}.items():
        part, kind = name.split("_")
        ending = "idx3" if kind == "images" else "idx1"
        unchanged = content[name] == data
        file = folder / f"{part}-{kind}-{ending}-ubyte{'.gz' if packed else ''}"
        file.write_bytes(gzip.compress(data, mtime=0) if packed and (unchanged or data[:2] == b"\0\0") else data)
    return folder


def classic(label: object = 3, height: int = 28, width: int = 28, depth: int = 1, raw: bytes | None = None) -> bytes:
    """An example as TensorFlow's `convert_to_records.py` wrote them."""
    values = {"label": label if isinstance(label, list | bytes) else [label], "image_raw": raw or digits(1).tobytes()}
    return records.example(
        records.features({**values, "height": [height], "width": [width], "depth": [depth]})  # type: ignore[dict-item]
    )


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def read(examples: Path, split: str) -> list[tuple[bytes, int]]:
    """Pixels and label of each example of a split, as stored."""
    found = [example for file in sorted((examples / split).iterdir()) for example in records.read(file.read_bytes())]
    return [(example["image"][0], example["label"][0]) for example in found]


def rejects(examples: Path) -> list[str]:
    with open(examples / "rejects.csv", newline="") as file:
        return [row["reason"] for row in csv.DictReader(file)]


def content(examples: Path) -> dict[str, Counter]:
    return {split: Counter(read(examples, split)) for split in splits.SPLITS}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return mnist(tmp_path_factory.mktemp("idx") / "source")


@pytest.fixture(scope="module")
def ingested(source, tmp_path_factory):
    examples = tmp_path_factory.mktemp("ingested") / "examples"
    return examples, ingest("mnist", source, examples, {}, processes=1)


# What comes out.


def test_every_digit_comes_out_as_it_was(ingested):
    examples, schema = ingested
    given = zip(digits(TRAINING), labels(TRAINING), strict=True)
    tested = zip(digits(TESTED, seed=1), labels(TESTED), strict=True)
    assert Counter(read(examples, "test")) == Counter((image.tobytes(), label) for image, label in tested)
    learned = Counter(read(examples, "train")) + Counter(read(examples, "validation"))
    assert learned == Counter((image.tobytes(), label) for image, label in given)
    assert schema["counts"] == {"train": 180, "validation": 20, "test": TESTED, "rejected": 0}


def test_validation_is_held_out_of_training_with_the_same_share_of_each_class(ingested):
    examples, _ = ingested
    assert Counter(label for _, label in read(examples, "validation")) == dict.fromkeys(range(10), 2)
    assert not {image for image, _ in read(examples, "train")} & {image for image, _ in read(examples, "validation")}


def test_examples_are_shuffled_alike_every_time(source, ingested, tmp_path):
    examples, _ = ingested
    order = [label for _, label in read(examples, "train")]
    assert order != sorted(order) and order[:10] != list(range(10))
    ingest("mnist", source, tmp_path / "again", {}, processes=2)
    assert [label for _, label in read(tmp_path / "again", "train")] == order


def test_the_schema_holds_the_checksum_of_each_file(source, ingested):
    _, schema = ingested
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in source.iterdir()}
    assert schema["checksums"] == found and len(found) == 4


def test_unpacked_files_give_the_same(ingested, tmp_path):
    ingest("mnist", mnist(tmp_path / "source", packed=False), tmp_path / "examples", {}, processes=1)
    assert content(tmp_path / "examples") == content(ingested[0])


def test_a_file_that_was_unpacked_but_kept_its_name_is_read(source, ingested, tmp_path):
    folder = mnist(tmp_path / "source")
    packed = folder / "train-images-idx3-ubyte.gz"
    packed.write_bytes(gzip.decompress(packed.read_bytes()))
    ingest("mnist", folder, tmp_path / "examples", {}, processes=1)
    assert content(tmp_path / "examples") == content(ingested[0])


@pytest.mark.parametrize("names", [("train", "test"), ("training", "testing")])
def test_folders_of_pictures_give_the_same(ingested, tmp_path, names):
    for split, pixels in zip(names, (digits(TRAINING), digits(TESTED, seed=1)), strict=True):
        for number, (image, label) in enumerate(zip(pixels, labels(len(pixels)), strict=True)):
            path = tmp_path / "source" / split / str(label) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(image))
    schema = ingest("mnist", tmp_path / "source", tmp_path / "examples", {}, processes=1)
    found = content(tmp_path / "examples")
    assert found["test"] == content(ingested[0])["test"]
    assert schema["counts"] == ingested[1]["counts"]


def test_dark_ink_on_light_is_inverted(tmp_path):
    (tmp_path / "source" / "3").mkdir(parents=True)
    pixels = digits(20)
    for number, image in enumerate(pixels):
        (tmp_path / "source" / "3" / f"{number}.png").write_bytes(png(255 - image))
    ingest("mnist", tmp_path / "source", tmp_path / "examples", {}, processes=1)
    assert sum(content(tmp_path / "examples").values(), Counter()) == Counter((image.tobytes(), 3) for image in pixels)


def test_folders_without_splits_are_divided(tmp_path):
    for number, (image, label) in enumerate(zip(digits(100), labels(100), strict=True)):
        (tmp_path / "source" / str(label)).mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / str(label) / f"{number}.png").write_bytes(png(image))
    schema = ingest("mnist", tmp_path / "source", tmp_path / "examples", {}, processes=1)
    assert schema["counts"] == {"train": 80, "validation": 10, "test": 10, "rejected": 0}


def test_the_classic_records_keep_their_splits(tmp_path):
    pixels, folder = digits(120), tmp_path / "source"
    folder.mkdir()
    for name, part in {"train": range(80), "validation": range(80, 100), "test": range(100, 120)}.items():
        examples = [classic(label=i % 10, raw=pixels[i].tobytes()) for i in part]
        records.write(folder / f"{name}.tfrecords", examples)
    ingest("mnist", folder, tmp_path / "examples", {}, processes=1)
    for name, part in {"train": range(80), "validation": range(80, 100), "test": range(100, 120)}.items():
        assert Counter(read(tmp_path / "examples", name)) == Counter((pixels[i].tobytes(), i % 10) for i in part)


@pytest.mark.skipif(not FULL.is_dir(), reason="the full MNIST is not here")
def test_the_real_test_files_are_read(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for name in ("images-idx3", "labels-idx1"):  # The test digits play both parts: a seventh of the reading.
        for part in ("t10k", "train"):
            (folder / f"{part}-{name}-ubyte.gz").symlink_to(FULL / f"t10k-{name}-ubyte.gz")
    with pytest.raises(UserError, match="10,000 also among the source's test inputs"):
        ingest("mnist", folder, tmp_path / "examples", {})


def test_the_sample_is_mnists_files_with_digits_in_the_middle(tmp_path):
    sample.draw(tmp_path, sample.plan("digits", 120, seed=1)[0])
    pixels = np.frombuffer(gzip.decompress((tmp_path / "train-images-idx3-ubyte.gz").read_bytes())[16:], np.uint8)
    images = pixels.reshape(100, 28, 28).astype(float)
    places = np.arange(28)
    mass = images.sum(axis=(1, 2))
    for axis in (1, 2):
        centre = (images.sum(axis=3 - axis) * places).sum(axis=1) / mass
        assert np.abs(centre - 13.5).max() <= 2.0
        assert np.abs(centre - 13.5).mean() <= 0.5
    assert images.max() == 255 and (images[:, 0] == 0).all()


# What is left out.


def test_labels_outside_the_ten_digits_are_rejected(tmp_path):
    spoilt = labels(TRAINING)
    spoilt[:3] = (10, 255, 11)
    schema = ingest(
        "mnist", mnist(tmp_path / "source", train_labels=idx(spoilt)), tmp_path / "examples", {}, processes=1
    )
    assert schema["reject_reasons"] == {"label outside 0-9": 3}
    reasons = [f"label outside 0-9: '{label}'" for label in (10, 255, 11)]
    assert sorted(rejects(tmp_path / "examples")) == sorted(reasons)


def test_pictures_of_another_size_label_or_kind_are_rejected(tmp_path):
    folder = tmp_path / "source"
    for number, (image, label) in enumerate(zip(digits(100), labels(100), strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        (folder / str(label) / f"{number}.png").write_bytes(png(image))
    (folder / "x").mkdir()
    bad = {
        "0/large.png": png(digits(1)[0].repeat(2, axis=0)),
        "0/blank.png": png(np.zeros((28, 28), np.uint8)),
        "0/torn.png": png(digits(1)[0])[:300],
        "x/1.png": png(digits(1, seed=5)[0]),
        "1.png": png(digits(1, seed=6)[0]),
    }
    for name, data in bad.items():
        (folder / name).write_bytes(data)
    ingest("mnist", folder, tmp_path / "examples", {}, processes=1)
    with open(tmp_path / "examples" / "rejects.csv", newline="") as file:
        reasons = {row["location"]: row["reason"].partition(":")[0] for row in csv.DictReader(file)}
    assert reasons == {
        "0/large.png": "wrong size",
        "0/blank.png": "no writing in the image",
        "0/torn.png": "damaged image",
        "x/1.png": "label outside 0-9",
        "1.png": "label outside 0-9",
    }


def test_records_of_another_size_or_kind_are_rejected(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    good = [classic(label=i % 10, raw=pixels.tobytes()) for i, pixels in enumerate(digits(100))]
    bad = {
        "wrong size: 28 x 32 x 1": classic(height=32),
        "wrong size: 28 x 28 x 3": classic(depth=3),
        "wrong size: image_raw has not 784 bytes": classic(raw=b"short"),
        "label outside 0-9: '12'": classic(label=12),
        "label outside 0-9: '-1'": classic(label=b"three"),
    }
    records.write(folder / "digits.tfrecord", good + list(bad.values()))
    ingest("mnist", folder, tmp_path / "examples", {}, processes=1)
    assert sorted(rejects(tmp_path / "examples")) == sorted(bad)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


PACKED = gzip.compress(idx(digits(TRAINING)), mtime=0)
DAMAGED = {
    "magic": ({"train_images": b"\0\0\x08\x02" + bytes(100)}, "begins with 00000802, not with 00000803"),
    "labels for images": ({"train_images": idx(labels(TRAINING))}, "begins with 00000801, not with 00000803"),
    "page": ({"train_images": b"<html>"}, "begins with 3c68746d, not with 00000803"),
    "empty": ({"train_labels": b""}, "begins with nothing, not with 00000801"),
    "short header": ({"train_labels": b"\0\0\x08\x01\0\0"}, "no IDX file of labels"),
    "short body": (
        {"train_images": idx(digits(TRAINING))[:-1]},
        "156,799 bytes after its header, which promises",
    ),
    "long body": ({"train_images": idx(digits(TRAINING)) + b"x"}, "156,801 bytes after its header"),
    "counts": ({"train_labels": idx(labels(199))}, "200 images in train-images-idx3-ubyte.gz, but 199 labels in"),
    "torn gzip": ({"train_images": PACKED[:-200]}, "damaged gzip file"),
    "torn gzip header": ({"train_images": PACKED[:5]}, "damaged gzip file"),
    "flipped gzip": ({"train_images": flipped(PACKED, len(PACKED) // 2)}, "damaged gzip file"),
    "flipped gzip checksum": ({"train_images": flipped(PACKED, len(PACKED) - 6)}, "damaged gzip file"),
    "many dimensions": ({"train_images": b"\0\0\x08\x03" + b"\xff" * 12}, "0 bytes after its header, which promises"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_one_message_and_leaves_nothing(tmp_path, name):
    changed, message = DAMAGED[name]
    folder = mnist(tmp_path / "source", **changed)
    with pytest.raises(UserError) as error:
        ingest("mnist", folder, tmp_path / "out" / "examples", {}, processes=1)
    assert message in str(error.value)
    assert next(iter(changed)).replace("_", "-") in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_damaged_record_is_named_with_its_place(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    records.write(folder / "train.tfrecords", [classic()] * 3)
    whole = (folder / "train.tfrecords").read_bytes()
    (folder / "train.tfrecords").write_bytes(whole[: 2 * len(whole) // 3 + 40])
    with pytest.raises(UserError, match=r"train\.tfrecords: record 3: cut short"):
        ingest("mnist", folder, tmp_path / "examples", {}, processes=1)


def test_a_missing_or_doubled_file_is_named(tmp_path):
    folder = mnist(tmp_path / "source")
    (folder / "train-labels-idx1-ubyte.gz").rename(tmp_path / "labels.gz")
    with pytest.raises(UserError, match=r"there is train-images-idx3-ubyte\.gz, but no train-labels beside it"):
        ingest("mnist", folder, tmp_path / "examples", {})
    (folder / "old").mkdir()
    for name in ("train-labels-idx1-ubyte.gz", "old/train-labels-idx1-ubyte.gz"):
        (folder / name).write_bytes((tmp_path / "labels.gz").read_bytes())
    with pytest.raises(UserError, match=r"both .*; leave one of them"):
        ingest("mnist", folder, tmp_path / "examples", {})


def test_a_mistake_at_the_terminal_is_one_line_and_exit_code_2(tmp_path, stage):
    folder = mnist(tmp_path / "source", train_labels=idx(labels(199)))
    made = stage("trainer.ingest", "--system=mnist", f"--source={folder}", f"--examples={tmp_path}/examples")
    assert made.returncode == 2
    assert made.stderr == (
        f"error: {folder}: 200 images in train-images-idx3-ubyte.gz, but 199 labels in train-labels-idx1-ubyte.gz\n"
    )
    assert sorted(os.listdir(tmp_path)) == ["source"]


def test_reading_digits_needs_no_tensorflow():
    code = "import sys, images.trainer.systems.mnist.data; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_samples_are_test_digits_as_a_client_sends_them(ingested):
    examples, _ = ingested
    lines = [json.loads(line) for line in (examples / "samples.jsonl").read_text().splitlines()]
    assert len(lines) == TESTED
    assert {line["key"].partition("-")[0] for line in lines} == {"t10k"}
    assert all(set(line) == {"key", "label", "bytes_inputs"} for line in lines)
