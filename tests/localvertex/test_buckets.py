"""Protects the buckets: files and objects are one, names cannot leave, digests follow the content."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from pathlib import Path

import pytest
from google.api_core import exceptions
from hypothesis import given, settings
from hypothesis import strategies as st

from localvertex import checksums
from localvertex.buckets import Buckets, Conditions, Object, merge_patch
from localvertex.checksums import checksum_file
from localvertex.home import Home
from localvertex.store import Store


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "state").create()


@pytest.fixture
def buckets(home: Home) -> Buckets:
    return Buckets(home, Store.at(home.database))


def put(buckets: Buckets, name: str, content: bytes = b"x", **options: object) -> Object:
    aside = buckets.aside()
    aside.write_bytes(content)
    conditions = Conditions(**options)  # type: ignore[arg-type]
    return buckets.put("data", name, aside, {}, checksums=checksum_file(aside), conditions=conditions)


def names(buckets: Buckets, prefix: str = "", **options: object) -> list[str]:
    page = buckets.list("data", prefix, **options)  # type: ignore[arg-type]
    return sorted([each.name for each in page.objects] + page.prefixes)


def test_objects_are_files_and_files_are_objects(buckets: Buckets, home: Home) -> None:
    written = put(buckets, "a/b.txt", b"hello")
    assert (home.gcs / "data/a/b.txt").read_bytes() == b"hello"
    assert written.size == 5 and written.properties["contentType"] == "text/plain"
    (home.gcs / "data/a/c.json").write_text("{}")
    seen = buckets.get("data", "a/c.json")
    assert seen.size == 2 and seen.properties["contentType"] == "application/json" and seen.metageneration == 1
    assert names(buckets) == ["a/b.txt", "a/c.json"]
    assert buckets.uri(buckets.path("gs://data/a/c.json")) == "gs://data/a/c.json"
    buckets.delete("data", "a/b.txt")
    assert not (home.gcs / "data/a/b.txt").exists()
    with pytest.raises(exceptions.NotFound):
        buckets.get("data", "a/b.txt")


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/etc/passwd", "..", ".", "a//b", "a/./b", "a\0b", "", "/", "a/" + "b" * 300],
)
def test_names_cannot_leave_the_bucket(buckets: Buckets, name: str) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        put(buckets, name)
    with pytest.raises(exceptions.InvalidArgument):
        buckets.find("data", name)


@pytest.mark.parametrize("bucket", ["..", "a", "A-b-c", "a/b", ".hidden", "", "ab\n"])
def test_bucket_names(buckets: Buckets, bucket: str) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        buckets.create(bucket, "1")
    with pytest.raises(exceptions.InvalidArgument):
        buckets.path(f"gs://{bucket}/x") if bucket != "a/b" else buckets.create(bucket, "1")


def test_links_out_of_the_bucket_are_not_followed(buckets: Buckets, home: Home, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    put(buckets, "a")
    (home.gcs / "data/link").symlink_to(tmp_path)
    (home.gcs / "data/secret").symlink_to(tmp_path / "secret")
    for name in ("link/secret", "secret", "link/new"):
        with pytest.raises(exceptions.InvalidArgument):
            buckets.find("data", name)
    assert names(buckets) == ["a"]


def test_generations_grow_even_within_a_tick(buckets: Buckets) -> None:
    generations = [put(buckets, "a", str(number).encode()).generation for number in range(50)]
    assert generations == sorted(set(generations))
    assert buckets.get("data", "a").generation == generations[-1]


def test_preconditions(buckets: Buckets) -> None:
    first = put(buckets, "a", generation_match=0)
    for conditions in (
        {"generation_match": 0},
        {"generation_match": first.generation + 1},
        {"generation_not_match": first.generation},
    ):
        with pytest.raises(exceptions.PreconditionFailed):
            put(buckets, "a", **conditions)
    second = put(buckets, "a", b"2", generation_match=first.generation)
    with pytest.raises(exceptions.PreconditionFailed):
        buckets.delete("data", "a", Conditions(generation_match=first.generation))
    with pytest.raises(exceptions.NotModified):
        buckets.get("data", "a", Conditions(generation_not_match=second.generation))
    changed = buckets.update("data", "a", {"metadata": {"k": "v"}}, Conditions(metageneration_match=1))
    assert changed.metageneration == 2 and changed.generation == second.generation
    buckets.delete("data", "a", Conditions(generation_match=second.generation))


def test_properties_belong_to_the_content_they_were_said_of(buckets: Buckets, home: Home) -> None:
    put(buckets, "a")
    buckets.update("data", "a", {"contentType": "image/png", "metadata": {"k": "v"}})
    assert buckets.get("data", "a").properties["metadata"] == {"k": "v"}
    (home.gcs / "data/a").write_bytes(b"somebody else's")
    os.utime(home.gcs / "data/a", (1, 1))
    assert buckets.get("data", "a").properties == {"contentType": "application/octet-stream"}


def test_a_name_is_a_file_or_a_folder(buckets: Buckets, home: Home) -> None:
    put(buckets, "a/b")
    for name in ("a", "a/b/c"):
        with pytest.raises(exceptions.Conflict):
            put(buckets, name)
    put(buckets, "folder/", b"")
    assert names(buckets) == ["a/b", "folder/"]
    assert buckets.get("data", "folder/").size == 0
    buckets.delete("data", "folder/")
    assert names(buckets) == ["a/b"]


def test_buckets_come_and_go(buckets: Buckets, home: Home) -> None:
    buckets.create("data", "7", {"location": "EUROPE-WEST1"})
    with pytest.raises(exceptions.Conflict):
        buckets.create("data", "7")
    assert buckets.update_bucket("data", {"labels": {"a": "b"}}).properties["labels"] == {"a": "b"}
    (home.gcs / "by-hand").mkdir()
    assert [bucket.name for bucket in buckets.buckets()] == ["by-hand", "data"]
    put(buckets, "a")
    with pytest.raises(exceptions.Conflict):
        buckets.delete_bucket("data")
    buckets.delete("data", "a")
    buckets.delete_bucket("data")
    with pytest.raises(exceptions.NotFound):
        buckets.bucket("data")


part = st.text("ab.-", min_size=1, max_size=3).filter(lambda text: text not in (".", ".."))
object_names = st.lists(st.lists(part, min_size=1, max_size=3).map("/".join), unique=True, max_size=12)


@given(object_names, st.text("ab/", max_size=3), st.sampled_from(["", "/", "b"]), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_listing_in_pages_is_the_listing(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[str], prefix: str, delimiter: str, size: int
) -> None:
    home = Home(tmp_path_factory.mktemp("state")).create()
    buckets = Buckets(home, Store.at(home.database))
    stored = [name for name in wanted if not any(other.startswith(f"{name}/") for other in wanted)]
    buckets.create("data", "1")
    for name in stored:
        path = buckets.path(f"gs://data/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    expected = set()
    for name in (name for name in stored if name.startswith(prefix)):
        cut = name.find(delimiter, len(prefix)) if delimiter else -1
        expected.add(name if cut < 0 else name[: cut + len(delimiter)])
    found, after = [], ""
    while True:
        page = buckets.list("data", prefix, delimiter=delimiter, after=after, limit=size)
        found += sorted([each.name for each in page.objects] + page.prefixes)
        if not page.next_token:
            break
        after = page.next_token
    assert found == sorted(expected)


def test_listing_within_bounds(buckets: Buckets) -> None:
    for name in "abcd":
        put(buckets, name)
    assert names(buckets, start="b", end="d") == ["b", "c"]


def test_checksums_are_those_of_the_content(buckets: Buckets) -> None:
    found = put(buckets, "a", b"hello world")
    known = buckets.checksums(found)
    assert known.sha256 == hashlib.sha256(b"hello world").hexdigest()
    assert base64.b64decode(known.md5) == hashlib.md5(b"hello world").digest()
    assert known.crc32c == "yZRlqg=="  # as gsutil prints it


def test_digest_follows_content_and_nothing_else(buckets: Buckets, home: Home) -> None:
    assert buckets.digest("gs://data/folder") is None
    put(buckets, "folder/a", b"1")
    put(buckets, "folder/b/c", b"2")
    before = buckets.digest("gs://data/folder")
    assert before == buckets.digest("gs://data/folder/")
    (home.gcs / "data/folder/empty").mkdir()
    os.utime(home.gcs / "data/folder/a", (1, 1))
    assert buckets.digest("gs://data/folder") == before
    put(buckets, "copy/a", b"1")
    put(buckets, "copy/b/c", b"2")
    assert buckets.digest("gs://data/copy") == before, "a digest does not depend on the place"
    put(buckets, "copy/b/c", b"3")
    assert buckets.digest("gs://data/copy") != before
    (home.gcs / "data/folder/a").rename(home.gcs / "data/folder/d")
    assert buckets.digest("gs://data/folder") != before
    assert buckets.digest("gs://data/folder/d") == hashlib.sha256(b"1").hexdigest()


def test_rewriting_a_file_under_its_old_time_and_size_shows(
    buckets: Buckets, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksums, "_SETTLED_SECONDS", 0.0)
    put(buckets, "a", b"good")
    path = home.gcs / "data/a"
    before, times = buckets.digest("gs://data/a"), path.stat()
    time.sleep(0.02)
    path.write_bytes(b"evil")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert buckets.digest("gs://data/a") != before


def test_unchanged_files_are_not_read_again(buckets: Buckets, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "_SETTLED_SECONDS", -1.0)
    (home.gcs / "data").mkdir()
    (home.gcs / "data/a").write_bytes(b"1")
    before = buckets.digest("gs://data")
    monkeypatch.setattr(checksums, "checksum_file", lambda path: pytest.fail("read again"))
    assert buckets.digest("gs://data") == before


def test_merge_patch() -> None:
    assert merge_patch({"a": 1, "m": {"x": 1, "y": 2}}, {"a": None, "m": {"y": None, "z": 3}}) == {
        "m": {"x": 1, "z": 3}
    }
