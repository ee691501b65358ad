"""Protects the image table: which interpreter, folder and serving command an image gets, and how mistakes are told."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from localvertex.workloads import WorkloadError
from localvertex.workloads.table import ImageTable


@dataclass
class Folder:
    path: Path


def test_first_matching_entry_decides_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "localvertex.toml"
    file.write_text(
        '[[image]]\npattern = "*/trainer:*"\npython = "env/bin/python"\nworkdir = "code"\n'
        '[[image]]\npattern = "*"\nserve = ["python", "-m", "server"]\n'
    )
    table = ImageTable.read(file)
    trainer = table.entry("eu-docker.pkg.dev/p/r/trainer:crnn-1")
    assert trainer.python == tmp_path / "env/bin/python"
    assert trainer.workdir == tmp_path / "code"
    assert table.entry("other").serve == ("python", "-m", "server")


def test_an_interpreter_that_is_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "python").symlink_to(sys.executable)
    file = tmp_path / "localvertex.toml"
    file.write_text('[[image]]\npattern = "*"\npython = "python"\n')
    assert ImageTable.read(file).entry("x").python == tmp_path / "python"


def test_an_image_not_in_the_table_gets_this_interpreter(tmp_path: Path) -> None:
    entry = ImageTable.load(Folder(tmp_path / "home")).entry("python:3.11")
    assert entry.python == Path(sys.executable)
    assert entry.workdir == tmp_path


def test_the_variable_wins_over_the_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "localvertex.toml").write_text('[[image]]\npattern = "*"\nworkdir = "a"\n')
    elsewhere = tmp_path / "elsewhere.toml"
    elsewhere.write_text('[[image]]\npattern = "*"\nworkdir = "b"\n')
    home = Folder(tmp_path)
    assert ImageTable.load(home).entry("x").workdir == tmp_path / "a"
    monkeypatch.setenv("LOCALVERTEX_IMAGES", str(elsewhere))
    assert ImageTable.load(home).entry("x").workdir == tmp_path / "b"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[[image]]\npattern = "*"\npyton = "x"\n', "image 1: unknown field 'pyton'"),
        ("[[image]]\n", "image 1: field 'pattern' is missing"),
        ('[[image]]\npattern = "*"\nserve = "x"\n', "field 'serve' must be a list"),
        ('[image]\npattern = "*"\n', "an array of tables"),
        ("[[image\n", "not valid TOML"),
        ("[other]\n", "unknown table 'other'"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "localvertex.toml"
    file.write_text(text)
    with pytest.raises(WorkloadError, match=r"localvertex\.toml") as caught:
        ImageTable.read(file)
    assert told in str(caught.value)


def test_a_file_that_the_variable_names_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALVERTEX_IMAGES", str(tmp_path / "none.toml"))
    with pytest.raises(WorkloadError, match="not a file"):
        ImageTable.load(Folder(tmp_path))
