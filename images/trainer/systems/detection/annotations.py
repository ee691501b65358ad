"""What files say about a picture: Pascal VOC's XML, and records of the Object Detection API.

Boxes are (ymin, xmin, ymax, xmax) in pixels from the picture's upper left corner, edges between pixels. VOC counts
pixels from 1 and names the last one inside, so that its xmin of 1 is our 0 and its xmax of 20 is our 20.

Sources: host.robots.ox.ac.uk/pascal/VOC (development kit); object_detection/core/standard_fields.py in
github.com/tensorflow/models (names of features).
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from xml.parsers import expat

Box = tuple[float, float, float, float]


class Malformed(ValueError):
    """What is wrong with an annotation."""


class Object(NamedTuple):
    """One object in a picture.

    Attributes:
        name: of its class.
        box: as written; None where it is no four numbers.
        difficult: whoever drew the box found the object hard to recognise: it is not counted in evaluation.
        truncated: the object goes on outside its box.
    """

    name: str
    box: Box | None
    difficult: bool = False
    truncated: bool = False


class Annotation(NamedTuple):
    """What is said about one picture.

    Attributes:
        file: the picture's name; "": not said.
        size: (width, height) in pixels; None: not said.
        objects: in the order of the file.
        database: where the picture is from; "": not said.
    """

    file: str
    size: tuple[int, int] | None
    objects: tuple[Object, ...]
    database: str = ""


def of_voc(data: bytes) -> Annotation:
    """Reads an XML file of Pascal VOC's form.

    Raises:
        Malformed: it is no such file, or it declares entities, which nobody's annotations need.
    """
    root = _tree(data)
    if root.tag != "annotation":
        raise Malformed(f"its root is <{root.tag}>, not <annotation>")
    width, height = _whole(_inside(root, "size", "width")), _whole(_inside(root, "size", "height"))
    return Annotation(
        file=(root.findtext("filename") or "").strip(),
        size=(width, height) if width and height else None,
        objects=tuple(map(_object, root.findall("object"))),
        database=(_inside(root, "source", "annotation") or _inside(root, "source", "database")).strip(),
    )


def of_record(features: Mapping[str, Sequence[Any]], size: tuple[int, int]) -> Annotation:
    """Reads an example of the Object Detection API.

    Args:
        features: of the record, by name; boxes are shares of the picture's sides.
        size: (width, height) of the picture that it holds, pixels.

    Raises:
        Malformed: its lists have different lengths.
    """
    sides = [features.get(f"image/object/bbox/{side}", []) for side in ("ymin", "xmin", "ymax", "xmax")]
    names = [value.decode(errors="replace") for value in features.get("image/object/class/text", [])]
    names = names or [str(value) for value in features.get("image/object/class/label", [])]
    flags = [features.get(f"image/object/{flag}") or [0] * len(names) for flag in ("difficult", "truncated")]
    counts = {len(column) for column in (names, *sides, *flags)}
    if len(counts) > 1:
        raise Malformed(f"its lists of boxes and classes have {' and '.join(map(str, sorted(counts)))} entries")
    width, height = size
    boxes = [(a * height, b * width, c * height, d * width) for a, b, c, d in zip(*sides, strict=True)]
    said = (_first(features, "image/width"), _first(features, "image/height"))
    return Annotation(
        file=str(_first(features, "image/filename") or _first(features, "image/source_id") or ""),
        size=(int(said[0]), int(said[1])) if all(said) else None,
        objects=tuple(
            Object(name, box, bool(hard), bool(cut)) for name, box, hard, cut in zip(names, boxes, *flags, strict=True)
        ),
    )


def _first(features: Mapping[str, Sequence[Any]], name: str) -> Any:
    values = features.get(name) or [""]
    return values[0].decode(errors="replace") if isinstance(values[0], bytes) else values[0]


def _inside(root: ET.Element, parent: str, name: str) -> str:
    """The text of an element in one of the root's children: `findtext` of a path takes several times as long."""
    for each in root.findall(parent):
        text = each.findtext(name)
        if text is not None:
            return text
    return ""


def _object(element: ET.Element) -> Object:
    text = {child.tag: child.text for child in element}
    name = " ".join((text.get("name") or "").split())
    hard, cut = (1 <= _number(text.get(flag)) < math.inf for flag in ("difficult", "truncated"))
    corners = {corner.tag: corner.text for box in element.findall("bndbox")[-1:] for corner in box}
    sides = [_number(corners.get(side)) for side in ("ymin", "xmin", "ymax", "xmax")]
    if not all(map(math.isfinite, sides)):
        return Object(name, None, hard, cut)
    return Object(name, (sides[0] - 1, sides[1] - 1, sides[2], sides[3]), hard, cut)


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _whole(text: str | None) -> int:
    number = _number(text)
    return int(number) if math.isfinite(number) else 0


def _tree(data: bytes) -> ET.Element:
    try:
        # Entities are declared in a DOCTYPE. Expat reads encodings that contain ASCII, and UTF-16, which has zeros.
        if b"<!DOCTYPE" in data or b"\0" in data:
            guard = expat.ParserCreate()
            guard.EntityDeclHandler = _refuse
            guard.Parse(data, True)
        return ET.fromstring(data)
    except (expat.ExpatError, ET.ParseError, LookupError, ValueError) as error:  # LookupError: an unknown encoding.
        raise error if isinstance(error, Malformed) else Malformed(f"not XML ({error})") from None


def _refuse(name: str, *_: Any) -> None:
    raise Malformed(f"it declares an entity, {name}, which could grow without bound or read other files")
