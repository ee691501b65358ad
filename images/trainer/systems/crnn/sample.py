"""Sample words in IAM's folder layout: drawn with a simulated pen, or composed of digits that people wrote.

`words` draws Hershey's single-stroke glyphs. Each writer has a slant, a size, a pen, an ink and a paper of
their own, and a hand that bends and jitters strokes: it looks handwritten but is not. `digits` puts
scikit-learn's handwritten digits (UCI "Optical Recognition of Handwritten Digits": real pen strokes, 8 x 8
pixels) side by side as numbers.
"""

from __future__ import annotations

import functools
import math
import string
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from images.trainer.systems.crnn.vocabulary import NAMES, WORDS

KINDS = ("words", "digits")
DEFAULT_COUNT = 10_000
UNIT = "words"

Floats = npt.NDArray[np.float64]

_WORDS_A_FORM = 40
_WORDS_A_LINE = 8
_FORMS_A_WRITER = 2
_DIGIT_WRITERS = 20
_SEGMENTATION_ERRORS = 0.01

_FONTS = ("futural", "scripts", "cursive")
_CAP_HEIGHT = 21.0  # Of Hershey's glyphs, in their own units.
_OVERSAMPLING = 2
_MARGIN = 3

_LINE_HEIGHT = 110
_WORD_SPACE = 28

_INDEX_HEADER = """\
# One handwritten word a line, fields separated by blanks:
#
#   id              form, line and word on the line: a01-000u-00-00
#   segmentation    ok: the box holds the word; err: it does not
#   grey level      that parts ink from paper
#   x y w h         the word's box on the page, in pixels
#   tag             kind of word: NN a word, NP a name, CD a number
#   transcription   what is written
#
"""
_FORMS_HEADER = """\
# One form a line: form, writer, lines, words
#
"""


class Form(NamedTuple):
    """A page that one writer fills: the unit of work.

    Attributes:
        kind: one of `KINDS`.
        seed: of the whole sample.
        writer: number of the writer.
        page: number of the page among the writer's.
        words: how many are on it.
    """

    kind: str
    seed: int
    writer: int
    page: int
    words: int

    @property
    def name(self) -> str:
        """The form's id, such as a01-000u; different for every writer and page."""
        round_, place = divmod(self.writer, 99 * len(string.ascii_lowercase))
        letter, text = divmod(place, 99)
        page = round_ * _FORMS_A_WRITER + self.page
        return f"{string.ascii_lowercase[letter]}{text + 1:02d}-{3 * page:03d}{'ux'[self.writer % 2]}"


class Word(NamedTuple):
    """A drawn word: its text, its kind's tag, and its picture as greys."""

    text: str
    tag: str
    picture: npt.NDArray[np.uint8]


class Written(NamedTuple):
    """A finished form: its lines in the two indices, and how many words are on it."""

    form_line: str
    word_lines: str
    done: int


def plan(kind: str, count: int, seed: int) -> list[Form]:
    """Shares `count` words out to forms, and the forms to writers."""
    full, rest = divmod(count, _WORDS_A_FORM)
    sizes = [_WORDS_A_FORM] * full + [rest] * (rest > 0)
    if kind == "digits":
        # The pool has few real hands: each belongs to one writer, so that unseen writers are truly unseen.
        places = [reversed(divmod(k, _DIGIT_WRITERS)) for k in range(len(sizes))]
    else:
        places = [divmod(k, _FORMS_A_WRITER) for k in range(len(sizes))]
    return [Form(kind, seed, *place, size) for place, size in zip(places, sizes, strict=True)]


def draw(folder: Path, form: Form) -> Written:
    """Draws one form's words into `folder`; the same form gives the same bytes everywhere."""
    chance = np.random.default_rng((form.seed, KINDS.index(form.kind), form.writer, form.page))
    hand = Hand.of(form)
    text_group = form.name.partition("-")[0]
    words = folder / "words" / text_group / form.name
    words.mkdir(parents=True, exist_ok=True)
    lines = []
    x = _WORD_SPACE
    for number in range(form.words):
        line, place = divmod(number, _WORDS_A_LINE)
        x = _WORD_SPACE if place == 0 else x
        word = _numeral(hand, chance) if form.kind == "digits" else _word(hand, chance)
        segmentation, picture = "ok", word.picture
        if chance.random() < _SEGMENTATION_ERRORS:  # The box cuts through the word.
            segmentation, picture = "err", picture[:, : max(4, picture.shape[1] // 3)]
        name = f"{form.name}-{line:02d}-{place:02d}"
        (words / f"{name}.png").write_bytes(png(picture))
        height, width = picture.shape
        level = int(hand.ink + hand.paper) // 2
        box = f"{x} {(line + 1) * _LINE_HEIGHT - height} {width} {height}"
        lines.append(f"{name} {segmentation} {level} {box} {word.tag} {word.text}\n")
        x += width + _WORD_SPACE
    rows = math.ceil(form.words / _WORDS_A_LINE)
    return Written(f"{form.name} {form.writer:03d} {rows} {form.words}\n", "".join(lines), form.words)


def finish(folder: Path, written: Iterable[Written]) -> None:
    """Writes the two indices."""
    forms = sorted(written)
    (folder / "words.txt").write_text(_INDEX_HEADER + "".join(form.word_lines for form in forms))
    (folder / "forms.txt").write_text(_FORMS_HEADER + "".join(form.form_line for form in forms))


class Hand(NamedTuple):
    """How one writer writes.

    Attributes:
        font: of `_FONTS`.
        size: height of capitals, in pixels.
        stretch: width of letters relative to the font's.
        slant: horizontal shift for each pixel upwards.
        spacing: extra space between letters, in the font's units.
        pen: width of a stroke, in pixels.
        ink: grey level of the ink.
        paper: grey level of the paper.
        bend: how far strokes are bent, in the font's units.
        jitter: how much letters differ in size, angle and place; 1 is a careful hand.
        digits: the writer's own digit pictures, by digit (kind digits only).
    """

    font: str
    size: float
    stretch: float
    slant: float
    spacing: float
    pen: float
    ink: float
    paper: float
    bend: float
    jitter: float
    digits: tuple[Floats, ...]

    @classmethod
    def of(cls, form: Form) -> Hand:
        """The hand of a form's writer."""
        chance = np.random.default_rng((form.seed, len(KINDS), form.writer))
        return cls(
            font=_FONTS[int(chance.choice(len(_FONTS), p=(0.6, 0.25, 0.15)))],
            size=chance.uniform(24, 36),
            stretch=chance.uniform(0.8, 1.15),
            slant=chance.normal(0.12, 0.16),
            spacing=chance.uniform(-1.5, 2.0),
            pen=chance.uniform(1.6, 3.2),
            ink=chance.uniform(15, 90),
            paper=chance.uniform(225, 252),
            bend=chance.uniform(0.3, 0.9),
            jitter=chance.uniform(0.6, 1.3),
            digits=_digits_of(form.writer) if form.kind == "digits" else (),
        )


def png(picture: npt.NDArray[np.uint8]) -> bytes:
    """Encodes greys [height, width] as a PNG file, fast: light compression, one filter."""
    height, width = picture.shape
    rows = np.zeros((height, width + 1), np.uint8)  # Each row begins with its filter's number: 0, none.
    rows[:, 1:] = picture
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((8, 0, 0, 0, 0))
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big") for kind, data in chunks
    )


def _word(hand: Hand, chance: np.random.Generator) -> Word:
    text, tag = _text(chance)
    return Word(text, tag, _on_paper(_stroked(text, hand, chance), hand, chance))


def _text(chance: np.random.Generator) -> tuple[str, str]:
    """A word, a name or a number, sometimes capitalised or with punctuation, and its tag."""
    roll = chance.random()
    if roll < 0.08:
        return _number(chance), "CD"
    text, tag = (_one(NAMES, chance), "NP") if roll < 0.2 else (_one(WORDS, chance), "NN")
    case = chance.random()
    if case < 0.12:
        text = text.capitalize()
    elif case < 0.16 and len(text) > 2:
        text = text.upper()
    mark = chance.random()
    if mark < 0.11:
        text += _one(",.;:!?", chance)
    elif mark < 0.13:
        text = f'"{text}"'
    elif mark < 0.145:
        text = f"({text})"
    elif mark < 0.17:
        text += "'s"
    elif mark < 0.185 and len(text) < 8:
        text += _one("-&/+", chance) + _one([word for word in WORDS if len(word) < 5], chance)
    elif mark < 0.195:
        text = _one("#*", chance) + text
    return text, tag


def _number(chance: np.random.Generator) -> str:
    number = str(chance.integers(10 ** chance.integers(1, 5)))
    form = chance.random()
    if form < 0.1:
        return f"{number}.{chance.integers(10, 100)}"
    if form < 0.2:
        return f"{chance.integers(1, 32)}/{chance.integers(1, 13)}"
    return number


def _one(choices: Sequence[str], chance: np.random.Generator) -> str:
    return choices[int(chance.integers(len(choices)))]


@functools.cache
def _glyphs(font: str) -> dict[str, tuple[tuple[Floats, ...], float, float]]:
    """Of each character the strokes (points [n, 2], x to the right, y downwards), left edge and width."""
    from HersheyFonts import HersheyFonts

    fonts = HersheyFonts()
    fonts.load_default_font(font)
    return {
        character: (
            tuple(_dense(np.array(stroke, float)) for stroke in glyph.strokes),
            float(glyph.left_offset),
            float(glyph.char_width),
        )
        for character, glyph in fonts.all_glyphs.items()
    }


def _dense(stroke: Floats) -> Floats:
    """Adds points, so that straight strokes can bend: at most 3 units apart."""
    steps = np.maximum(1, np.ceil(np.hypot(*np.diff(stroke, axis=0).T) / 3)).astype(int)
    at = np.concatenate([np.arange(n) / n + k for k, n in enumerate(steps)] + [[float(len(steps))]])
    known = np.arange(len(stroke))
    return np.stack([np.interp(at, known, stroke[:, axis]) for axis in (0, 1)], axis=1)


def _stroked(text: str, hand: Hand, chance: np.random.Generator) -> Floats:
    """The coverage of ink of a written text, from 0 to 1, cropped to the ink."""
    glyphs = _glyphs(hand.font)
    strokes: list[Floats] = []
    left = 0.0
    for character in text:
        outline, edge, width = glyphs[character]
        turn, grow = chance.normal(0, (0.035, 0.05)) * hand.jitter
        drop = chance.normal(0, 0.5) * hand.jitter
        turned = (1 + grow) * np.array(((math.cos(turn), math.sin(turn)), (-math.sin(turn), math.cos(turn))))
        strokes += [(stroke - (edge, 0)) @ turned + (left, drop) for stroke in outline]
        left += width * (1 + grow) + hand.spacing + chance.normal(0, 0.5) * hand.jitter
    points = _bent(np.concatenate(strokes), hand, chance)
    scale = hand.size / _CAP_HEIGHT * _OVERSAMPLING
    points = points @ ((hand.stretch, 0), (-hand.slant * hand.stretch, 1)) * scale
    pen = hand.pen * _OVERSAMPLING
    points += pen / 2 + 1 - points.min(axis=0)
    width, height = np.ceil(points.max(axis=0) + pen / 2 + 1).astype(int)
    mask = Image.new("L", (int(width), int(height)))
    canvas = ImageDraw.Draw(mask)
    begin = 0
    for stroke in strokes:
        path = points[begin : begin + len(stroke)]
        begin += len(stroke)
        pressure = max(1, round(pen * chance.uniform(0.85, 1.15)))
        canvas.line(path.ravel().tolist(), 255, pressure)
        radius = pressure / 2
        for x, y in (path[0], path[-1]):
            canvas.ellipse((x - radius, y - radius, x + radius, y + radius), 255)
    return np.asarray(mask.reduce(_OVERSAMPLING), float) / 255


def _bent(points: Floats, hand: Hand, chance: np.random.Generator) -> Floats:
    """Bends the plane in slow waves, so that near strokes bend alike, and lets the line rise or fall."""
    x, y = points.T
    lengths, phases = chance.uniform(14, 40, 4), chance.uniform(0, 2 * math.pi, 4)
    waves = np.sin(2 * math.pi * np.stack((x + y, y, x, x - y)) / lengths[:, None] + phases[:, None])
    rise = chance.normal(0, 0.02) * hand.jitter
    shift_x, shift_y = hand.bend * (waves[0] + waves[1]), hand.bend * (waves[2] + waves[3])
    return np.stack([x + shift_x, y + shift_y + rise * x], axis=1)


def _on_paper(ink: Floats, hand: Hand, chance: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Greys of inked paper: slightly uneven, in steps of 4 that compress well."""
    ink = np.pad(ink, _MARGIN)
    coarse = chance.normal(0, 3, (ink.shape[0] // 4 + 1, ink.shape[1] // 4 + 1))
    grain = coarse.repeat(4, axis=0).repeat(4, axis=1)
    greys = hand.paper + grain[: ink.shape[0], : ink.shape[1]] + ink * (hand.ink - hand.paper)
    return np.asarray(np.clip(np.round(greys / 4) * 4, 0, 255), np.uint8)


@functools.cache
def _digits_of(writer: int) -> tuple[Floats, ...]:
    """Of each digit, pictures [n, 8, 8] from 0 to 1 that belong to this writer alone.

    The data set lists its digits roughly writer by writer: neighbours are mostly of one hand.
    """
    from sklearn.datasets import load_digits

    pool = load_digits()
    by_digit = (pool.images[pool.target == digit] / 16 for digit in range(10))
    return tuple(np.array_split(pictures, _DIGIT_WRITERS)[writer] for pictures in by_digit)


def _numeral(hand: Hand, chance: np.random.Generator) -> Word:
    text = "".join(str(digit) for digit in chance.integers(0, 10, chance.integers(1, 7)))
    side = round(hand.size * 1.2)
    space = round(side * chance.uniform(-0.12, 0.05))
    pictures = [_digit(hand.digits[int(character)], side, chance) for character in text]
    height = side + 4
    ink = np.zeros((height, (side + space) * len(text) + side))
    for place, picture in enumerate(pictures):
        top, left = int(chance.integers(0, 5)), place * (side + space)
        region = ink[top : top + side, left : left + side]
        np.maximum(region, picture, out=region)
    rows, columns = (np.flatnonzero(ink.max(axis=axis) > 0.1) for axis in (1, 0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Word(text, "CD", _on_paper(ink, hand, chance))


def _digit(pool: Floats, side: int, chance: np.random.Generator) -> Floats:
    small = Image.fromarray(np.asarray(pool[int(chance.integers(len(pool)))] * 255, np.uint8))
    shear = chance.normal(0, 0.1)
    large = small.resize((side, side), Image.Resampling.BICUBIC)
    large = large.transform(large.size, Image.Transform.AFFINE, (1, shear, -shear * side / 2, 0, 1, 0))
    return np.clip((np.asarray(large, float) / 255 - 0.25) * 1.8, 0, 1)
