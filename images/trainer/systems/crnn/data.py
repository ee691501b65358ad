"""Handwritten words, as ingest reads them: IAM's folder, or a table of image locations beside the images.

What a network sees of a word, here and in the serving graph, pixel for pixel where no resize is needed and
within one grey level where one is:

1.  Greyscale as in `images.trainer.pictures.decode_grey`.
2.  Scaled up or down, aspect kept, to the largest size that fits height x width; the other side is rounded
    half up in integers and is at least 1 (`fitted_size`). The filter is bilinear, widened when scaling down
    to a triangle two output pixels wide (Pillow's BILINEAR; TensorFlow's `resize(method="bilinear",
    antialias=True)`), and its result is rounded half up.
3.  Placed at the left edge, (height - scaled height) // 2 rows from the top, on white (255).
"""

from __future__ import annotations

import csv
import io
import operator
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from PIL import Image

from images.executor import UserError
from images.trainer.candidates import NO_LOCATION, Candidate, Rejection, file_instance, instance_file
from images.trainer.pictures import COUNTED, ENOUGH, counted, decode_grey
from images.trainer.records import Value
from images.trainer.sources import Source

IAM_INDEX, IAM_FORMS, TABLE = "words.txt", "forms.txt", "words_metadata.csv"
LOCATION, TRANSCRIPTION, WRITER = "image_location", "transcription", "writer"

PAPER = 255
PIXELS_A_FRAME = 4  # The network's two stem convolutions halve the width twice.
UNKNOWN_CHARACTER = "unknown character"

_IAM_FIELDS = 9
_FEW_WORDS = 1000
_SEEN_OFTEN_ENOUGH = 3


def frames(width: int) -> int:
    """How many frames the network makes of an image `width` pixels wide: at most one character each."""
    return width // PIXELS_A_FRAME


def fitted_size(width: int, height: int, to_width: int, to_height: int) -> tuple[int, int]:
    """Width and height in pixels of the largest image of the same aspect that fits."""
    if width * to_height <= height * to_width:
        return max(1, (2 * width * to_height + height) // (2 * height)), to_height
    return to_width, max(1, (2 * height * to_width + width) // (2 * width))


def scaled(grey: Image.Image, width: int, height: int) -> Image.Image:
    """Scales an image of mode "L" to the largest size that fits."""
    size = fitted_size(grey.width, grey.height, width, height)
    return grey if grey.size == size else grey.resize(size, Image.Resampling.BILINEAR)


def padded(grey: Image.Image, width: int, height: int) -> Image.Image:
    """Places a scaled image of mode "L" on white."""
    paper = Image.new("L", (width, height), PAPER)
    paper.paste(grey, (0, (height - grey.height) // 2))
    return paper


class Alphabet:
    """The characters that the training split teaches.

    Attributes:
        characters: in the order of their code points; the id of the first is 1, for 0 is CTC's blank.
    """

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self._ids = {character: index for index, character in enumerate(characters, start=1)}

    @classmethod
    def learned(cls, labels: Sequence[str]) -> Alphabet:
        """Learns from the labels of the training split.

        A network learns no character from one or two words; such characters are slips of the keyboard more
        often than writing. A small set is allowed its rare letters, digits and ASCII punctuation all the
        same.
        """
        shown_by: Counter[str] = Counter()
        words = Counter(labels)
        for label, times in words.items():
            for character in set(label):
                shown_by[character] += times
        few = len(labels) < _FEW_WORDS
        taught = {
            character
            for character, shown in shown_by.items()
            if shown >= _SEEN_OFTEN_ENOUGH or (few and character.isascii())
        }
        return cls("".join(sorted(set().union(*(label for label in words if taught.issuperset(label))))))

    def encode(self, label: str) -> dict[str, Value]:
        """The ids of a label's characters; raises Rejection for a character that is not in the alphabet."""
        for character in label:
            if character not in self._ids:
                raise Rejection(UNKNOWN_CHARACTER, f"{_named(character)} is not taught by the training split")
        return {"label": [self._ids[character] for character in label]}


class Data:
    """Reads words from a source.

    Args:
        width: of the network's image in pixels, a multiple of 4.
        height: the same.

    Raises:
        UserError: a size is not a positive multiple of 4.
    """

    group_name = "writer"
    stratified = False
    columns = COUNTED
    enough = ENOUGH
    answer = "text"

    def __init__(self, width: int, height: int) -> None:
        for name, size in (("width", width), ("height", height)):
            if size <= 0 or size % PIXELS_A_FRAME:
                raise UserError(f"--{name}={size}: must be a positive multiple of {PIXELS_A_FRAME}")
        self._width = width
        self._height = height

    def candidates(self, source: Source) -> Iterator[Candidate]:
        """Lists the words, in the order of the index.

        Raises:
            UserError: there is no index, or the table lacks a column.
        """
        for folder in ("", "ascii/"):  # IAM's own archive keeps its indices in a folder.
            if f"{folder}{IAM_INDEX}" in source:
                return self._iam(source, folder)
        if TABLE in source:
            return self._table(source)
        raise UserError(f"{source.root}: neither {IAM_INDEX} nor {TABLE} in it{_elsewhere(source)}")

    def original(self, source: Source, candidate: Candidate) -> bytes:
        """The image file; raises FileNotFoundError."""
        return source.read(candidate.location)

    instance = staticmethod(file_instance)
    received = staticmethod(instance_file)
    decoded = staticmethod(decode_grey)
    row = staticmethod(counted)

    def number(self, label: str) -> float:
        """How many characters it has."""
        return float(len(label))

    def features(self, candidate: Candidate, decoded: Image.Image) -> dict[str, Value]:
        """The image as height x width uint8 greys, row by row; raises Rejection when there is nothing in it."""
        grey = scaled(decoded, self._width, self._height)
        darkest, lightest = grey.getextrema()
        if darkest == lightest:
            raise Rejection("no writing in the image", f"every pixel is {darkest}")
        return {"image": padded(grey, self._width, self._height).tobytes()}

    def learn(self, training: Sequence[Candidate]) -> Alphabet:
        """Learns the alphabet from the labels of the training split."""
        return Alphabet.learned([each.label for each in training])

    def schema(self, labels: Alphabet, kept: Sequence[str], left_out: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """The image's shape, the alphabet, and in how many words left out each unknown character stands."""
        unknown = Counter(
            character
            for label, reason in left_out
            if reason == UNKNOWN_CHARACTER
            for character in set(label).difference(labels.characters)
        )
        return {
            "image": {"height": self._height, "width": self._width, "channels": 1},
            "alphabet": labels.characters,
            "unknown_characters": {character: unknown[character] for character in sorted(unknown)},
            "frames": frames(self._width),
            "max_label_length": max(map(len, kept), default=0),
            "features": {
                "image": {"dtype": "uint8", "shape": [self._height, self._width], "encoding": "raw bytes"},
                "label": {"dtype": "int64", "shape": [None]},
                "key": {"dtype": "string", "shape": []},
            },
        }

    def _iam(self, source: Source, folder: str) -> Iterator[Candidate]:
        writers = dict(_iam_writers(source, f"{folder}{IAM_FORMS}"))
        seen: set[str] = set()
        for number, line in enumerate(_lines(source, f"{folder}{IAM_INDEX}"), start=1):
            fields = line.split(maxsplit=_IAM_FIELDS - 1)
            if not fields or line.startswith("#"):
                continue
            word = fields[0]
            parts = word.split("-")
            if len(parts) < 3 or len(fields) < _IAM_FIELDS - 1:
                strange = Rejection("not a line of IAM's index", f"line {number} of {IAM_INDEX}")
                yield Candidate(word, f"{folder}{IAM_INDEX}", "", fault=strange)
                continue
            form = f"{parts[0]}-{parts[1]}"
            location = f"words/{parts[0]}/{form}/{word}.png"
            label = _tidy(fields[-1]) if len(fields) == _IAM_FIELDS else ""
            fault = Rejection("segmentation error") if fields[1] != "ok" else self._fault(label)
            if word in seen:
                fault = Rejection("listed twice", f"line {number} of {IAM_INDEX}")
            seen.add(word)
            yield Candidate(word, location, label, writers.get(form, form), fault=fault)

    def _table(self, source: Source) -> Iterator[Candidate]:
        rows = csv.DictReader(io.StringIO(source.text(TABLE), newline=""))
        rows.fieldnames = [column.strip() for column in rows.fieldnames or []]
        for column in (LOCATION, TRANSCRIPTION):
            if column not in rows.fieldnames:
                columns = ", ".join(rows.fieldnames) or "missing"
                raise UserError(f"{source.root / TABLE}: no column {column}; its columns are {columns}")
        try:
            yield from self._rows(rows, _by_file_name(source))
        except csv.Error as error:
            raise UserError(f"{source.root / TABLE}: line {rows.line_num}: {error}") from error

    def _rows(self, rows: csv.DictReader[str], images: Mapping[str, list[str]]) -> Iterator[Candidate]:
        seen: set[str] = set()
        for row in rows:
            location = _resolved((row[LOCATION] or "").strip(), images)
            label = _tidy(row[TRANSCRIPTION] or "")
            fault = self._fault(label)
            if not location:
                fault = Rejection(NO_LOCATION, f"row {rows.line_num} of {TABLE}")
            elif location in seen:
                fault = Rejection("listed twice", f"row {rows.line_num} of {TABLE}")
            seen.add(location)
            yield Candidate(location, location, label, (row.get(WRITER) or "").strip(), fault=fault)

    def _fault(self, label: str) -> Rejection | None:
        if not label:
            return Rejection("empty label")
        if not label.isprintable():
            character = next(character for character in label if not character.isprintable())
            return Rejection(UNKNOWN_CHARACTER, f"{_named(character)} is not writing")
        # CTC puts a blank between two equal characters, so that they are not read as one.
        needed = len(label) + sum(map(operator.eq, label, label[1:]))
        available = frames(self._width)
        if needed > available:
            return Rejection("label too long for the image", f"needs {needed} frames of {available}")
        return None


def _iam_writers(source: Source, name: str) -> Iterator[tuple[str, str]]:
    """Form and writer from IAM's list of forms. Where there is none, each form counts as a writer."""
    if name in source:
        for line in _lines(source, name):
            fields = line.split()
            if len(fields) >= 2 and not line.startswith("#"):
                yield fields[0], f"writer {fields[1]}"


def _lines(source: Source, name: str) -> Iterator[str]:
    return iter(io.StringIO(source.text(name), newline=None))


def _by_file_name(source: Source) -> Mapping[str, list[str]]:
    images: dict[str, list[str]] = {}
    for name in source.names:
        images.setdefault(PurePosixPath(name).name, []).append(name)
    return images


def _resolved(written: str, images: Mapping[str, list[str]]) -> str:
    """The file that a location means, seen from the table's folder or from a folder beside it.

    A table made on another machine names folders of its own: then the file's name decides, if only one file
    has it.
    """
    location = posixpath.normpath(written.replace("\\", "/")) if written else ""
    named_so = images.get(PurePosixPath(location).name, [])
    if location in named_so:
        return location
    ending_so = [name for name in named_so if name.endswith(f"/{location}")] or named_so
    return ending_so[0] if len(ending_so) == 1 else location


def _tidy(label: str) -> str:
    return unicodedata.normalize("NFC", label.strip())


def _named(character: str) -> str:
    code = f"U+{ord(character):04X}"
    return f"{character} ({code})" if character.isprintable() else code


def _elsewhere(source: Source) -> str:
    for name in source.names:
        path = PurePosixPath(name)
        if path.name in (IAM_INDEX, TABLE):
            return f"; there is one in {source.root / path.parent}: give that folder"
    return f"; it holds {len(source.names)} files"


def data(settings: Mapping[str, int]) -> Data:
    """This system's format, for ingest's settings `width` and `height`, 128 and 32 if left out."""
    return Data(settings.get("width", 128), settings.get("height", 32))
