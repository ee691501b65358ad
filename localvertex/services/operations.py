"""Long-running operations: work that outlives the request that started it, and can be asked after."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import proto
import sqlalchemy as sa
from google.api_core import exceptions
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, empty_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2

from localvertex import names
from localvertex.errors import status_of
from localvertex.store import Store, tables

log = logging.getLogger(__name__)

# Work done within this many seconds is answered as done, which spares the client its first poll.
_GRACE = 0.05

_ended = threading.Condition()
"""Notified when any operation of this process has ended."""

_operations = sa.Table(
    "operations",
    tables,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("done", sa.Boolean, nullable=False, index=True),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)


class Operations:
    """google.longrunning.Operations: starts work in threads and remembers how it ended, across restarts.

    Args:
        store: where operations are kept.
    """

    SERVICE = "google.longrunning.Operations"

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cancels: dict[str, Callable[[], None]] = {}

    def start(
        self,
        resource: str,
        work: Callable[[], proto.Message | Message | None],
        *,
        metadata: proto.Message | Message | None = None,
        cancel: Callable[[], None] | None = None,
    ) -> operations_pb2.Operation:
        """Begin work in a thread of its own.

        Args:
            resource: the name of what is worked on; the operation's name hangs under it.
            work: returns the response (None for an empty one); a google.api_core exception becomes the
                operation's error.
            metadata: e.g. `UploadModelOperationMetadata`; its `generic_metadata` times are filled in.
            cancel: makes the work give up, with google.api_core.exceptions.Cancelled; work without it goes on.

        Returns:
            The operation, already done when the work was quick.
        """
        operation = operations_pb2.Operation(name=f"{resource}/operations/{names.new_id()}")
        if metadata is not None:
            operation.metadata.CopyFrom(_packed(_timed(metadata)))
        with self._store.write() as connection:
            connection.execute(
                _operations.insert().values(
                    name=operation.name,
                    done=False,
                    created=time.time(),
                    body=operation.SerializeToString(),
                )
            )
        if cancel is not None:
            self._cancels[operation.name] = cancel
        thread = threading.Thread(
            target=self._run, args=(operation, work), name=operation.name.rsplit("/", 1)[1], daemon=True
        )
        thread.start()
        thread.join(_GRACE)
        return self.get_operation(operations_pb2.GetOperationRequest(name=operation.name))

    def _run(self, operation: operations_pb2.Operation, work: Callable[[], proto.Message | Message | None]) -> None:
        ended = operations_pb2.Operation()
        ended.CopyFrom(operation)
        ended.done = True
        try:
            result = work()
            # An API message without any field set is false, and an answer all the same.
            ended.response.CopyFrom(_packed(empty_pb2.Empty() if result is None else result))
        except exceptions.GoogleAPICallError as error:
            ended.error.CopyFrom(status_of(error))
        except Exception as error:
            log.exception("operation %s failed", operation.name)
            ended.error.code = code_pb2.INTERNAL
            ended.error.message = f"Internal error: {error}"
        self._cancels.pop(operation.name, None)
        self._save(ended)

    def _save(self, operation: operations_pb2.Operation) -> None:
        with self._store.write() as connection:
            connection.execute(
                _operations.update()
                .where(_operations.c.name == operation.name)
                .values(done=operation.done, body=operation.SerializeToString())
            )
        with _ended:
            _ended.notify_all()

    def resume(self) -> None:
        """Say of the work that a stop of localvertex cut short that it was; called once at start."""
        query = sa.select(_operations.c.body).where(_operations.c.done.is_(False))
        with self._store.read() as connection:
            bodies = connection.execute(query).scalars().all()
        for body in bodies:
            operation = operations_pb2.Operation.FromString(body)
            operation.done = True
            operation.error.code = code_pb2.ABORTED
            operation.error.message = "localvertex was stopped before the operation ended. Please try again."
            self._save(operation)

    def get_operation(self, request: operations_pb2.GetOperationRequest) -> operations_pb2.Operation:
        """The operation as it is now."""
        query = sa.select(_operations.c.body).where(_operations.c.name == request.name)
        with self._store.read() as connection:
            body = connection.execute(query).scalar_one_or_none()
        if body is None:
            raise exceptions.NotFound(f"Operation {request.name} is not found.")
        return operations_pb2.Operation.FromString(body)

    def list_operations(self, request: operations_pb2.ListOperationsRequest) -> operations_pb2.ListOperationsResponse:
        """Operations under a resource, the newest first; the filter may be `done=true` or `done=false`."""
        size = request.page_size or 100
        under = request.name.removesuffix("/operations") + "/"
        wanted = [_operations.c.name.startswith(under, autoescape=True)]
        if request.filter:
            wanted.append(_operations.c.done.is_(_wants_done(request.filter)))
        if request.page_token:
            wanted.append(_operations.c.created < _position(request.page_token))
        query = sa.select(_operations).where(*wanted).order_by(_operations.c.created.desc()).limit(size + 1)
        with self._store.read() as connection:
            rows = connection.execute(query).all()
        return operations_pb2.ListOperationsResponse(
            operations=[operations_pb2.Operation.FromString(row.body) for row in rows[:size]],
            next_page_token=repr(rows[size - 1].created) if len(rows) > size else "",
        )

    def wait_operation(self, request: operations_pb2.WaitOperationRequest) -> operations_pb2.Operation:
        """The operation once it is done, or as it is when the request's timeout (at most 60 s) has passed."""
        patience = request.timeout.ToTimedelta().total_seconds() if request.HasField("timeout") else 60.0
        deadline = time.monotonic() + min(patience, 60.0)
        get = operations_pb2.GetOperationRequest(name=request.name)
        with _ended:
            while not (operation := self.get_operation(get)).done and time.monotonic() < deadline:
                _ended.wait(deadline - time.monotonic())
        return operation

    def cancel_operation(self, request: operations_pb2.CancelOperationRequest) -> empty_pb2.Empty:
        """Ask for an operation to give up; one that cannot, or that is done, stays as it is."""
        self.get_operation(operations_pb2.GetOperationRequest(name=request.name))
        if cancel := self._cancels.get(request.name):
            cancel()
        return empty_pb2.Empty()

    def delete_operation(self, request: operations_pb2.DeleteOperationRequest) -> empty_pb2.Empty:
        """Forget an operation; its work goes on."""
        self.get_operation(operations_pb2.GetOperationRequest(name=request.name))
        with self._store.write() as connection:
            connection.execute(_operations.delete().where(_operations.c.name == request.name))
        return empty_pb2.Empty()


def _wants_done(filter: str) -> bool:
    wanted = {"done=true": True, "done=false": False}.get(re.sub(r"[\s\"]", "", filter).replace(":", "="))
    if wanted is None:
        raise exceptions.InvalidArgument(f"Invalid filter {filter!r}: operations are filtered by done=true or false.")
    return wanted


def _position(token: str) -> float:
    try:
        return float(token)
    except ValueError:
        raise exceptions.InvalidArgument("page_token does not belong to this list.") from None


def _timed(metadata: proto.Message | Message) -> proto.Message | Message:
    wire: Any = type(metadata).pb(metadata) if isinstance(metadata, proto.Message) else metadata
    if "generic_metadata" in wire.DESCRIPTOR.fields_by_name:
        wire.generic_metadata.create_time.GetCurrentTime()
        wire.generic_metadata.update_time.GetCurrentTime()
    return metadata


def _packed(message: proto.Message | Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(type(message).pb(message) if isinstance(message, proto.Message) else message)
    return packed
