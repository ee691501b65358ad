"""Pictures with boxes, as ingest reads them: Pascal VOC's XML beside pictures, the Oxford-IIIT Pet layout, or records
of the Object Detection API.

Every picture is scaled to fit the canvas, aspect kept, and lies in its middle on grey; its boxes move along. They are
stored in pixels of the canvas, as many rows for every picture as the fullest one needs: all examples have one shape,
which readers take as it is and accelerators compile once. What is wrong with a box is listed in rejects.csv, and the
picture is used with its other boxes; one that has lost all of them is left out, since what it shows would be learned as
background.

Sources: host.robots.ox.ac.uk/pascal/VOC; robots.ox.ac.uk/~vgg/data/pets; object_detection/dataset_tools in
github.com/tensorflow/models (names of features, classes of the pets).
"""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from images.executor import UserError
from images.trainer import records, splits
from images.trainer.candidates import Candidate, Rejection, file_instance, instance_file
from images.trainer.pictures import COUNTED, ENOUGH, counted, decode_colour, size_of
from images.trainer.records import Value
from images.trainer.sources import Source
from images.trainer.systems.detection import annotations, textproto
from images.trainer.systems.detection.annotations import Annotation, Box, Malformed, Object
from images.trainer.systems.detection.boxes import Letterbox

HEIGHT = WIDTH = 128
GREY = 128
NOTHING = "nothing"

_OVERHANG = 1.0  # pixels; whoever counts from 0, or names the pixel after the last, is so far outside.
_SMALLEST = 1.0  # pixels of the picture
_PICTURES = (".jpg", ".jpeg", ".png")
_RECORDS = (".tfrecord", ".tfrecords", ".record")
_PETS = "OXIIIT"
_BREED = re.compile(r"(?P<breed>.+)_\d+")
_NO_PET = 2  # a trimap's value of background; 1 is the pet, 3 its outline
_SPLIT_OF = {
    "train": splits.TRAIN,
    "val": splits.VALIDATION,
    "validation": splits.VALIDATION,
    "test": splits.TEST,
}
_LARGEST_CANVAS = 4096


class Listed(NamedTuple):
    """A picture that the source describes.

    Attributes:
        key: its name, unique in the source.
        location: the file that holds it.
        described: the file that describes it.
        annotation: what that says; None where it is unreadable, with the reason in `fault`.
        size: (width, height) that the picture's own header gives; None where it cannot be read.
        fault: why it cannot be used.
    """

    key: str
    location: str
    described: str
    annotation: Annotation | None
    size: tuple[int, int] | None = None
    fault: Rejection | None = None


class Framed(NamedTuple):
    """An object that is used: the number of its class, and its box inside the picture."""

    number: int
    box: Box
    difficult: bool
    truncated: bool


class Extent(NamedTuple):
    """Where in its file a record lies."""

    offset: int
    size: int


class Classes:
    """The classes that the training split shows.

    Args:
        known: labels of its pictures, as the numbers of the classes that they name.
        numbers: the same of all pictures.
        names: of the classes.
    """

    def __init__(self, known: Iterable[str], numbers: Mapping[str, tuple[int, ...]], names: Sequence[str]) -> None:
        self._known = {number for label in known for number in numbers[label]}
        self._numbers, self._names = numbers, names

    def encode(self, label: str) -> dict[str, Value]:
        """Nothing that the features do not hold already; raises Rejection for a class that is not learned."""
        for number in self._numbers[label]:
            if number not in self._known:
                raise Rejection("class not in the training split", self._names[number])
        return {}


class Data:
    """Reads pictures and their boxes.

    Args:
        height: of the canvas, pixels.
        width: of the canvas, pixels.
        faces_only: of pets the box of the face; else that of the whole animal, from its trimap.
    """

    group_name = "image"
    stratified = False
    identity = "image"
    columns = COUNTED
    enough = ENOUGH
    answer = "objects"

    def __init__(self, height: int = HEIGHT, width: int = WIDTH, faces_only: bool = True) -> None:
        self._canvas, self._faces_only = (height, width), faces_only
        self._names: list[str] = []
        self._framed: dict[str, tuple[Framed, ...]] = {}
        self._numbers: dict[str, tuple[int, ...]] = {}
        self._most = 1
        self._sides: list[float] = []
        self._clipped = 0
        self._extents: dict[str, tuple[str, Extent]] = {}

    def candidates(self, source: Source) -> Iterator[Candidate]:
        """Lists the pictures, and each box that cannot be used as it is.

        Raises:
            UserError: nothing in the source is of a known format, or its label map is unreadable.
        """
        names = [name for name in source.names if not name.rpartition("/")[2].startswith(".")]
        tables = [name for name in names if name.lower().endswith(_RECORDS)]
        if any(name.lower().endswith(".xml") for name in names):
            listed = list(self._voc(source, names))
        elif tables:
            listed = list(self._records(source, tables))
        else:
            raise UserError(
                f"{source.root}: none of its {len(source.names)} files is an annotation in VOC's XML "
                "or a *.record of the Object Detection API"
            )
        chosen = _label_map(source, names)
        found = {each.name for one in listed if one.annotation for each in one.annotation.objects if each.name}
        self._names = chosen or sorted(found)
        given = _image_sets(source, names)
        for each in listed:
            yield from self._candidates_of(each, given)
        self._most = max((len(framed) for framed in self._framed.values()), default=1) or 1

    def original(self, source: Source, candidate: Candidate) -> bytes:
        """The image file; raises FileNotFoundError."""
        if candidate.key not in self._extents:
            return source.read(candidate.location)
        file, extent = self._extents[candidate.key]
        return _encoded(records.parse(source.read(file, extent.offset, extent.size)))

    instance = staticmethod(file_instance)
    received = staticmethod(instance_file)
    decoded = staticmethod(decode_colour)
    row = staticmethod(counted)

    def number(self, label: str) -> float:
        """How many objects it names."""
        return 0.0 if label == NOTHING else float(label.count(", ") + 1)

    def features(self, candidate: Candidate, decoded: Image.Image) -> dict[str, Value]:
        """The picture in its canvas, uint8 colours row by row, and its boxes."""
        letterbox = Letterbox.of((decoded.height, decoded.width), self._canvas)
        scaled = decoded.resize(letterbox.scaled[::-1], Image.Resampling.BILINEAR)
        canvas = Image.new("RGB", self._canvas[::-1], (GREY, GREY, GREY))
        canvas.paste(scaled, letterbox.offset[::-1])
        framed = self._framed[candidate.key]
        rest = self._most - len(framed)
        return {
            "image": canvas.tobytes(),
            "size": [decoded.height, decoded.width],
            "boxes": [side for each in framed for side in letterbox.into(each.box)] + [0.0] * 4 * rest,
            "classes": [each.number for each in framed] + [-1] * rest,
            "difficult": [int(each.difficult) for each in framed] + [0] * rest,
            "truncated": [int(each.truncated) for each in framed] + [0] * rest,
        }

    def learn(self, training: Sequence[Candidate]) -> Classes:
        """Which classes there are to learn from."""
        return Classes((each.label for each in training), self._numbers, self._names)

    def schema(self, labels: Classes, kept: Sequence[str], left_out: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """The canvas, the classes and how often each is there, how large boxes are, and the features."""
        height, width = self._canvas
        counts = Counter(number for label in kept for number in self._numbers[label])
        sides = np.array(self._sides or [0.0])
        quantiles = dict(
            zip(("least", "quarter", "median", "three_quarters", "most"), (0, 25, 50, 75, 100), strict=True)
        )
        return {
            "image": {"height": height, "width": width, "channels": 3},
            "classes": self._names,
            "class_counts": {name: counts[number] for number, name in enumerate(self._names)},
            "boxes": {
                "most_in_a_picture": self._most,
                "clipped": self._clipped,
                # Square roots of areas, as shares of the longer side of the canvas that the picture fills.
                "side": {name: round(float(np.percentile(sides, at)), 4) for name, at in quantiles.items()},
            },
            "features": {
                "image": {"dtype": "uint8", "shape": [height, width, 3], "encoding": "raw bytes"},
                "size": {"dtype": "int64", "shape": [2]},
                "boxes": {"dtype": "float32", "shape": [self._most, 4]},
                "classes": {"dtype": "int64", "shape": [self._most]},
                "difficult": {"dtype": "int64", "shape": [self._most]},
                "truncated": {"dtype": "int64", "shape": [self._most]},
                "key": {"dtype": "string", "shape": []},
            },
        }

    def _voc(self, source: Source, names: Sequence[str]) -> Iterator[Listed]:
        pictures = _by_stem(name for name in names if name.lower().endswith(_PICTURES) and "trimaps/" not in name)
        read = [(name, *_read_xml(source, name)) for name in names if name.lower().endswith(".xml")]
        pets = any(annotation and annotation.database.startswith(_PETS) for _, annotation, _ in read)
        if pets and not self._faces_only:
            yield from _whole_pets(source, names, pictures)
            return
        for name, annotation, fault in read:
            stem = _stem(name)
            said = (annotation.file if annotation else "").replace("\\", "/").rpartition("/")[2]
            location = pictures.get(stem) or pictures.get(_stem(said)) or said or stem
            if pets and annotation is not None:
                annotation = _of_breed(annotation, _stem(location))
            yield Listed(name[: -len(".xml")], location, name, annotation, _size(source, location), fault)

    def _records(self, source: Source, tables: Sequence[str]) -> Iterator[Listed]:
        for table in tables:
            data = source.read(table)
            try:
                for number, (offset, size) in enumerate(records.extents(data)):
                    key = f"{table}#{number}"
                    features = records.parse(data[offset : offset + size])
                    self._extents[key] = table, Extent(offset, size)
                    yield _of_features(key, table, features)
            except records.Damaged as damage:
                raise UserError(f"{source.root / table}: {damage}") from None

    def _candidates_of(self, listed: Listed, given: Mapping[str, str]) -> Iterator[Candidate]:
        fault, annotation = listed.fault, listed.annotation
        kept: list[Framed] = []
        if annotation is not None and listed.size is not None:
            fault = fault or _wrong_size(annotation, listed.size)
        if annotation is not None and fault is None:
            size = listed.size or annotation.size or (math.inf, math.inf)
            for number, thing in enumerate(annotation.objects, start=1):
                framed, why = self._checked(thing, size, kept)
                kept += [framed] if framed else []
                if why is not None:
                    self._clipped += framed is not None
                    where = Rejection(why.reason, f"object {number}: {why.detail}".rstrip(": "), why.counts)
                    yield Candidate(f"{listed.key}#{number}", listed.described, thing.name, fault=where)
            if annotation.objects and not kept:
                fault = Rejection("no usable box", f"none of {len(annotation.objects)}")
            elif listed.size:
                longer = max(listed.size)
                self._sides += [math.sqrt((box[2] - box[0]) * (box[3] - box[1])) / longer for _, box, *_ in kept]
        numbers = tuple(sorted(each.number for each in kept))
        label = "" if fault else ", ".join(self._names[number] for number in numbers) or NOTHING
        self._framed[listed.key], self._numbers[label] = tuple(kept), numbers
        split = given.get(_stem(listed.location), "")
        yield Candidate(listed.key, listed.location, label, split=split, fault=fault)

    def _checked(
        self, thing: Object, size: tuple[float, float], earlier: Sequence[Framed]
    ) -> tuple[Framed | None, Rejection | None]:
        """The object as it is used, if it is, and what was wrong with it, if anything was."""
        if thing.name not in self._names:
            known = ", ".join(self._names[:10])
            return None, Rejection("unknown class", f"{thing.name or 'no name'}; the label map has {known}")
        if thing.box is None:
            return None, Rejection("box without four numbers")
        width, height = size
        top, left, bottom, right = thing.box
        if bottom < top or right < left:
            return None, Rejection("box inverted", _said(thing.box))
        if bottom == top or right == left:
            return None, Rejection("box empty", _said(thing.box, size))
        if bottom <= 0 or right <= 0 or top >= height or left >= width:
            return None, Rejection("box outside the image", _said(thing.box, size))
        box = (max(top, 0.0), max(left, 0.0), min(bottom, height), min(right, width))
        if box[2] - box[0] < _SMALLEST or box[3] - box[1] < _SMALLEST:
            return None, Rejection("box empty", _said(thing.box, size))
        framed = Framed(self._names.index(thing.name), box, thing.difficult, thing.truncated)
        if any(other.box == box and other.number == framed.number for other in earlier):
            return None, Rejection("box listed twice", _said(thing.box, size))
        if box != thing.box and max(abs(was - now) for was, now in zip(thing.box, box, strict=True)) > _OVERHANG:
            return framed, Rejection("box reaches outside the image; clipped", _said(thing.box, size), counts=False)
        return framed, None


def data(settings: Mapping[str, int]) -> Data:
    """The format with these settings: `height` and `width` of the canvas, pixels; `faces_only`, 0 or 1.

    Raises:
        UserError: a setting is out of its bounds.
    """
    for name in ("height", "width"):
        if name in settings and not (32 <= settings[name] <= _LARGEST_CANVAS and settings[name] % 32 == 0):
            raise UserError(f"--{name}={settings[name]}: must be a multiple of 32, from 32 to {_LARGEST_CANVAS}")
    return Data(
        settings.get("height", HEIGHT), settings.get("width", WIDTH), faces_only=bool(settings.get("faces_only", 1))
    )


def _said(box: Box, size: tuple[float, float] | None = None) -> str:
    """A box in words, and the size of its picture."""
    top, left, bottom, right = box
    of_size = f" of {size[0]:g} x {size[1]:g}" if size else ""
    return f"ymin {top:g} xmin {left:g} ymax {bottom:g} xmax {right:g}{of_size}"


def _read_xml(source: Source, name: str) -> tuple[Annotation | None, Rejection | None]:
    try:
        return annotations.of_voc(source.read(name)), None
    except Malformed as error:
        return None, Rejection("annotation cannot be read", str(error))


def _of_features(key: str, table: str, features: Mapping[str, Sequence[Any]]) -> Listed:
    size = size_of(_encoded(features))
    try:
        annotation = annotations.of_record(features, size or (1, 1))
    except Malformed as error:
        return Listed(key, table, table, None, size, Rejection("annotation cannot be read", str(error)))
    return Listed(key, table, table, annotation, size)


def _encoded(features: Mapping[str, Sequence[Any]]) -> bytes:
    return bytes((features.get("image/encoded") or [b""])[0])


def _wrong_size(annotation: Annotation, size: tuple[int, int]) -> Rejection | None:
    """Boxes drawn in a picture of another size are not where they belong. Many tools leave the size out, or 0."""
    if annotation.size is None or annotation.size == size:
        return None
    said = f"annotated {annotation.size[0]} x {annotation.size[1]}, the image has {size[0]} x {size[1]}"
    return Rejection("wrong image size in the annotation", said)


def _size(source: Source, location: str) -> tuple[int, int] | None:
    """(width, height) from the picture's header; None if there is no such file or header."""
    if location not in source:
        return None
    for beginning in (1 << 12, 1 << 16, None):  # Some cameras put a small picture before it.
        if size := size_of(source.read(location, 0, beginning)):
            return size
    return None


def _stem(name: str) -> str:
    """A path's last part without its suffix."""
    last = name.rpartition("/")[2]
    return last.rpartition(".")[0] or last


def _by_stem(names: Iterable[str]) -> dict[str, str]:
    """Pictures by their name without folder and suffix; of several the one in the uppermost folder."""
    found: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (-name.count("/"), name)):
        found[_stem(name)] = name
    return found


def _of_breed(annotation: Annotation, stem: str) -> Annotation:
    """A pet's class is its breed, which only the name of its file says."""
    match = _BREED.fullmatch(stem)
    breed = match["breed"] if match else ""
    return annotation._replace(objects=tuple(each._replace(name=breed) for each in annotation.objects))


def _whole_pets(source: Source, names: Iterable[str], pictures: Mapping[str, str]) -> Iterator[Listed]:
    for name in names:
        if "trimaps/" not in name or not name.endswith(".png"):
            continue
        stem = _stem(name)
        location = pictures.get(stem, f"{stem}.jpg")
        try:
            mask = np.asarray(Image.open(io.BytesIO(source.read(name)), formats=("PNG",))) != _NO_PET
        except Exception as error:  # Damaged files make decoders raise almost anything.
            fault = Rejection("annotation cannot be read", str(error))
            yield Listed(stem, location, name, None, _size(source, location), fault)
            continue
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        box = (float(rows[0]), float(columns[0]), float(rows[-1] + 1), float(columns[-1] + 1)) if rows.size else None
        annotation = Annotation(name, (mask.shape[1], mask.shape[0]), (Object("", box),))
        yield Listed(stem, location, name, _of_breed(annotation, stem), _size(source, location))


def _label_map(source: Source, names: Iterable[str]) -> list[str]:
    """Names of classes in the order of their ids; empty where no file says so.

    Raises:
        UserError: it is not in the text format of protocol buffers, or an item lacks its name or id.
    """
    for name in names:
        if not name.endswith(".pbtxt"):
            continue
        try:
            items = [dict(item) for item in textproto.values(textproto.parse(source.text(name)), "item")]
            found = {int(item["id"]): str(item["name"]).strip() for item in items}
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{source.root / name}: no label map ({error}); give items with id and name") from None
        if found:
            return [found[number] for number in sorted(found)]
    return []


def _image_sets(source: Source, names: Iterable[str]) -> dict[str, str]:
    """The splits that `ImageSets`, or the pets' lists, put pictures in, by the picture's name without suffix."""
    given: dict[str, str] = {}
    for path in (PurePosixPath(name) for name in names if name.endswith(".txt")):
        split = _SPLIT_OF.get(path.stem)
        if split and {"ImageSets", "annotations"} & set(path.parts):
            for line in source.text(str(path)).splitlines():
                if line.strip() and not line.startswith("#"):
                    given[line.split()[0]] = split
    return given
