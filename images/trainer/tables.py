"""Tables of numbers with a class in each row, as people keep them: with or without a header, comma or semicolon.

Every row is checked with pandas against the columns that a system expects; a bad one is told with its line.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from images.executor import UserError
from images.trainer.candidates import Rejection

MAX_BYTES = 256 << 20
_SEPARATORS = ",;\t"


@dataclasses.dataclass(frozen=True)
class Column:
    """A number in a row.

    Attributes:
        name: such as "sepal_length".
        low: the smallest value that can be, itself left out.
        high: the largest value that can be.
    """

    name: str
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        line: its number in the file, from 1.
        values: its numbers, in the order of the columns; empty when there is a fault.
        label: its class; as written when it is none of the classes.
        fault: why it cannot be used.
    """

    line: int
    values: tuple[float, ...]
    label: str
    fault: Rejection | None


def rows(
    data: bytes, name: str, columns: Sequence[Column], label: str, classes: Mapping[str, str]
) -> tuple[list[Row], str]:
    """Reads a table.

    Args:
        data: the file, UTF-8 or UTF-16, with any line ends, with or without byte order mark and header.
        name: of the file, for messages.
        columns: the numbers of a row. They are found by name, in whatever spelling of words and units; if a name is
            not known, by position.
        label: the name of the column with the class; the last one by position.
        classes: class by the lower-case words that stand for it.

    Returns:
        The rows, and a sentence on how the columns were found; empty when there is nothing to say.

    Raises:
        UserError: the file is empty, too large, no text, or no table with these columns.
    """
    text = _text(data, name)
    lines = _lines(text, name)
    header, places, note = _places(lines, [*(column.name for column in columns), label], name)
    return list(_checked(lines[header:], columns, places, classes)), note


def _text(data: bytes, name: str) -> str:
    if len(data) > MAX_BYTES:
        raise UserError(f"{name}: more than {MAX_BYTES >> 20} MB; this is no small table")
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not text in UTF-8 (byte {error.start:,}); save it as CSV in UTF-8") from None
    if not text.strip():
        raise UserError(f"{name}: empty; give a CSV with a row for each example")
    return text


def _lines(text: str, name: str) -> list[tuple[int, list[str]]]:
    """The cells of each line that has any, with the line's number."""
    first = next(line for line in text.splitlines() if line.strip())
    separator = max(_SEPARATORS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    found: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            tidy = [cell.strip() for cell in cells]
            if separator == ";":  # Where commas divide whole from part, semicolons divide cells.
                tidy = [re.sub(r"^(-?\d+),(\d+)$", r"\1.\2", cell) for cell in tidy]
            if any(tidy):
                found.append((reader.line_num, tidy))
    except csv.Error as error:
        raise UserError(f"{name}: line {reader.line_num + 1}: {error}") from None
    return found


def _places(lines: Sequence[tuple[int, list[str]]], names: Sequence[str], file: str) -> tuple[int, list[int], str]:
    """How many lines are header, the place of each column, and a sentence on how it was found."""
    number, cells = lines[0]
    by_position = list(range(len(names)))
    if all(_is_number(cell) for cell in cells[: len(names) - 1]):
        if len(cells) != len(names):
            raise UserError(f"{file}: line {number}: {len(cells)} columns and no header; give {', '.join(names)}")
        return 0, by_position, f"{file}: no header; its columns are taken to be {', '.join(names)}"
    known = {_spelled(cell): place for place, cell in enumerate(cells)}
    places = [known.get(_spelled(name), -1) for name in names]
    if -1 not in places:
        return 1, places, ""
    if len(cells) != len(names):
        missing = ", ".join(name for name, place in zip(names, places, strict=True) if place < 0)
        raise UserError(f"{file}: line {number}: no column {missing}; its columns are {', '.join(cells)}")
    left = iter(sorted(set(by_position) - set(places)))
    filled = [place if place >= 0 else next(left) for place in places]
    taken = [f"{cells[new]} for {name}" for name, old, new in zip(names, places, filled, strict=True) if old < 0]
    return 1, filled, f"{file}: columns matched by position, taking {', '.join(taken)}"


def _spelled(name: str) -> str:
    return re.sub(r"[^a-z]|cm$|\(cm\)", "", name.lower().replace(" ", ""))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _checked(
    lines: Sequence[tuple[int, list[str]]], columns: Sequence[Column], places: Sequence[int], classes: Mapping[str, str]
) -> list[Row]:
    import pandas as pd

    width = max(places) + 1
    cells = [[line[place] if place < len(line) else "" for place in places] for _, line in lines]
    names = [column.name for column in columns]
    table = pd.DataFrame(cells, columns=[*names, "label"], dtype=str)
    numbers = table[names].apply(pd.to_numeric, errors="coerce")
    known = table["label"].str.lower().map(classes)
    whole = numbers.assign(label=known)
    faults: list[Rejection | None] = [None] * len(lines)

    def note(found: Any, reason: str, detail: Any) -> None:
        for index in found[found].index:
            faults[index] = faults[index] or Rejection(reason, detail(index))

    short = pd.Series([len(line) < width for _, line in lines], dtype=bool)
    note(short, "too few columns", lambda index: f"{len(lines[index][1])} of {width}")
    for column in columns:
        given, value = table[column.name], numbers[column.name]
        note(given == "", "missing value", lambda index, column=column: column.name)
        note(value.isna(), "not a number", lambda index, c=column, g=given: f"{c.name} is {g[index][:40]}")
        out = (value <= column.low) | (value > column.high)
        note(out, "out of range", lambda index, c=column, v=value: f"{c.name} is {v[index]:g}")
    note(table["label"] == "", "missing value", lambda index: "label")
    note(known.isna(), "unknown class", lambda index: table["label"][index][:40])
    first = whole.groupby(list(whole.columns), dropna=False).ngroup()
    earlier = {group: index for index, group in reversed(list(first.items()))}
    note(whole.duplicated(), "duplicate row", lambda index: f"the same as line {lines[earlier[first[index]]][0]}")
    return [
        Row(
            line,
            () if fault else tuple(float(value) for value in numbers.iloc[index]),
            str(known[index]) if isinstance(known[index], str) else table["label"][index],
            fault,
        )
        for index, ((line, _), fault) in enumerate(zip(lines, faults, strict=True))
    ]
