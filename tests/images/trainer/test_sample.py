"""Protects sample data: a seed gives the same bytes anywhere, in IAM's own format, with writers apart."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from images.executor import UserError
from images.trainer.sample import sample
from images.trainer.systems.crnn import sample as generator
from images.trainer.systems.crnn.vocabulary import NAMES, WORDS

ROOT = Path(__file__).parents[3]
COUNT = 250


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(str(f.relative_to(folder)).encode() + f.read_bytes() for f in files)).hexdigest()


def lines(folder: Path, index: str) -> list[list[str]]:
    text = (folder / index).read_text()
    return [line.split() for line in text.splitlines() if not line.startswith("#")]


@pytest.fixture(scope="module", params=generator.KINDS)
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample") / request.param
    assert sample("crnn", folder, request.param, COUNT, seed=5, processes=1)
    return request.param, folder


def test_the_index_lists_every_picture_with_its_size(made):
    _, folder = made
    words = lines(folder, "words.txt")
    assert len(words) == COUNT
    for name, segmentation, level, *box, tag, text in words:
        text_group, form, _, _ = name.split("-")
        picture = Image.open(folder / "words" / text_group / f"{text_group}-{form}" / f"{name}.png")
        picture.load()
        assert picture.mode == "L" and [str(side) for side in picture.size] == box[2:]
        assert segmentation in ("ok", "err") and 0 < int(level) < 255 and tag and text
    assert len(list(folder.rglob("*.png"))) == COUNT


def test_every_form_has_one_writer(made):
    _, folder = made
    writers = {form: writer for form, writer, *_ in lines(folder, "forms.txt")}
    assert {name.rsplit("-", 2)[0] for name, *_ in lines(folder, "words.txt")} == set(writers)
    assert len(set(writers.values())) >= 3


@pytest.mark.parametrize("processes", [2, 3])
def test_the_number_of_processes_does_not_matter(made, tmp_path, processes):
    kind, folder = made
    sample("crnn", tmp_path / "again", kind, COUNT, seed=5, processes=processes)
    assert digest(tmp_path / "again") == digest(folder)


def test_another_seed_gives_other_data(made, tmp_path):
    kind, folder = made
    sample("crnn", tmp_path / "other", kind, COUNT, seed=6)
    assert digest(tmp_path / "other") != digest(folder)


def test_what_is_there_is_left_as_it_is(made):
    kind, folder = made
    before = os.stat(folder / "words.txt").st_ino
    assert not sample("crnn", folder, kind, COUNT, seed=5)
    assert os.stat(folder / "words.txt").st_ino == before


def test_an_older_sample_is_replaced_and_other_files_never(tmp_path):
    assert sample("crnn", tmp_path / "out", "words", 8, seed=1)
    assert sample("crnn", tmp_path / "out", "words", 9, seed=1)
    assert len(lines(tmp_path / "out", "words.txt")) == 9
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match="no sample"):
        sample("crnn", tmp_path / "mine", "words", 8)
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_about_one_in_a_hundred_is_badly_cut(tmp_path):
    sample("crnn", tmp_path / "out", "words", 1600, seed=2)
    cut = sum(segmentation == "err" for _, segmentation, *_ in lines(tmp_path / "out", "words.txt"))
    assert 4 <= cut <= 36


def test_form_names_are_unique_however_many_there_are():
    for kind in generator.KINDS:
        names = [form.name for form in generator.plan(kind, 400_000, 1)]
        assert len(set(names)) == len(names)


def test_digits_of_a_writer_are_nobody_elses():
    pools = [generator._digits_of(writer) for writer in range(generator._DIGIT_WRITERS)]
    seen = [picture.tobytes() for pool in pools for of_digit in pool for picture in of_digit]
    assert len(set(seen)) > 0.99 * len(seen)
    assert all(len(of_digit) for pool in pools for of_digit in pool)


def test_our_png_is_what_pillow_reads():
    greys = np.random.default_rng(1).integers(0, 256, (17, 31), dtype=np.uint8)
    assert (np.asarray(Image.open(io.BytesIO(generator.png(greys)))) == greys).all()


def test_words_and_names_show_every_letter_in_both_cases():
    assert {letter for word in WORDS for letter in word} >= set("abcdefghijklmnopqrstuvwxyz")
    assert {name[0] for name in NAMES} == set("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert len(WORDS) == len(set(WORDS)) and len(NAMES) == len(set(NAMES))


@pytest.mark.parametrize(
    "flag, message",
    [
        ("--kind=letters", "the kinds are words, digits"),
        ("--count=0", "at least 1"),
        ("--seed=-1", "negative"),
        ("--system=iris2", "no samples"),
    ],
)
def test_a_wrong_setting_is_one_message_and_exit_2(tmp_path, flag, message):
    command = [
        sys.executable,
        "-m",
        "images.trainer.sample",
        "--system=crnn",
        f"--out={tmp_path / 'out'}",
        flag,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_to_do_next(tmp_path):
    command = [
        sys.executable,
        "-m",
        "images.trainer.sample",
        "--system=crnn",
        "--count=20",
        f"--out={tmp_path / 'o'}",
    ]
    first, second = (
        subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout for _ in range(2)
    )
    assert "drew 20 of 20 words" in first and "already made" in second
    for output in (first, second):
        assert output.endswith("next: make run PIPELINE=crnn\n")
