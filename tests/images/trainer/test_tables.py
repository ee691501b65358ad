"""Protects iris's tables: every usable row gets in, whatever the file's habits; each bad one is told and why."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from images.executor import UserError
from images.trainer import records, splits, tables
from images.trainer.ingest import ingest
from images.trainer.systems.iris import data as iris

ROOT = Path(__file__).parents[3]
CLASSIC = ROOT.parent / "shared" / "data" / "iris"
NAMES = "sepal_length,sepal_width,petal_length,petal_width,species"
ROWS = [(5.1, 3.5, 1.4, 0.2, "setosa"), (6.0, 2.2, 4.0, 1.0, "versicolor"), (6.9, 3.1, 5.4, 2.1, "virginica")]
SPELLED = {name: number for number, name in enumerate(iris.CLASSES)}


def read(text: str | bytes) -> tuple[list[tables.Row], str]:
    content = text.encode() if isinstance(text, str) else text
    return tables.rows(content, "iris.csv", iris.COLUMNS, iris.LABEL, iris.SPELLINGS)


def usable(text: str | bytes) -> list[tuple[float | str, ...]]:
    return [(*row.values, row.label) for row in read(text)[0] if row.fault is None]


def faults(text: str) -> dict[int, str]:
    return {row.line: str(row.fault) for row in read(text)[0] if row.fault is not None}


def lines(rows=ROWS, header=NAMES, separator=",", ends="\n", species=str, comma=False, extra=None) -> str:
    """A table as somebody may keep it."""
    written = [header.replace(",", separator)] if header else []
    for number, (*values, of) in enumerate(rows, start=1):
        cells = [str(value).replace(".", ",") if comma else str(value) for value in values] + [str(species(of))]
        written.append(separator.join([str(number), *cells] if extra else cells))
    return ends.join(written) + ends


HABITS = {
    "header": lines(),
    "no header": lines(header=""),
    "classic header, misspelt": lines(header="SepalLength,SepalWidth,PentalLength,PentalWidth,Species"),
    "classic count": lines(header="3,4,setosa,versicolor,virginica", species=SPELLED.get),
    "scikit-learn's names": lines(
        header="sepal length (cm),sepal width (cm),petal length (cm),petal width (cm),target", species=SPELLED.get
    ),
    "Kaggle's names and Id": lines(
        header="Id,SepalLengthCm,SepalWidthCm,PetalLengthCm,PetalWidthCm,Species", species="Iris-{}".format, extra=True
    ),
    "integers": lines(species=SPELLED.get),
    "integers as decimals": lines(species=lambda of: float(SPELLED[of])),
    "UCI's": lines(header="", species="Iris-{}".format),
    "byte order mark": "\ufeff" + lines(),
    "byte order mark, no header": "\ufeff" + lines(header=""),
    "UTF-16": lines().encode("utf-16"),
    "Windows line ends": lines(ends="\r\n"),
    "old Mac line ends": lines(ends="\r"),
    "semicolons": lines(separator=";"),
    "semicolons, decimal commas": lines(separator=";", comma=True),
    "semicolons, decimal commas, no header": lines(header="", separator=";", comma=True),
    "semicolons, decimal commas, byte order mark, Windows": "\ufeff" + lines(separator=";", comma=True, ends="\r\n"),
    "tabs, decimal commas, no header": lines(header="", separator="\t", comma=True),
    "spaces": lines(separator=" , "),
    "quotation marks": lines(header='"sepal_length","sepal_width","petal_length","petal_width","species"'),
    "capitals": lines(species=str.upper),
    "blank lines": "\n\n" + lines().replace("\n", "\n\n,,,,\n"),
    "empty cells at the end": lines(header=NAMES + ",,").replace("a\n", "a,,\n"),
}


@pytest.mark.parametrize("habit", HABITS)
def test_a_table_is_read_whatever_its_habits(habit):
    assert usable(HABITS[habit]) == ROWS
    assert faults(HABITS[habit]) == {} if isinstance(HABITS[habit], str) else True


def test_columns_are_found_by_name_in_any_order():
    swapped = "species,petal_width,petal_length,sepal_width,sepal_length\nsetosa,0.2,1.4,3.5,5.1\n"
    assert usable(swapped) == ROWS[:1]
    assert read(swapped)[1] == ""


@pytest.mark.parametrize(
    ("habit", "said"),
    [
        ("header", ""),
        ("no header", "iris.csv: no header; its columns are taken to be sepal_length, sepal_width, petal_length"),
        (
            "classic header, misspelt",
            "iris.csv: columns matched by position, taking PentalLength for petal_length, PentalWidth for petal_width",
        ),
        ("classic count", "iris.csv: its first line counts rows and names classes; its columns are taken to be sepal_"),
    ],
)
def test_it_says_how_the_columns_were_found(habit, said):
    note = read(HABITS[habit])[1]
    assert note.startswith(said) and bool(note) == bool(said)


def test_the_classic_count_says_what_the_numbers_mean_and_how_many_rows_there_are():
    shuffled = lines(
        header="4,4,virginica,setosa,versicolor", species={"virginica": 0, "setosa": 1, "versicolor": 2}.get
    )
    assert usable(shuffled) == ROWS
    assert read(shuffled)[1].endswith("; it promises 4 rows and has 3")


BAD = {
    "5.1,3.5,1.4": "too few columns: 3 of 5",
    "5.1,3.5,1.4,0.2": "too few columns: 4 of 5",
    "5.1,3.5,1.4,0.2,setosa,7": "too many columns: 6, not 5",
    "5,1,3,5,1,4,0,2,setosa": "too many columns: 9, not 5",
    "5.1,,1.4,0.2,setosa": "missing value: sepal_width",
    "5.1,NA,1.4,0.2,setosa": "missing value: sepal_width",
    "5.1,3.5,nan,0.2,setosa": "missing value: petal_length",
    "5.1,3.5,1.4,0.2,": "missing value: label",
    "5.1,three,1.4,0.2,setosa": "not a number: sepal_width is three",
    "5.1,3.5,1.4,0x2,setosa": "not a number: petal_width is 0x2",
    "5.1,3.5,1.4,True,setosa": "not a number: petal_width is True",
    "-5.1,3.5,1.4,0.2,setosa": "out of range: sepal_length is -5.1",
    "5.1,3.5,0,0.2,setosa": "out of range: petal_length is 0",
    "5.1,3.5,1.4,inf,setosa": "out of range: petal_width is inf",
    "51,3.5,1.4,0.2,setosa": "out of range: sepal_length is 51",
    "5.1,3.5,1.4,0.2,rose": "unknown class: rose",
    "5.1,3.5,1.4,0.2,3": "unknown class: 3",
    '"5.1,3.5,1.4,0.2,setosa': "too few columns: 1 of 5",
    "5.10,3.5,1.40,0.2,Iris-setosa": "duplicate row: the same as line 2",
}


def test_each_bad_row_is_told_and_spoils_no_other():
    text = lines() + "\n".join(BAD) + "\n" + lines([(5.0, 3.6, 1.4, 0.2, "setosa")], header="")
    assert faults(text) == dict(enumerate(BAD.values(), start=5))
    assert usable(text) == [*ROWS, (5.0, 3.6, 1.4, 0.2, "setosa")]


def test_the_same_lengths_of_another_species_are_no_duplicate():
    assert len(usable(lines([ROWS[0], (*ROWS[0][:4], "virginica")]))) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "iris.csv: empty"),
        (b"\xef\xbb\xbf", "iris.csv: empty"),
        (b"\r\n \r\n", "iris.csv: empty"),
        (b",,,,\n,,\n", "iris.csv: empty"),
        (NAMES.encode(), "iris.csv: only a header"),
        (b"150,4,setosa,versicolor,virginica\n", "iris.csv: only a header"),
        (b"150,5,setosa,versicolor,virginica\n1,2,3,4,5,0", "line 1: promises 5 columns; give 4 and a class"),
        (b"5.1,3.5,1.4,setosa\n", "line 1: 4 columns and no header; give sepal_length, sepal_width"),
        (b"1,5.1,3.5,1.4,0.2,setosa\n", "line 1: 6 columns and no header"),
        (b"a,b,c\n1,2,3\n", "line 1: no column sepal_length, sepal_width, petal_length, petal_width, species; its"),
        (
            b"id,sepal_length,sepal_width,petal_length,petal_width,type\n",
            "line 1: no column species; its columns are id",
        ),
        (b"<!doctype html>\n<p>\n", "line 1: no column sepal_length"),
        (b"5.1,3.5,1.4,0.2,\xe9\n", "iris.csv: not text in UTF-8 (byte 16)"),
        (b"\xff\xfe5", "iris.csv: not text in UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0", "iris.csv: not text in UTF-8 (byte 0)"),
        (NAMES.encode() + b"\n" + b"1," * 50_000, "iris.csv: line 2: longer than 65,536 characters"),
        (bytes(tables.MAX_BYTES + 1), "iris.csv: more than 64 MB"),
    ],
    ids=range(17),
)
def test_a_bad_file_is_one_message(content, message):
    with pytest.raises(UserError) as error:
        read(content)
    assert message in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


NUMBERS = st.floats(0.1, 30.0).map(lambda value: round(value, 3))
RECORDS = st.lists(st.tuples(*[NUMBERS] * 4, st.sampled_from(iris.CLASSES)), min_size=1, max_size=20, unique=True)
HEADERS = st.sampled_from([NAMES, "", "SepalLength,SepalWidth,PentalLength,PentalWidth,Species"])
CELL = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=8)
TEXT = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))
JUNK = st.one_of(TEXT, st.lists(CELL).map(",".join))


@settings(max_examples=60, deadline=None)
@given(RECORDS, HEADERS, st.sampled_from([",", ";", "\t"]), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_what_was_written_is_what_is_read(rows, header, separator, ends, bom):
    text = lines(rows, header, separator, ends, comma=separator != ",")
    assert usable("\ufeff" * bom + text) == rows


@settings(max_examples=100, deadline=None)
@given(RECORDS, st.lists(JUNK, max_size=5))
def test_no_line_of_junk_is_lost_or_spoils_a_row(rows, junk):
    text = lines(rows) + "\n".join(junk) + "\n"
    found, _ = read(text)
    assert [(*row.values, row.label) for row in found[: len(rows)]] == rows
    told = {row.line for row in found[len(rows) :]}
    blank = {n for n, line in enumerate(junk, start=len(rows) + 2) if not re.sub('[,"]', "", line).strip()}
    assert told | blank == set(range(len(rows) + 2, len(rows) + 2 + len(junk)))


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)))
def test_a_file_of_anything_is_rows_or_one_message(content):
    try:
        found, _ = read(content)
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert all((row.fault is None) == (len(row.values) == 4) for row in found)


def test_new_data_needs_no_class_and_keeps_what_is_missing():
    expected = [[5.1, 3.5, 1.4, 0.2], [np.nan, 99.0, np.nan, 0.2]]
    bare = "5.1,3.5,1.4,0.2\n,99,x,0.2\n"
    named = "petal_width,petal_length,sepal_width,sepal_length\n0.2,1.4,3.5,5.1\n0.2,,99,\n"
    for text in (bare, bare.replace("\n", ",setosa\n"), named, "2,4,setosa,virginica\n" + bare.replace("\n", ",0\n")):
        found = tables.numbers(text.encode(), "new.csv", iris.COLUMNS)
        np.testing.assert_array_equal(found.to_numpy(), expected)
        assert tuple(found.columns) == iris.NAMES


# Ingest.


def source(folder: Path, **files: str | bytes) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / f"{name}.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def flowers(count: int, seed: int = 0) -> list[tuple[float | str, ...]]:
    chance = np.random.default_rng(seed)
    return [(*map(float, chance.uniform(1, 7, 4).round(3)), iris.CLASSES[number % 3]) for number in range(count)]


def stored(examples: Path, split: str) -> Counter:
    files = sorted((examples / split).iterdir())
    return Counter(
        (*np.array(row["numbers"]).round(3), iris.CLASSES[row["label"][0]])
        for file in files
        for row in records.read(file.read_bytes())
    )


def test_every_row_is_an_example_or_a_reject(tmp_path):
    text = lines(flowers(60)) + "1,2,3\n5,5,5,x,setosa\n"
    schema = ingest("iris", source(tmp_path / "source", iris=text), tmp_path / "examples", {}, processes=1)
    found = sum((stored(tmp_path / "examples", split) for split in splits.SPLITS), Counter())
    assert found == Counter(flowers(60))
    assert schema["counts"] == {"train": 48, "validation": 6, "test": 6, "rejected": 2}
    assert Counter(of for *_, of in stored(tmp_path / "examples", "test").elements()) == dict.fromkeys(iris.CLASSES, 2)
    with open(tmp_path / "examples" / "rejects.csv", newline="") as file:
        reasons = [(row["location"], row["key"], row["reason"]) for row in csv.DictReader(file)]
    assert reasons == [
        ("iris.csv", "iris.csv:62", "too few columns: 3 of 5"),
        ("iris.csv", "iris.csv:63", "not a number: petal_width is x"),
    ]


def test_a_row_that_is_in_two_files_is_taken_once(tmp_path):
    rows = flowers(60)
    folder = source(tmp_path / "source", first=lines(rows), second=lines([rows[7], *flowers(6, seed=1)]))
    schema = ingest("iris", folder, tmp_path / "examples", {}, processes=1)
    assert schema["counts"]["rejected"] == 1
    assert (
        "second.csv:2,versicolor,duplicate row: the same as first.csv:9"
        in (tmp_path / "examples" / "rejects.csv").read_text()
    )


def test_the_schema_describes_the_training_rows_and_no_others(tmp_path):
    ingest("iris", source(tmp_path / "source", iris=lines(flowers(90))), tmp_path / "examples", {}, processes=1)
    schema = json.loads((tmp_path / "examples" / "schema.json").read_text())
    training = np.array([row[:4] for row in stored(tmp_path / "examples", "train").elements()], float)
    for index, (name, column) in enumerate(schema["columns"].items()):
        assert name == iris.NAMES[index]
        assert column["minimum"] == pytest.approx(training[:, index].min())
        assert column["maximum"] == pytest.approx(training[:, index].max())
        assert column["mean"] == pytest.approx(training[:, index].mean())
        assert len(column["shares"]) == len(column["edges"]) + 1
        assert sum(column["shares"]) == pytest.approx(1)


@pytest.mark.skipif(not CLASSIC.is_dir(), reason="the classic files are not here")
def test_the_classic_files_keep_their_test_rows(tmp_path, capsys):
    schema = ingest("iris", CLASSIC, tmp_path / "examples", {}, processes=1)
    printed = capsys.readouterr().out
    for name in ("iris_training.csv", "iris_test.csv"):
        assert f"{name}: columns matched by position, taking PentalLength for petal_length" in printed
    assert sum(schema["counts"].values()) == 150
    assert schema["counts"]["test"] == 30
    assert set(schema["reject_reasons"]) <= {"duplicate row", "also among the source's test inputs"}


@pytest.mark.parametrize("size", ["1 GB without an end", "48 MB in one line"])
def test_a_line_without_end_takes_neither_memory_nor_time(tmp_path, size):
    path = source(tmp_path / "source", iris=NAMES + "\n") / "iris.csv"
    if size.startswith("1 GB"):
        os.truncate(path, 1 << 30)  # A hole: it takes no room on disk.
    else:
        with path.open("ab") as file:
            file.write(b"5.1," * (12 << 20))
    code = f"""
import resource
from images.executor import UserError
from images.trainer.ingest import main
try:
    main(["--system=iris", "--source={path.parent}", "--examples={tmp_path}/examples"])
except UserError as error:
    print(error)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(int(peak.split()[1]) >> 10, resource.getrusage(resource.RUSAGE_SELF).ru_utime)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    message, measured = told.splitlines()
    megabytes, seconds = map(float, measured.split())
    assert message.startswith(f"{path}: ")
    assert megabytes < 400 and seconds < 10
    assert sorted(os.listdir(tmp_path)) == ["source"]


@pytest.mark.parametrize("content", ["", NAMES, "a,b\n1,2\n"])
def test_a_bad_file_at_the_terminal_is_one_line_and_exit_code_2(tmp_path, stage, content):
    folder = source(tmp_path / "source", iris=content)
    made = stage("trainer.ingest", "--system=iris", f"--source={folder}", f"--examples={tmp_path}/examples")
    assert made.returncode == 2
    assert made.stderr.startswith(f"error: {folder}/iris.csv: ") and made.stderr.count("\n") == 1
    assert sorted(os.listdir(tmp_path)) == ["source"]
