"""Protects Cloud Storage as its SDK knows it: uploads of each kind, ranges, lists, copies, preconditions."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.api_core import exceptions

from .conftest import PROJECT, LocalVertex

if TYPE_CHECKING:
    import requests
    from google.cloud.storage import Bucket, Client

CHUNK = 256 * 1024


@pytest.fixture(scope="module")
def client(localvertex: LocalVertex) -> Client:
    from google.cloud import storage

    return storage.Client(project=PROJECT)


@pytest.fixture
def bucket(client: Client) -> Bucket:
    return client.create_bucket(f"bucket-{secrets.token_hex(4)}", location="europe-west1")


def test_buckets(client: Client, bucket: Bucket) -> None:
    assert bucket.name in [each.name for each in client.list_buckets()]
    assert client.get_bucket(bucket.name).location == "EUROPE-WEST1"
    with pytest.raises(exceptions.Conflict):
        client.create_bucket(bucket.name)
    bucket.labels = {"team": "vision"}
    bucket.patch()
    assert client.get_bucket(bucket.name).labels == {"team": "vision"}
    policy = bucket.get_iam_policy()
    policy.bindings.append({"role": "roles/storage.objectViewer", "members": {"user:a@example.com"}})
    bucket.set_iam_policy(policy)
    assert bucket.get_iam_policy().bindings == policy.bindings
    assert bucket.test_iam_permissions(["storage.objects.get"]) == ["storage.objects.get"]
    bucket.delete()
    assert not bucket.exists()
    with pytest.raises(exceptions.NotFound):
        client.get_bucket(bucket.name)


def test_belongs_to_its_project(client: Client, bucket: Bucket) -> None:
    from google.cloud import resourcemanager, storage

    for protocol in ("grpc", "rest"):
        project = resourcemanager.ProjectsClient(transport=protocol).get_project(name=f"projects/{PROJECT}")
        assert f"projects/{bucket.project_number}" == project.name
    assert client.get_service_account_email().endswith("gserviceaccount.com")
    assert bucket.name not in [each.name for each in storage.Client(project="other").list_buckets()]


@pytest.mark.parametrize("name", ["plain.txt", "a/b c/ü%2F?#&+=.txt", "a:predict/x@1", "日本/語"])
def test_names_survive(bucket: Bucket, name: str) -> None:
    blob = bucket.blob(name)
    blob.upload_from_string("content")
    assert blob.exists() and bucket.get_blob(name).download_as_text() == "content"
    assert [each.name for each in bucket.list_blobs()] == [name]
    blob.delete()
    assert not blob.exists()


@pytest.mark.parametrize("name", ["../escape", "a/../../escape", "/absolute", "a//b"])
def test_names_that_would_leave_the_folder_are_refused(bucket: Bucket, localvertex: LocalVertex, name: str) -> None:
    with pytest.raises(exceptions.BadRequest):
        bucket.blob(name).upload_from_string("x")
    assert not list(localvertex.home.rglob("escape")) and not Path("/absolute").exists()


def test_upload_in_one_request_keeps_what_is_said_of_it(bucket: Bucket) -> None:
    content = b"hello\r\n--world--\r\n"
    blob = bucket.blob("a")
    blob.metadata = {"k": "v"}
    blob.cache_control = "no-store"
    blob.upload_from_string(content, content_type="text/x-special", checksum="crc32c")
    seen = bucket.get_blob("a")
    assert (seen.content_type, seen.metadata, seen.cache_control) == (
        "text/x-special",
        {"k": "v"},
        "no-store",
    )
    assert seen.md5_hash == base64.b64encode(hashlib.md5(content).digest()).decode()
    assert seen.size == len(content) and seen.generation and seen.updated
    assert seen.download_as_bytes() == content


def test_resumable_upload_in_chunks(bucket: Bucket, localvertex: LocalVertex) -> None:
    content = os.urandom(5 * CHUNK + 17)
    blob = bucket.blob("large", chunk_size=CHUNK)
    blob.metadata = {"k": "v"}
    blob.upload_from_file(io.BytesIO(content), content_type="application/x-large")
    seen = bucket.get_blob("large")
    assert (seen.content_type, seen.metadata, seen.size) == ("application/x-large", {"k": "v"}, len(content))
    assert seen.download_as_bytes() == content
    with bucket.blob("written").open("wb", chunk_size=CHUNK) as file:
        file.write(content)
    assert bucket.blob("written").download_as_bytes() == content
    assert not list((localvertex.home / "uploads").iterdir()), "nothing is left behind"


def test_an_interrupted_upload_is_resumed_and_never_half_visible(bucket: Bucket, client: Client) -> None:
    content = os.urandom(3 * CHUNK)
    session = bucket.blob("a").create_resumable_upload_session(size=len(content))
    http = client._http

    def send(start: int, end: int) -> requests.Response:
        headers = {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"}
        return http.put(session, data=content[start:end], headers=headers, allow_redirects=False)

    assert send(0, CHUNK).status_code == 308
    assert not bucket.blob("a").exists()
    asked = http.put(session, headers={"Content-Range": f"bytes */{len(content)}"}, allow_redirects=False)
    assert (asked.status_code, asked.headers["Range"]) == (308, f"bytes=0-{CHUNK - 1}")
    ahead = send(2 * CHUNK, 3 * CHUNK)
    assert (ahead.status_code, ahead.headers["Range"]) == (308, f"bytes=0-{CHUNK - 1}"), "a gap is not filled"
    assert send(CHUNK // 2, 2 * CHUNK).status_code == 308, "what overlaps is not written twice"
    assert send(2 * CHUNK, 3 * CHUNK).status_code == 200
    assert bucket.blob("a").download_as_bytes() == content
    assert send(0, CHUNK).status_code == 404, "the session has ended"


def test_large_files_go_up_and_come_down_in_parts(bucket: Bucket, localvertex: LocalVertex, tmp_path: Path) -> None:
    from google.cloud.storage import transfer_manager

    content = os.urandom(5 * CHUNK + 1)
    (tmp_path / "up").write_bytes(content)
    blob = bucket.blob("in/parts.bin")
    threads = {"chunk_size": CHUNK, "worker_type": transfer_manager.THREAD, "max_workers": 3}
    transfer_manager.upload_chunks_concurrently(str(tmp_path / "up"), blob, **threads)
    blob.reload()
    assert (blob.size, blob.content_type) == (len(content), "application/octet-stream")
    assert base64.b64decode(blob.md5_hash) == hashlib.md5(content).digest()
    transfer_manager.download_chunks_concurrently(blob, str(tmp_path / "down"), **threads)
    assert (tmp_path / "down").read_bytes() == content
    assert not [path for path in (localvertex.home / "uploads").iterdir() if path.is_dir()]


def test_an_upload_in_parts_is_checked_and_can_be_aborted(client: Client, bucket: Bucket) -> None:
    url = f"https://storage.googleapis.com/{bucket.name}/a"
    session: requests.Session = client._http

    def begin() -> str:
        return session.post(f"{url}?uploads").text.partition("<UploadId>")[2].partition("<")[0]

    upload = f"{url}?uploadId={begin()}"
    part = session.put(f"{upload}&partNumber=2", data=b"content")
    assert (part.status_code, part.headers["etag"]) == (200, f'"{hashlib.md5(b"content").hexdigest()}"')
    listed = (
        "<CompleteMultipartUpload><Part><PartNumber>{}</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>"
    )
    for wrong in (
        "",
        "<a",
        listed.format(1, part.headers["etag"]),
        listed.format(2, "0" * 32),
        listed.format("x", "../a"),
    ):
        assert session.post(upload, data=wrong).status_code == 400
    for status in (200, 404):
        done = session.post(upload, data=listed.format(2, part.headers["etag"]))
        assert done.status_code == status
    assert bucket.blob("a").download_as_bytes() == b"content"
    upload = f"{url}?uploadId={begin()}"
    assert session.put(f"{upload.replace('/a?', '/b?')}&partNumber=1", data=b"x").status_code == 404
    assert session.put(f"{upload}&partNumber=0", data=b"x").status_code == 400
    assert session.delete(upload).status_code == 204
    assert session.put(f"{upload}&partNumber=1", data=b"x").status_code == 404
    assert session.put(url, data=b"x").status_code == 501, "no other upload of the XML API"


def test_damaged_content_is_refused(bucket: Bucket) -> None:
    blob = bucket.blob("a")
    blob.md5_hash = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    with pytest.raises(exceptions.BadRequest):
        blob.upload_from_string("content")
    assert not bucket.blob("a").exists()


def test_downloads_and_ranges(bucket: Bucket, tmp_path: Path) -> None:
    content = os.urandom(600_000)
    blob = bucket.blob("a")
    blob.upload_from_string(content)
    assert blob.download_as_bytes(start=10, end=19) == content[10:20]
    assert blob.download_as_bytes(start=599_990) == content[-10:]
    assert blob.download_as_bytes(start=-10) == content[-10:]
    with pytest.raises(exceptions.RequestRangeNotSatisfiable):
        blob.download_as_bytes(start=600_000)
    pieces = bucket.blob("a", chunk_size=CHUNK)
    pieces.download_to_filename(str(tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == content
    with blob.open("rb") as file:
        file.seek(1000)
        assert file.read(10) == content[1000:1010]
    bucket.blob("empty").upload_from_string(b"")
    assert bucket.blob("empty").download_as_bytes() == b""
    with pytest.raises(exceptions.NotFound):
        bucket.blob("missing").download_as_bytes()


def test_listing(bucket: Bucket) -> None:
    names = [f"{folder}/{number}" for folder in ("a", "a-b", "b") for number in range(3)]
    for name in names:
        bucket.blob(name).upload_from_string("")
    assert [each.name for each in bucket.list_blobs(page_size=2)] == sorted(names)
    assert [each.name for each in bucket.list_blobs(prefix="a/")] == ["a/0", "a/1", "a/2"]
    assert [each.name for each in bucket.list_blobs(max_results=4)] == sorted(names)[:4]
    folders = bucket.list_blobs(delimiter="/", page_size=1)
    assert list(folders) == [] and folders.prefixes == {"a/", "a-b/", "b/"}
    assert [each.name for each in bucket.list_blobs(start_offset="a/1", end_offset="b/1")] == [
        "a/1",
        "a/2",
        "b/0",
    ]
    assert [each.name for each in bucket.list_blobs(match_glob="{a,b}/[!0]")] == ["a/1", "a/2", "b/1", "b/2"]
    assert [each.name for each in bucket.list_blobs(match_glob="**2")] == ["a-b/2", "a/2", "b/2"]


def test_files_of_tasks_are_objects(bucket: Bucket, localvertex: LocalVertex) -> None:
    path = localvertex.home / "gcs" / bucket.name / "task/metrics.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"cer": 0.04}))
    blob = bucket.get_blob("task/metrics.json")
    assert json.loads(blob.download_as_bytes(checksum="crc32c")) == {"cer": 0.04}
    before = blob.generation
    path.write_text("{}")
    assert bucket.get_blob("task/metrics.json").generation > before
    bucket.blob("sent").upload_from_string("x")
    assert (localvertex.home / "gcs" / bucket.name / "sent").read_text() == "x"


def test_copies_and_composites(client: Client, bucket: Bucket) -> None:
    first, second = bucket.blob("1"), bucket.blob("2")
    first.metadata = {"k": "v"}
    first.upload_from_string("one ", content_type="text/plain")
    second.upload_from_string("two")
    both = bucket.blob("both")
    both.compose([first, second])
    assert both.download_as_text() == "one two" and both.component_count == 2
    other = client.create_bucket(f"other-{secrets.token_hex(4)}")
    copy = bucket.copy_blob(first, other, "copy")
    assert copy.download_as_text() == "one " and copy.metadata == {"k": "v"}
    rewritten = other.blob("rewritten")
    token, done, size = rewritten.rewrite(first)
    assert (token, done, size) == (None, 4, 4)
    assert rewritten.content_type == "text/plain"
    renamed = bucket.rename_blob(second, "renamed")
    assert renamed.download_as_text() == "two" and not bucket.blob("2").exists()
    with pytest.raises(exceptions.NotFound):
        bucket.blob("x").compose([bucket.blob("missing")])


def test_preconditions(bucket: Bucket) -> None:
    blob = bucket.blob("a")
    blob.upload_from_string("1", if_generation_match=0)
    first = blob.generation
    with pytest.raises(exceptions.PreconditionFailed):
        blob.upload_from_string("2", if_generation_match=0)
    blob.upload_from_string("2", if_generation_match=first)
    with pytest.raises(exceptions.PreconditionFailed):
        blob.delete(if_generation_match=first)
    with pytest.raises(exceptions.NotFound):
        bucket.blob("a", generation=first).download_as_bytes()
    blob.metadata = {"k": "v"}
    blob.patch(if_metageneration_match=1)
    assert blob.metageneration == 2
    with pytest.raises(exceptions.PreconditionFailed):
        blob.patch(if_metageneration_match=1)
    blob.metadata = None
    blob.content_type = "text/x-other"
    blob.patch()
    blob.reload()
    assert blob.content_type == "text/x-other" and blob.download_as_text() == "2"
    blob.metadata = {"only": "this"}
    blob.update()
    blob.reload()
    assert blob.metadata == {"only": "this"}
    blob.delete(if_generation_match=blob.generation)
    with pytest.raises(exceptions.NotFound):
        blob.delete()


def test_a_bucket_in_use_is_not_deleted(bucket: Bucket) -> None:
    bucket.blob("a").upload_from_string("x")
    with pytest.raises(exceptions.Conflict):
        bucket.delete()
    bucket.delete_blobs(list(bucket.list_blobs()))
    bucket.delete()


def test_batches(client: Client, bucket: Bucket) -> None:
    for number in range(3):
        bucket.blob(str(number)).upload_from_string("x")
    with client.batch():
        for number in range(2):
            bucket.blob(str(number)).delete()
        blob = bucket.blob("2")
        blob.metadata = {"k": "v"}
        blob.patch()
    assert blob.metadata == {"k": "v"}
    assert [each.name for each in bucket.list_blobs()] == ["2"]
    with pytest.raises(exceptions.NotFound), client.batch():
        bucket.blob("missing").delete()
        bucket.blob("2").delete()
    assert not list(bucket.list_blobs()), "one that fails does not stop the others"


def test_strangers_are_refused(client: Client, bucket: Bucket, localvertex: LocalVertex) -> None:
    import requests

    url = f"https://storage.googleapis.com/storage/v1/b/{bucket.name}"
    assert requests.get(url).status_code == 401
    assert requests.get(url, headers={"Authorization": "Bearer x"}).status_code == 401
    with pytest.raises(requests.exceptions.ProxyError):
        requests.get("https://example.com")


def test_tensorflow_reads_and_writes_buckets(localvertex: LocalVertex, bucket: Bucket) -> None:
    script = (
        "import tensorflow as tf\n"
        f"folder = 'gs://{bucket.name}/a/b'\n"
        "tf.io.gfile.makedirs(folder)\n"
        "with tf.io.TFRecordWriter(f'{folder}/records') as file: file.write(b'from TensorFlow')\n"
        "print(tf.io.gfile.listdir(folder), [each.numpy() for each in tf.data.TFRecordDataset(f'{folder}/records')])\n"
    )
    assert localvertex.python(script).strip() == "['records'] [b'from TensorFlow']"
    assert b"from TensorFlow" in bucket.blob("a/b/records").download_as_bytes()


def test_a_redirected_shell_needs_nothing_else(localvertex: LocalVertex, bucket: Bucket) -> None:
    script = (
        "from google.cloud import storage, aiplatform\n"
        f"storage.Client().bucket({bucket.name!r}).blob('hi').upload_from_string('from a script')\n"
        "import google.auth; print(google.auth.default()[1])\n"
    )
    assert localvertex.python(script).strip() == PROJECT
    assert bucket.blob("hi").download_as_text() == "from a script"
