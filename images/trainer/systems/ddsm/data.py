"""Mammograms with the density of the breast, as ingest reads them, in any of three forms:

- the case descriptions of CBIS-DDSM (`*_case_description_*.csv`) beside images named by case, such as
  `Calc-Test_P_00041_LEFT_MLO.png` or `.dcm`, or in a folder of that name, as the archive gives them;
- `<density>_<anything>.png` (or `.dcm`);
- TFRecords of `image` (raw float32, 0 to 65535, as large as the network's image) and `label` (0 to 3).

An example is a picture of 8-bit greys with the breast against the left edge: of the two halves of a picture the one
with less light is made the right one, by mirroring, which the example notes. It is scaled, aspect kept and without
aliasing, to fit the network's image, and padded with black on the right and below.

Sources: Lee et al., "A curated mammography data set for use in computer-aided detection and diagnosis research"
(2017); the NUS-MIT datathon's tutorial on CBIS-DDSM (github.com/GoogleCloudPlatform/healthcare, datathon), whose files
the last two forms are.
"""

from __future__ import annotations

import collections
import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from images.executor import UserError
from images.trainer import pictures, records, splits
from images.trainer.candidates import NO_FILE, Candidate, Rejection, file_instance, instance_file
from images.trainer.records import Value
from images.trainer.sources import Source
from images.trainer.systems.ddsm import dicom
from images.trainer.systems.ddsm.densities import CLASSES

HEIGHT, WIDTH = 128, 95  # pixels, unless the settings say otherwise
LARGEST = 1_000_000  # bytes of a file that a client sends: a request takes 1.5 MB, and base64 adds a third

_PICTURES = (".png", ".dcm")
_RECORDS = (".tfrecord", ".tfrecords")
_DENSITY = ("breast_density", "breast density")
_SIDE, _VIEW, _PATIENT, _FILE = "left or right breast", "image view", "patient_id", "image file path"
_CASE = re.compile(r"(?P<patient>P_\d+)_(?P<side>LEFT|RIGHT)_(?P<view>CC|MLO)")
_LESION = re.compile(r".+_(CC|MLO)_\d+")
"""The archive's folders of crops and masks, beside those of the whole films."""
_OF_SPLIT = {"Test": splits.TEST, "Training": splits.TRAIN}
_OFFICIAL = re.compile(r"(?:Calc|Mass)-(Test|Training)_")


class Film(NamedTuple):
    """One picture: whose, of which breast, in which view."""

    patient: str
    side: str
    view: str

    def __str__(self) -> str:
        return "_".join(self)

    def notes(self) -> dict[str, Value]:
        """What an example says of it beside its pixels."""
        return {name: value.encode() for name, value in self._asdict().items()}


UNKNOWN = Film("", "", "")


class Densities:
    """The four densities, and how much each weighs: all together the same in the training split."""

    def __init__(self, training: Sequence[str]) -> None:
        counts = collections.Counter(training)
        self.weights = {
            name: len(training) / (len(counts) * counts[name]) if name in counts else 0.0 for name in CLASSES
        }

    def encode(self, label: str) -> dict[str, Value]:
        """The class of a density and its weight."""
        return {"label": [CLASSES.index(label)], "weight": [self.weights[label]]}


class Data:
    """Reads mammograms from a source; of TFRecords, the files it reads stay in memory."""

    group_name = "patient"
    stratified = True
    identity = "image"
    columns = pictures.COUNTED
    enough = pictures.ENOUGH
    answer = "class"

    def __init__(self, height: int, width: int) -> None:
        self._height, self._width = height, width
        self._tables: dict[str, list[bytes | Rejection]] = {}

    def candidates(self, source: Source) -> Iterator[Candidate]:
        """Lists the mammograms; raises UserError when nothing in the source is of a known form."""
        descriptions = [name for name in source.names if name.lower().endswith(".csv")]
        tables = [name for name in source.names if name.endswith(_RECORDS)]
        images = [name for name in source.names if name.lower().endswith(_PICTURES)]
        rows = [row for name in descriptions for row in _rows(source, name)]
        if rows:
            return _described(rows, images)
        if tables:
            return self._tfrecords(source, tables)
        if images:
            return _named(images)
        raise UserError(
            f"{source.root}: none of its {len(source.names)} files is a case description (.csv with {_DENSITY[0]} and "
            f"{_FILE}), <density>_<name>.png or .dcm, or .tfrecord(s)"
        )

    def original(self, source: Source, candidate: Candidate) -> bytes:
        """The image file, or of a TFRecord its greys as one; raises Rejection or FileNotFoundError."""
        if candidate.location not in self._tables:
            return source.read(candidate.location)
        raw = self._tables[candidate.location][int(candidate.key.rpartition("-")[2])]
        if isinstance(raw, Rejection):
            raise raw
        return raw

    def instance(self, original: bytes) -> dict[str, Any]:
        """The file as a client sends it; of one too large for a request and of compressed DICOM what the network sees,
        as PNG."""
        if len(original) <= LARGEST and (not dicom.is_dicom(original) or dicom.is_plain(original)):
            return file_instance(original)
        image, _ = prepared(self.decoded(original), self._height, self._width)
        return file_instance(_png(image))

    received = staticmethod(instance_file)

    def decoded(self, original: bytes) -> pictures.Deep:
        """The greys of a PNG, JPEG or DICOM file; raises Rejection."""
        return dicom.decode_deep(original) if dicom.is_dicom(original) else pictures.decode_deep(original)

    def row(self, decoded: pictures.Deep) -> tuple[float, ...]:
        """What can be counted of the picture."""
        return pictures.counted(*decoded)

    def number(self, label: str) -> float:
        """The density."""
        return float(CLASSES.index(label) + 1)

    def features(self, candidate: Candidate, decoded: pictures.Deep) -> dict[str, Value]:
        """The picture as uint8 greys, row by row, and whether it was mirrored; raises Rejection."""
        columns, rows = decoded.image.size
        middle = decoded.image.crop((0, rows // 2, columns, rows // 2 + 1))
        if _even(middle) and _even(decoded.image):  # A row is quickly read.
            darkest, _ = middle.getextrema()
            raise Rejection("nothing in the image", f"every pixel is {darkest:.0f} of {decoded.highest}")
        image, mirrored = prepared(decoded, self._height, self._width)
        return {"image": image.tobytes(), "mirrored": [int(mirrored)]}

    def learn(self, training: Sequence[Candidate]) -> Densities:
        """How rare each density is."""
        return Densities([candidate.label for candidate in training])

    def summary(self, features: Mapping[str, Any]) -> tuple[int, int, int]:
        """How many pixels there are, the sum of their greys, and that of the squares."""
        greys = np.frombuffer(features["image"], np.uint8).astype(np.int64)
        return len(greys), int(greys.sum()), int(greys @ greys)

    def statistics(self, training: Iterable[tuple[int, int, int]]) -> dict[str, Any]:
        """Mean and standard deviation of the training split's greys, 0 to 255."""
        count, total, squares = (sum(column) for column in zip(*training, strict=True))
        mean = total / count
        return {"pixels": {"mean": mean, "deviation": math.sqrt(max(0.0, squares / count - mean**2))}}

    def schema(self, labels: Densities, kept: Sequence[str], left_out: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """The image's shape, the densities, how often each is there and what it weighs."""
        shape = [self._height, self._width]
        return {
            "image": {"height": self._height, "width": self._width, "channels": 1},
            "classes": list(CLASSES),
            "class_counts": {name: kept.count(name) for name in CLASSES},
            "class_weights": labels.weights,
            "features": {
                "image": {"dtype": "uint8", "shape": shape, "encoding": "raw bytes, the breast against the left edge"},
                "mirrored": {"dtype": "int64", "shape": []},
                "label": {"dtype": "int64", "shape": []},
                "weight": {"dtype": "float32", "shape": []},
                **{name: {"dtype": "string", "shape": []} for name in (*Film._fields, "key")},
            },
        }

    def _tfrecords(self, source: Source, names: Sequence[str]) -> Iterator[Candidate]:
        for name in names:
            part = re.split(r"[^a-z]", _stem(name))[0]
            split = {"train": splits.TRAIN, "test": splits.TEST, "eval": splits.TEST}.get(part, "")
            found: list[bytes | Rejection] = []
            self._tables[name] = found
            try:
                for example in records.read(source.read(name)):
                    label = example.get("label") or [-1]
                    density = str(int(label[0]) + 1) if isinstance(label[0], int) else ""
                    found.append(self._of_record(example))
                    key = f"{name}-{len(found) - 1:05d}"
                    yield Candidate(key, name, density, split=split, fault=_fault(density), notes=UNKNOWN.notes())
            except records.Damaged as error:
                raise UserError(f"{source.root / name}: record {len(found) + 1}: {error}") from None

    def _of_record(self, example: Mapping[str, Sequence[Any]]) -> bytes | Rejection:
        raw = (example.get("image") or [b""])[0]
        size = 4 * self._height * self._width
        if not isinstance(raw, bytes) or len(raw) != size:
            given = len(raw) if isinstance(raw, bytes) else 0
            return Rejection(
                "wrong size", f"image has {given:,} bytes, not {size:,}: 4 x {self._height} x {self._width}"
            )
        greys = np.frombuffer(raw, "<f4").reshape(self._height, self._width)
        if not np.isfinite(greys).all() or greys.min() < 0 or greys.max() > dicom.HIGHEST:
            return Rejection("greys outside 0-65535")
        return _png(greys.round().astype(np.uint16))


def _even(image: Image.Image) -> bool:
    darkest, lightest = image.getextrema()
    return darkest == lightest


def _png(greys: npt.NDArray[Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(greys).save(file, "PNG", compress_level=1)
    return file.getvalue()


def prepared(greys: pictures.Deep, height: int, width: int) -> tuple[npt.NDArray[np.uint8], bool]:
    """Makes a picture of any size one that the network reads; the serving graph does the same.

    Args:
        greys: of the whole film.
        height: of the result, pixels.
        width: of the result, pixels.

    Returns:
        uint8 [height, width], the breast against the left edge, and whether it was mirrored for that.
    """
    columns, rows = greys.image.size
    scale = min(height / rows, width / columns)
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    # In float: Pillow scales 16-bit integers without a filter, and 8-bit ones with rounding in between.
    small = np.asarray(greys.image.resize(size, Image.Resampling.BILINEAR))
    half = small.shape[1] // 2
    of_columns = small.sum(axis=0, dtype=np.float64)
    mirrored = bool(of_columns[:half].sum() < of_columns[-half:].sum()) if half else False
    canvas = np.zeros((height, width), np.uint8)
    canvas[: size[1], : size[0]] = (small[:, ::-1] if mirrored else small) * (255 / greys.highest) + 0.5
    return canvas, mirrored


class Row(NamedTuple):
    """A line of a case description."""

    film: Film
    case: str
    density: str


def _rows(source: Source, name: str) -> Iterator[Row]:
    """The lines of a table, if it is one of case descriptions."""
    table = csv.DictReader(io.StringIO(source.text(name), newline=""))
    columns = {column.strip().lower(): column for column in table.fieldnames or () if column}
    density = next((columns[column] for column in _DENSITY if column in columns), None)
    if density is None or _FILE not in columns:
        return
    for needed in (_PATIENT, _SIDE, _VIEW):
        if needed not in columns:
            raise UserError(f"{source.root / name}: no column {needed!r}; a case description has it")
    for line in table:
        film = Film(*((line[columns[column]] or "").strip() for column in (_PATIENT, _SIDE, _VIEW)))
        case = (line[columns[_FILE]] or "").strip().partition("/")[0]
        yield Row(film, case, (line[density] or "").strip())


def _described(rows: Iterable[Row], images: Sequence[str]) -> Iterator[Candidate]:
    """One candidate for each film, however many lines describe it, and one for each image that none describes."""
    parts_of = {name: (*name.split("/")[:-1], _stem(name)) for name in images}
    place = {part: name for name in reversed(images) for part in parts_of[name]}
    of_film: dict[Film, list[Row]] = {}
    for row in rows:
        of_film.setdefault(row.film, []).append(row)
    described = set()
    for film, lines in sorted(of_film.items()):
        # A film with a mass and a calcification is in two sets; if one of them is for testing, it is for testing.
        cases = sorted({line.case for line in lines}, key=lambda case: (_split(case) != splits.TEST, case))
        densities = sorted({line.density for line in lines})
        described.update(cases)
        found = [place[case] for case in cases if case in place]
        yield Candidate(
            key=str(film),
            location=found[0] if found else cases[0],
            label=densities[0],
            group=film.patient,
            split=_split(cases[0]),
            fault=_film_fault(densities) if found else Rejection(NO_FILE),
            notes=film.notes(),
        )
    for name in images:
        if not (described.intersection(parts_of[name]) or any(map(_LESION.fullmatch, parts_of[name]))):
            yield Candidate(name, name, "", fault=Rejection("no case description"), notes=UNKNOWN.notes())


def _film_fault(densities: Sequence[str]) -> Rejection | None:
    if len(densities) > 1:
        return Rejection("rows disagree on the density", " and ".join(densities))
    return _fault(densities[0])


def _named(images: Sequence[str]) -> Iterator[Candidate]:
    """Images whose name begins with the density."""
    for name in images:
        density, _, rest = _stem(name).partition("_")
        match = _CASE.search(rest)
        film = Film(**match.groupdict()) if match else UNKNOWN
        yield Candidate(
            name, name, density, group=film.patient, split=_split(rest), fault=_fault(density), notes=film.notes()
        )


def _split(case: str) -> str:
    """The split that a case's name puts it in."""
    match = _OFFICIAL.match(case)
    return _OF_SPLIT[match.group(1)] if match else ""


def _stem(name: str) -> str:
    """A file's name without its folders and its suffix."""
    return name.rpartition("/")[2].rpartition(".")[0]


def _fault(density: str) -> Rejection | None:
    if density in CLASSES:
        return None
    return Rejection("density 0") if density == "0" else Rejection("density outside 1-4", repr(density))


def data(settings: Mapping[str, int]) -> Data:
    """This system's format.

    Args:
        settings: `height` and `width` of the network's image in pixels; 128 and 95 where left out.

    Raises:
        UserError: one of them is below 8.
    """
    chosen = {"height": HEIGHT, "width": WIDTH, **settings}
    for name, value in chosen.items():
        if value < 8:
            raise UserError(f"--{name}={value}: give at least 8 pixels")
    return Data(**chosen)
