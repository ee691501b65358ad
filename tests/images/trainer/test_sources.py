"""Protects reading in place: a tar gives the files of the folder it was packed from, and nothing else."""

from __future__ import annotations

import multiprocessing
import pickle
import tarfile
from concurrent.futures import ProcessPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.executor import UserError
from images.trainer.sources import TAR, Source

FILES = {
    "words.txt": b"# index\r\nline\n",
    "words/a/one.png": b"\x89PNG" + bytes(5000),
    "words/a/empty.png": b"",
}


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "folder"
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.fixture
def packed(folder, tmp_path):
    root = tmp_path / "packed"
    root.mkdir()
    with tarfile.open(root / TAR, "w") as tar:
        tar.add(folder, ".")
    return root


@pytest.fixture(params=["folder", "packed"])
def source(request):
    return Source(request.getfixturevalue(request.param))


def test_all_files_are_there(source):
    assert source.names == sorted(FILES)
    assert {name: source.read(name) for name in source.names} == FILES


@given(offset=st.integers(0, 6000), size=st.integers(0, 6000))
def test_a_part_is_what_slicing_gives(tmp_path_factory, offset, size):
    root = tmp_path_factory.mktemp("source")
    name, data = "data.bin", bytes(range(256)) * 20
    (root / name).write_bytes(data)
    with tarfile.open(root / TAR, "w") as tar:
        tar.add(root / name, name)
    loose = Source(root).read(name, offset, size)
    (root / name).unlink()
    assert Source(root).read(name, offset, size) == loose == data[offset : offset + size]


@pytest.mark.parametrize("name", ["words/a/two.png", "../folder/words.txt", "words/../words.txt", "/etc/hostname"])
def test_what_is_not_listed_cannot_be_read(source, name):
    assert name not in source
    with pytest.raises(FileNotFoundError):
        source.read(name)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_reads_the_same(source, method):
    source.read("words.txt")
    with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
        assert pool.submit(source.read, "words/a/one.png").result() == FILES["words/a/one.png"]


def test_a_pickled_source_reads_on(source):
    source.read("words.txt")
    assert pickle.loads(pickle.dumps(source)).read("words.txt") == FILES["words.txt"]


@pytest.mark.parametrize(
    "data",
    [b"caf\xc3\xa9", b"\xef\xbb\xbfcaf\xc3\xa9", "café".encode("utf-16")],
    ids=["plain", "byte order mark", "UTF-16"],
)
def test_text_is_read_whatever_saved_it(tmp_path, data):
    (tmp_path / "words.txt").write_bytes(data)
    assert Source(tmp_path).text("words.txt") == "café"


def test_bad_bytes_spoil_only_themselves(tmp_path):
    (tmp_path / "words.txt").write_bytes(b"good\nb\xe9d\n")
    assert Source(tmp_path).text("words.txt").splitlines() == ["good", "b\udce9d"]


def test_a_tar_beside_other_files_is_one_of_them(packed):
    (packed / "words.txt").write_text("x")
    assert Source(packed).names == [TAR, "words.txt"]


@pytest.mark.parametrize("spoil", [lambda data: b"no tar" * 200, lambda data: data[:700]], ids=["text", "cut"])
def test_a_damaged_tar_is_one_clear_message(packed, spoil):
    (packed / TAR).write_bytes(spoil((packed / TAR).read_bytes()))
    with pytest.raises(UserError, match="not a plain tar file"):
        Source(packed)


def test_a_missing_folder_is_one_clear_message(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        Source(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="not a folder"):
        Source(tmp_path / "file")
