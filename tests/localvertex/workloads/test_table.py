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


@pytest.mark.parametrize(
    ("image", "framework"),
    [
        ("us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest", "tensorflow"),
        ("europe-docker.pkg.dev/vertex-ai/prediction/tf2-gpu.2-12", "tensorflow"),
        ("asia-docker.pkg.dev/vertex-ai-restricted/prediction/tf_opt-cpu.nightly:latest", "tensorflow"),
        ("gcr.io/cloud-aiplatform/prediction/tf2-cpu.2-2:latest", "tensorflow"),
        ("us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-5:latest", "sklearn"),
        ("us-docker.pkg.dev/vertex-ai/prediction/xgboost-cpu.1-7:latest", None),
        ("us-docker.pkg.dev/mine/prediction/tf2-cpu.2-15:latest", None),
        ("gcr.io/ml-pipeline/google-cloud-pipeline-components:2.22.0", None),
    ],
)
def test_pre_built_prediction_images_are_known(tmp_path: Path, image: str, framework: str | None) -> None:
    serve = ImageTable((), tmp_path).entry(image).serve
    assert (serve[-1] if serve else None) == framework


def test_a_files_entry_may_change_the_interpreter_or_the_server_of_a_pre_built_image(tmp_path: Path) -> None:
    file = tmp_path / "localvertex.toml"
    file.write_text(
        '[[image]]\npattern = "*/tf2-cpu.*"\npython = "env/bin/python"\n'
        '[[image]]\npattern = "*/tf2-gpu.*"\nserve = ["python", "-m", "mine"]\n'
    )
    table = ImageTable.read(file)
    entry = table.entry("us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest")
    assert (entry.python, entry.serve[-1]) == (tmp_path / "env/bin/python", "tensorflow")
    assert table.entry("us-docker.pkg.dev/vertex-ai/prediction/tf2-gpu.2-15:latest").serve[-1] == "mine"


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
