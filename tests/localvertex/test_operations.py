"""Protects long-running operations: they end once, with response or error, and outlive restarts."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import Model, UploadModelOperationMetadata, UploadModelResponse
from google.longrunning import operations_pb2 as pb
from google.protobuf import duration_pb2
from google.rpc import code_pb2

from localvertex.services.operations import Operations
from localvertex.store import Store

RESOURCE = "projects/7/locations/us-central1/models/5"


@pytest.fixture
def operations(tmp_path: Path) -> Operations:
    return Operations(Store.at(tmp_path / "store.db"))


def get(operations: Operations, name: str) -> pb.Operation:
    return operations.get_operation(pb.GetOperationRequest(name=name))


def wait(operations: Operations, name: str, seconds: int = 30) -> pb.Operation:
    timeout = duration_pb2.Duration(seconds=seconds)
    return operations.wait_operation(pb.WaitOperationRequest(name=name, timeout=timeout))


def test_response_and_metadata_are_packed(operations: Operations) -> None:
    metadata = UploadModelOperationMetadata()
    begun = operations.start(RESOURCE, lambda: UploadModelResponse(model=RESOURCE), metadata=metadata)
    assert begun.name.startswith(f"{RESOURCE}/operations/")
    ended = wait(operations, begun.name)
    assert ended.done and ended.WhichOneof("result") == "response"
    response = UploadModelResponse.pb()()
    assert ended.response.Unpack(response) and response.model == RESOURCE
    said = UploadModelOperationMetadata.pb()()
    assert ended.metadata.Unpack(said) and said.generic_metadata.HasField("create_time")


def test_slow_work_is_not_done_until_it_is(operations: Operations) -> None:
    release = threading.Event()
    begun = operations.start(RESOURCE, lambda: release.wait(30) and None)
    assert not begun.done and not get(operations, begun.name).done
    assert not wait(operations, begun.name, seconds=0).done
    release.set()
    assert wait(operations, begun.name).done


def _failing(error: Exception) -> Model:
    raise error


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (exceptions.NotFound("Model 5 is not found."), code_pb2.NOT_FOUND, "Model 5 is not found."),
        (exceptions.FailedPrecondition("no"), code_pb2.FAILED_PRECONDITION, "no"),
        (ValueError("oops"), code_pb2.INTERNAL, "oops"),
    ],
)
def test_errors_end_the_operation(operations: Operations, error: Exception, code: int, words: str) -> None:
    ended = wait(operations, operations.start(RESOURCE, lambda: _failing(error)).name)
    assert ended.done and ended.error.code == code and words in ended.error.message


def test_a_restart_says_what_it_cut_short(tmp_path: Path) -> None:
    operations = Operations(Store.at(tmp_path / "store.db"))
    never = threading.Event()
    cut = operations.start(RESOURCE, lambda: never.wait(60) and None)
    finished = wait(operations, operations.start(RESOURCE, lambda: UploadModelResponse(model="m")).name)
    restarted = Operations(Store.at(tmp_path / "store.db"))
    restarted.resume()
    assert get(restarted, finished.name) == finished
    assert get(restarted, cut.name).error.code == code_pb2.ABORTED
    never.set()


def test_listing_and_deleting(operations: Operations) -> None:
    started = []
    for _ in range(3):
        started.append(operations.start(RESOURCE, lambda: None).name)
        time.sleep(0.002)
    operations.start(RESOURCE + "1", lambda: None)
    request = pb.ListOperationsRequest(name=RESOURCE, page_size=2)
    first = operations.list_operations(request)
    request.page_token = first.next_page_token
    second = operations.list_operations(request)
    assert [each.name for each in [*first.operations, *second.operations]] == started[::-1]
    assert not second.next_page_token
    operations.delete_operation(pb.DeleteOperationRequest(name=started[0]))
    with pytest.raises(exceptions.NotFound):
        get(operations, started[0])
