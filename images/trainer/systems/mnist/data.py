"""Handwritten digits, as ingest reads them: MNIST's IDX files, the classic sample's TFRecords, or folders of images.

A digit is 28 x 28 greys, light ink (255) on dark (0), with its ink in the middle; dark ink on light is inverted. What
is of another size is not one of these and is rejected: how a picture of any size becomes one is for the serving graph.

Sources: yann.lecun.com/exdb/mnist (IDX); TensorFlow's how-to `convert_to_records.py` (the classic TFRecords).
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import math
import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from images.executor import UserError
from images.trainer import records, splits
from images.trainer.candidates import Candidate, Rejection, file_instance, instance_file
from images.trainer.pictures import COUNTED, ENOUGH, counted, decode_grey
from images.trainer.records import Value
from images.trainer.sources import Source

SIDE = 28
CLASSES = tuple("0123456789")

_IDX = re.compile(r"(?P<name>train|t10k)-(?P<kind>images|labels)[-.]idx(?P<dimensions>[13])-ubyte(\.gz)?")
_SPLIT_OF = {"t10k": splits.TEST, "training": splits.TRAIN, "testing": splits.TEST, **{at: at for at in splits.SPLITS}}
_DIMENSIONS = {"images": 3, "labels": 1}
_GZIP = b"\x1f\x8b\x08"
_MOST_BYTES = 1 << 30
_PICTURE_FOLDER_DEPTH = 2  # <label>/<name>.png
_NO_NUMBER = -1


class Digits:
    """The labels are known beforehand."""

    def encode(self, label: str) -> dict[str, Value]:
        """The class of a digit."""
        return {"label": [CLASSES.index(label)]}


class Data:
    """Reads digits from a source, whose IDX or TFRecord files it keeps in memory: all of MNIST is 55 MB."""

    group_name = "group"
    stratified = True
    columns = COUNTED
    enough = ENOUGH
    answer = "class"

    def __init__(self) -> None:
        self._checksums: dict[str, str] = {}
        self._pixels: dict[str, Sequence[Any]] = {}

    def candidates(self, source: Source) -> Iterator[Candidate]:
        """Lists the digits, in the order of their files.

        Raises:
            UserError: nothing in the source is of a known format, or a file of it is damaged.
        """
        idx = [name for name in source.names if _IDX.fullmatch(PurePosixPath(name).name)]
        tables = [name for name in source.names if name.endswith((".tfrecord", ".tfrecords"))]
        pictures = [name for name in source.names if name.lower().endswith((".png", ".jpg", ".jpeg"))]
        if idx:
            return self._idx(source, idx)
        if tables:
            return self._tfrecords(source, tables)
        if pictures:
            return self._folders(source, pictures)
        raise UserError(
            f"{source.root}: none of its {len(source.names)} files is train-images-idx3-ubyte(.gz), "
            "*.tfrecord(s) or <label>/<name>.png"
        )

    def original(self, source: Source, candidate: Candidate) -> bytes:
        """The image file, or the digit as one; raises Rejection or FileNotFoundError."""
        if candidate.location not in self._pixels:
            return source.read(candidate.location)
        return _png(self._pixels[candidate.location][_index(candidate.key)])

    instance = staticmethod(file_instance)
    decoded = staticmethod(decode_grey)
    row = staticmethod(counted)

    def received(self, instance: Any) -> bytes:
        """The image file, also of a digit in the classic form of request; raises Rejection."""
        inputs = instance.get("inputs") if isinstance(instance, dict) else instance
        if not isinstance(inputs, list):
            return instance_file(instance)
        try:
            greys = np.clip(np.asarray(inputs, float).reshape(SIDE, SIDE), 0, 1)
        except (TypeError, ValueError) as error:
            raise Rejection("no digit in the request", str(error)) from None
        return _png(np.nan_to_num(255 * greys).round())

    def number(self, label: str) -> float:
        """The digit."""
        return float(CLASSES.index(label))

    def features(self, candidate: Candidate, decoded: Image.Image) -> dict[str, Value]:
        """The digit as 28 x 28 uint8 greys, row by row; raises Rejection when it is no digit or has no ink."""
        if decoded.size != (SIDE, SIDE):
            raise Rejection("wrong size", f"{decoded.width} x {decoded.height}, not {SIDE} x {SIDE}")
        darkest, lightest = decoded.getextrema()
        if darkest == lightest:
            raise Rejection("no writing in the image", f"every pixel is {darkest}")
        pixels = decoded.tobytes()
        dark_on_light = 2 * sum(pixels) > 255 * len(pixels)  # Paper is the larger part of a digit's picture.
        return {"image": bytes(255 - value for value in pixels) if dark_on_light else pixels}

    def learn(self, training: Sequence[Candidate]) -> Digits:
        """Nothing is to be learned: the classes are known."""
        return Digits()

    def schema(self, labels: Digits, kept: Sequence[str], left_out: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """The image's shape, the classes, and the SHA-256 of each file that was read whole."""
        return {
            "image": {"height": SIDE, "width": SIDE, "channels": 1},
            "classes": list(CLASSES),
            "checksums": dict(sorted(self._checksums.items())),
            "features": {
                "image": {"dtype": "uint8", "shape": [SIDE, SIDE], "encoding": "raw bytes"},
                "label": {"dtype": "int64", "shape": []},
                "key": {"dtype": "string", "shape": []},
            },
        }

    def _idx(self, source: Source, names: Sequence[str]) -> Iterator[Candidate]:
        files: dict[tuple[str, ...], str] = {}
        for name in names:
            other = files.setdefault(_match(name).group("name", "kind"), name)
            if name not in (other, f"{other}.gz"):  # Whoever unpacks a file beside itself has it twice.
                raise UserError(f"{source.root}: both {other} and {name}; leave one of them")
        for part in sorted({name for name, _ in files}, reverse=True):
            for kind in _DIMENSIONS:
                if (part, kind) not in files:
                    other = files[part, next(iter(_DIMENSIONS.keys() - {kind}))]
                    raise UserError(f"{source.root}: there is {other}, but no {part}-{kind} beside it")
            images, labels = files[part, "images"], files[part, "labels"]
            pixels, classes = self._array(source, images, "images"), self._array(source, labels, "labels")
            if len(pixels) != len(classes):
                raise UserError(
                    f"{source.root}: {len(pixels):,} images in {images}, but {len(classes):,} labels in {labels}"
                )
            self._pixels[images] = pixels
            for index, label in enumerate(classes):
                yield _candidate(f"{part}-{index:05d}", images, int(label), _SPLIT_OF[part])

    def _array(self, source: Source, name: str, kind: str) -> Any:
        data = self._whole(source, name)
        dimensions = _DIMENSIONS[kind]
        header = 4 + 4 * dimensions
        if len(data) < header or data[:4] != bytes((0, 0, 8, dimensions)):
            raise UserError(
                f"{source.root / name}: begins with {data[:4].hex() or 'nothing'}, not with {0x800 + dimensions:08x}: "
                f"no IDX file of {kind}"
            )
        shape = struct.unpack(f">{dimensions}I", data[4:header])
        if len(data) - header != math.prod(shape):
            raise UserError(
                f"{source.root / name}: {len(data) - header:,} bytes after its header, which promises "
                f"{math.prod(shape):,}; fetch it again"
            )
        return np.frombuffer(data, np.uint8, offset=header).reshape(shape)

    def _whole(self, source: Source, name: str) -> bytes:
        data = source.read(name)
        self._checksums[name] = hashlib.sha256(data).hexdigest()
        if not data.startswith(_GZIP):  # Browsers unpack files and leave their names.
            return data
        try:
            with gzip.open(io.BytesIO(data)) as file:
                content = file.read(_MOST_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{source.root / name}: damaged gzip file ({error}); fetch it again") from None
        if len(content) > _MOST_BYTES:
            raise UserError(f"{source.root / name}: more than {_MOST_BYTES:,} bytes; no MNIST is so large")
        return content

    def _tfrecords(self, source: Source, names: Sequence[str]) -> Iterator[Candidate]:
        for name in names:
            part = re.split(r"[^a-z]", PurePosixPath(name).name)[0]
            pixels: list[Any] = []
            self._pixels[name] = pixels
            try:
                for example in records.read(self._whole(source, name)):
                    label, digit = _classic(example)
                    pixels.append(digit)
                    key = f"{name}-{len(pixels) - 1:05d}"
                    yield _candidate(key, name, label, _SPLIT_OF.get(part, ""), digit)
            except records.Damaged as error:
                raise UserError(f"{source.root / name}: record {len(pixels) + 1}: {error}") from None

    def _folders(self, source: Source, names: Sequence[str]) -> Iterator[Candidate]:
        for name in names:
            parts = PurePosixPath(name).parts
            label = parts[-_PICTURE_FOLDER_DEPTH] if len(parts) >= _PICTURE_FOLDER_DEPTH else ""
            split = _SPLIT_OF.get(parts[-3], "") if len(parts) > _PICTURE_FOLDER_DEPTH else ""
            yield Candidate(name, name, label, split=split, fault=_label_fault(label))


def _png(pixels: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _match(name: str) -> re.Match[str]:
    match = _IDX.fullmatch(PurePosixPath(name).name)
    assert match is not None
    return match


def _candidate(key: str, location: str, label: int, split: str, digit: Any = b"") -> Candidate:
    fault = digit if isinstance(digit, Rejection) else _label_fault(str(label))
    return Candidate(key, location, str(label), split=split, fault=fault)


def _label_fault(label: str) -> Rejection | None:
    return None if label in CLASSES else Rejection("label outside 0-9", repr(label))


def _classic(example: Mapping[str, Sequence[Any]]) -> tuple[int, Any]:
    """Label and pixels of one example of the classic sample; a Rejection in place of pixels that are none."""
    label, height, width, depth = (_whole_number(example, name) for name in ("label", "height", "width", "depth"))
    raw = (example.get("image_raw") or [b""])[0]
    if (height, width, depth) != (SIDE, SIDE, 1):
        return label, Rejection("wrong size", f"{width} x {height} x {depth}")
    if not isinstance(raw, bytes) or len(raw) != SIDE * SIDE:
        return label, Rejection("wrong size", f"image_raw has not {SIDE * SIDE} bytes")
    return label, np.frombuffer(raw, np.uint8).reshape(SIDE, SIDE)


def _whole_number(example: Mapping[str, Sequence[Any]], name: str) -> int:
    values = example.get(name)
    return values[0] if values and isinstance(values[0], int) else _NO_NUMBER


def classic_instance(instance: Mapping[str, Any]) -> dict[str, Any]:
    """A digit in the classic form of request.

    Args:
        instance: a PNG of 28 x 28, as `Data.instance` gives it.

    Returns:
        `inputs`: 784 numbers from 0 to 1, row by row; the rest, such as `key`, as it was.
    """
    grey = decode_grey(base64.b64decode(instance["bytes_inputs"]["b64"]))
    inputs = [round(value / 255, 4) for value in grey.tobytes()]
    return {"inputs": inputs, **{name: value for name, value in instance.items() if name != "bytes_inputs"}}


def _index(key: str) -> int:
    return int(key.rpartition("-")[2])


def data(settings: Mapping[str, int]) -> Data:
    """This system's format; it has no settings.

    Raises:
        UserError: one is given.
    """
    for name, value in settings.items():
        raise UserError(f"--{name}={value}: digits are always {SIDE} x {SIDE}; leave it out")
    return Data()
