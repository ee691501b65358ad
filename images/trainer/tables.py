"""Tables of numbers with a class in each row, as people keep them: with or without a header, comma or semicolon.

Every row is checked with pandas against the columns that a system expects; a bad one is told with its line.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from images.executor import UserError
from images.trainer.candidates import Rejection

if TYPE_CHECKING:
    import pandas as pd

MAX_BYTES = 64 << 20
MAX_LINE = 1 << 16  # characters
_SEPARATORS = ";\t,"  # Where commas divide whole from part, there may be as many of them as of what divides cells.
_MISSING = ("", "-", "?", "na", "n/a", "nan", "none", "null")
_LABEL = "label"
_SHOWN = 200  # characters of a stranger's header in a message


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


class _Line(NamedTuple):
    number: int
    cells: list[str]


class _Header(NamedTuple):
    """What the first line says.

    Attributes:
        lines: how many lines are header.
        places: of each column that is looked for.
        width: how many columns there are.
        note: a sentence on how the columns were found.
        classes: class by the number that stands for it, where the header says so.
    """

    lines: int
    places: Sequence[int]
    width: int
    note: str = ""
    classes: Mapping[str, str] = {}


def rows(
    data: bytes, name: str, columns: Sequence[Column], label: str, classes: Mapping[str, str]
) -> tuple[list[Row], str]:
    """Reads a table.

    Args:
        data: the file, UTF-8 or UTF-16, with any line ends, with or without byte order mark and header. A header
            such as `120,4,setosa,versicolor,virginica` counts rows and columns and names the classes.
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
    lines = _lines(data, name)
    header = _header(lines, [*(column.name for column in columns), label], name, optional=0)
    body = _body(lines, header, name)
    table = _table(body, header, [*(column.name for column in columns), _LABEL])
    words = table[_LABEL].str.lower()
    known = words.map(lambda word: header.classes.get(word, word)).map(classes)
    numbers = _numbers(table, columns)
    faults = list(_faults(body, header, table, numbers, known, columns))
    found = zip(body, numbers.to_numpy().tolist(), known.where(known.notna(), table[_LABEL]), faults, strict=True)
    return [Row(line.number, () if fault else tuple(values), str(of), fault) for line, values, of, fault in found], (
        header.note
    )


def numbers(data: bytes, name: str, columns: Sequence[Column]) -> pd.DataFrame:
    """Reads the numbers of a table as they are, with or without a class in each row.

    Args:
        data: the file, as for `rows`.
        name: of the file, for messages.
        columns: the numbers of a row.

    Returns:
        Float columns by name, a row for each row of the table; NaN where a number is missing or is none.

    Raises:
        UserError: the file is empty, too large, no text, or no table with these columns.
    """
    lines = _lines(data, name)
    names = [column.name for column in columns]
    header = _header(lines, names, name, optional=1)
    return _numbers(_table(_body(lines, header, name), header, names), columns)


def numbers_of(instance: Any, names: Sequence[str]) -> tuple[float, ...]:
    """The numbers of one row as a client sends it, in whatever form.

    Args:
        instance: numbers by their names, or in their order: as a list, as `numbers`, as a line of CSV, or as `csv_row`.
        names: of the numbers.

    Returns:
        As many floats; NaN where a number is missing or is none.
    """
    if isinstance(instance, dict) and "csv_row" in instance:
        instance = instance["csv_row"]
    elif isinstance(instance, dict) and "numbers" in instance:
        instance = instance["numbers"]
    elif isinstance(instance, dict):
        instance = [instance.get(name) for name in names]
    if isinstance(instance, str):
        instance = next(csv.reader([instance]), [])
    given = instance if isinstance(instance, list) else []
    return tuple(_number(value) for value in [*given, *[None] * len(names)][: len(names)])


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _lines(data: bytes, name: str) -> list[_Line]:
    """The lines that hold anything. Each is read for itself: a stray quotation mark spoils no other."""
    numbered = [(number, text) for number, text in enumerate(_texts(data, name), start=1) if text.strip()]
    if not numbered:
        raise UserError(f"{name}: empty; give a CSV with a row for each example")
    separator = max(_SEPARATORS, key=numbered[0][1].count)
    split = (_Line(number, _cells(text, separator)) for number, text in numbered)
    return [line for line in split if any(line.cells)]


def _texts(data: bytes, name: str) -> Iterator[str]:
    if len(data) > MAX_BYTES:
        raise UserError(f"{name}: more than {MAX_BYTES >> 20} MB; this is no small table")
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not text in UTF-8 (byte {error.start:,}); save it as CSV in UTF-8") from None
    with io.TextIOWrapper(io.BytesIO(data), encoding, newline="") as text:
        number = 0
        while line := text.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise UserError(
                    f"{name}: line {number}: longer than {MAX_LINE:,} characters; this is no row of a table"
                )
            yield line


def _cells(text: str, separator: str) -> list[str]:
    cells = [cell.strip() for cell in next(csv.reader([text.rstrip("\r\n")], delimiter=separator))]
    if separator == ",":
        return cells
    return [re.sub(r"^([+-]?\d+),(\d+)$", r"\1.\2", cell) for cell in cells]


def _header(lines: Sequence[_Line], names: Sequence[str], file: str, optional: int) -> _Header:
    """Finds the columns of these names, or takes them by position; so many more at the end may be there or not."""
    if not lines:
        raise UserError(f"{file}: empty; give a CSV with a row for each example")
    number, cells = lines[0]
    by_position = range(len(names))
    fitting = range(len(names), len(names) + optional + 1)
    width = _width(cells)
    if _counts(cells[:width]):
        return _counted(lines, names, file, len(names) - 1 + optional)
    if any(_is_number(cell) for cell in cells):
        if width not in fitting:
            raise UserError(f"{file}: line {number}: {width} columns and no header; give {', '.join(names)}")
        return _Header(0, by_position, width, f"{file}: no header; its columns are taken to be {', '.join(names)}")
    known = {_spelled(cell): place for place, cell in enumerate(cells)}
    places = [known.get(_spelled(name), -1) for name in names]
    if -1 not in places:
        return _Header(1, places, width)
    if width not in fitting:
        missing = ", ".join(name for name, place in zip(names, places, strict=True) if place < 0)
        there = ", ".join(cells)[:_SHOWN]
        raise UserError(f"{file}: line {number}: no column {missing}; its columns are {there}")
    left = iter(sorted(set(by_position) - set(places)))
    filled = [place if place >= 0 else next(left) for place in places]
    taken = [f"{cells[new]} for {name}" for name, old, new in zip(names, places, filled, strict=True) if old < 0]
    return _Header(1, filled, width, f"{file}: columns matched by position, taking {', '.join(taken)}")


def _counts(cells: Sequence[str]) -> bool:
    """Whether a line is the classic header `<rows>,<columns>,<class 0>,<class 1>,…`."""
    return len(cells) > 2 and all(cell.isdigit() for cell in cells[:2]) and not any(map(_is_number, cells[2:]))


def _counted(lines: Sequence[_Line], names: Sequence[str], file: str, columns: int) -> _Header:
    rows, promised, *classes = lines[0].cells
    if int(promised) != columns:
        raise UserError(f"{file}: line {lines[0].number}: promises {promised} columns; give {columns} and a class")
    note = f"{file}: its first line counts rows and names classes; its columns are taken to be {', '.join(names)}"
    if int(rows) != len(lines) - 1:
        note += f"; it promises {rows} rows and has {len(lines) - 1}"
    by_number = {str(number): name.lower() for number, name in enumerate(classes)}
    return _Header(1, range(len(names)), columns + 1, note, by_number)


def _body(lines: Sequence[_Line], header: _Header, name: str) -> Sequence[_Line]:
    if len(lines) == header.lines:
        raise UserError(f"{name}: only a header; give a row for each example")
    return lines[header.lines :]


def _width(cells: Sequence[str]) -> int:
    """How many columns, without empty ones at the end."""
    return max((place for place, cell in enumerate(cells, start=1) if cell), default=0)


def _spelled(name: str) -> str:
    return re.sub(r"cm$", "", re.sub(r"[^a-z]", "", name.lower()))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell.lower() not in _MISSING


def _table(body: Sequence[_Line], header: _Header, names: Sequence[str]) -> pd.DataFrame:
    """The cells as text; what a line is too short for is empty."""
    import pandas as pd

    cells = [[line.cells[place] if place < len(line.cells) else "" for place in header.places] for line in body]
    return pd.DataFrame(cells, columns=list(names), dtype=str)


def _numbers(table: pd.DataFrame, columns: Sequence[Column]) -> pd.DataFrame:
    import pandas as pd

    names = [column.name for column in columns]
    return table[names].apply(pd.to_numeric, errors="coerce").astype(float)


def _faults(
    body: Sequence[_Line],
    header: _Header,
    table: pd.DataFrame,
    numbers: pd.DataFrame,
    known: pd.Series,
    columns: Sequence[Column],
) -> Iterator[Rejection | None]:
    """The first fault of each row."""
    import pandas as pd

    faults: list[Rejection | None] = [None] * len(body)

    def note(found: Any, reason: str, detail: Callable[[int], str]) -> None:
        for index in found[found].index:
            faults[index] = faults[index] or Rejection(reason, detail(index))

    least, sizes = max(header.places) + 1, pd.Series([_width(line.cells) for line in body])
    given = pd.Series([len(line.cells) for line in body])
    note(given < least, "too few columns", lambda index: f"{given[index]} of {least}")
    note(sizes > header.width, "too many columns", lambda index: f"{sizes[index]}, not {header.width}")
    for column in columns:
        text, value = table[column.name], numbers[column.name]
        note(text.str.lower().isin(_MISSING), "missing value", lambda index, column=column: column.name)
        note(value.isna(), "not a number", lambda index, c=column, t=text: f"{c.name} is {t[index][:40]}")
        out = (value <= column.low) | (value > column.high)
        note(out, "out of range", lambda index, c=column, v=value: f"{c.name} is {v[index]:g}")
    note(table[_LABEL].str.lower().isin(_MISSING), "missing value", lambda index: _LABEL)
    note(known.isna(), "unknown class", lambda index: table[_LABEL][index][:40])
    whole = numbers.assign(**{_LABEL: known})[[fault is None for fault in faults]]
    first: dict[tuple[Any, ...], int] = {}
    for index, *values in whole.itertuples():
        earlier = first.setdefault(tuple(values), index)
        if earlier != index:
            faults[index] = Rejection("duplicate row", f"the same as line {body[earlier].number}")
    yield from faults
