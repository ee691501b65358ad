"""TensorboardService: Tensorboards, their experiments, runs and time series, and the points of the series."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import proto
import sqlalchemy as sa
from google.api_core import exceptions
from google.cloud.aiplatform_v1 import types
from google.cloud.aiplatform_v1.types import (
    Tensorboard,
    TensorboardExperiment,
    TensorboardRun,
    TensorboardTimeSeries,
    TimeSeriesData,
    TimeSeriesDataPoint,
)
from google.longrunning import operations_pb2
from google.protobuf import field_mask_pb2

from localvertex import filters, names
from localvertex.services.masks import copy_fields, shown
from localvertex.services.operations import Operations
from localvertex.store import CHUNK, Resource, Store, kind_of, resources, tables

MAX_BATCH = 1000
MAX_POINTS = 5000
"""How many points one write request may bring, as the reference documents it."""

DEFAULT_PAGE = 50
DEFAULT_POINTS_PAGE, MAX_POINTS_PAGE = 1000, 10_000

_COLLECTIONS: dict[type[proto.Message], str] = {
    Tensorboard: "tensorboards",
    TensorboardExperiment: "experiments",
    TensorboardRun: "runs",
    TensorboardTimeSeries: "timeSeries",
}
_PARENTS: dict[type[proto.Message], type[proto.Message]] = {
    TensorboardExperiment: Tensorboard,
    TensorboardRun: TensorboardExperiment,
    TensorboardTimeSeries: TensorboardRun,
}
_ONE_OF_A_NAME = (TensorboardRun, TensorboardTimeSeries)
_READ_ONLY = frozenset(
    {"name", "etag", "create_time", "update_time", "run_count", "blob_storage_path_prefix"}
    | {"source", "value_type", "plugin_name"}
)
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")
_VALUES = {
    TensorboardTimeSeries.ValueType.SCALAR: "scalar",
    TensorboardTimeSeries.ValueType.TENSOR: "tensor",
    TensorboardTimeSeries.ValueType.BLOB_SEQUENCE: "blobs",
}

_points = sa.Table(
    "tensorboard_points",
    tables,
    sa.Column("series", sa.String, primary_key=True),
    sa.Column("step", sa.BigInteger, primary_key=True),
    sa.Column("wall_time", sa.BigInteger, nullable=False),
    sa.Column("blobs", sa.Integer, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)


class _ListRequest(Protocol):
    parent: str
    filter: str
    order_by: str
    page_size: int
    page_token: str
    read_mask: field_mask_pb2.FieldMask


class TensorboardService:
    """Vertex AI TensorBoard (https://cloud.google.com/vertex-ai/docs/experiments/tensorboard-introduction).

    What a series says of its points (greatest step, latest time) is asked of the points each time.

    Args:
        store: where everything is kept.
        operations: runs what the API answers with a long-running operation.
    """

    SERVICE = "google.cloud.aiplatform.v1.TensorboardService"

    def __init__(self, store: Store, operations: Operations) -> None:
        self._store = store
        self._operations = operations

    # Tensorboards

    def create_tensorboard(self, request: types.CreateTensorboardRequest) -> operations_pb2.Operation:
        """Begin to create a Tensorboard."""
        if not request.tensorboard.display_name:
            raise exceptions.InvalidArgument("tensorboard.display_name is required.")
        made = Tensorboard(request.tensorboard, name=f"{request.parent}/tensorboards/{names.new_id()}")

        def work() -> Tensorboard:
            with self._store.write():
                self._store.create(made)
                self._be_the_only_default(made)
            return made

        return self._operations.start(made.name, work, metadata=types.CreateTensorboardOperationMetadata())

    def get_tensorboard(self, request: types.GetTensorboardRequest) -> Tensorboard:
        """A Tensorboard, with the number of its runs."""
        return self._counted(self._store.get(Tensorboard, request.name))

    def list_tensorboards(self, request: types.ListTensorboardsRequest) -> types.ListTensorboardsResponse:
        """The Tensorboards of a location, newest first unless ordered otherwise."""
        found, token = self._list(Tensorboard, request, 100, 100, lambda page: [self._counted(each) for each in page])
        return types.ListTensorboardsResponse(tensorboards=found, next_page_token=token)

    def update_tensorboard(self, request: types.UpdateTensorboardRequest) -> operations_pb2.Operation:
        """Begin to change the fields in the mask; without a mask, those that are set in the request."""
        changes, paths = request.tensorboard, list(request.update_mask.paths)
        self._store.get(Tensorboard, changes.name)

        def work() -> Tensorboard:
            with self._store.write():
                changed = self._update(changes, paths)
                self._be_the_only_default(changed)
            return self._counted(changed)

        return self._operations.start(changes.name, work, metadata=types.UpdateTensorboardOperationMetadata())

    def delete_tensorboard(self, request: types.DeleteTensorboardRequest) -> operations_pb2.Operation:
        """Begin to delete a Tensorboard and everything in it."""
        return self._delete(Tensorboard, request.name)

    def read_tensorboard_size(self, request: types.ReadTensorboardSizeRequest) -> types.ReadTensorboardSizeResponse:
        """How many bytes the points of a Tensorboard take."""
        self._store.get(Tensorboard, request.tensorboard)
        inside = _points.c.series.startswith(f"{request.tensorboard}/", autoescape=True)
        query = sa.select(sa.func.sum(sa.func.length(_points.c.body))).where(inside)
        with self._store.read() as connection:
            size = connection.execute(query).scalar_one()
        return types.ReadTensorboardSizeResponse(storage_size_byte=int(size or 0))

    # Experiments

    def create_tensorboard_experiment(self, request: types.CreateTensorboardExperimentRequest) -> TensorboardExperiment:
        """Create an experiment under the given id."""
        _check_id("tensorboard_experiment_id", request.tensorboard_experiment_id)
        return self._create(request.parent, request.tensorboard_experiment, request.tensorboard_experiment_id)

    def get_tensorboard_experiment(self, request: types.GetTensorboardExperimentRequest) -> TensorboardExperiment:
        """An experiment."""
        return self._store.get(TensorboardExperiment, request.name)

    def list_tensorboard_experiments(
        self, request: types.ListTensorboardExperimentsRequest
    ) -> types.ListTensorboardExperimentsResponse:
        """The experiments of a Tensorboard, newest first unless ordered otherwise."""
        found, token = self._list(TensorboardExperiment, request)
        return types.ListTensorboardExperimentsResponse(tensorboard_experiments=found, next_page_token=token)

    def update_tensorboard_experiment(self, request: types.UpdateTensorboardExperimentRequest) -> TensorboardExperiment:
        """Change the fields in the mask; without a mask, those that are set in the request."""
        return self._update(request.tensorboard_experiment, request.update_mask.paths)

    def delete_tensorboard_experiment(
        self, request: types.DeleteTensorboardExperimentRequest
    ) -> operations_pb2.Operation:
        """Begin to delete an experiment and everything in it."""
        return self._delete(TensorboardExperiment, request.name)

    # Runs

    def create_tensorboard_run(self, request: types.CreateTensorboardRunRequest) -> TensorboardRun:
        """Create a run under the given id; its display name is its own among those of the experiment."""
        _check_id("tensorboard_run_id", request.tensorboard_run_id)
        return self._create(request.parent, request.tensorboard_run, request.tensorboard_run_id)

    def batch_create_tensorboard_runs(
        self, request: types.BatchCreateTensorboardRunsRequest
    ) -> types.BatchCreateTensorboardRunsResponse:
        """Create several runs of one experiment, all or none."""
        _check_batch(request.requests)
        with self._store.write():
            made = []
            for each in request.requests:
                if each.parent and each.parent != request.parent:
                    raise exceptions.InvalidArgument(f'requests: parent "{each.parent}" must be {request.parent}.')
                each.parent = request.parent
                made.append(self.create_tensorboard_run(each))
        return types.BatchCreateTensorboardRunsResponse(tensorboard_runs=made)

    def get_tensorboard_run(self, request: types.GetTensorboardRunRequest) -> TensorboardRun:
        """A run."""
        return self._store.get(TensorboardRun, request.name)

    def list_tensorboard_runs(self, request: types.ListTensorboardRunsRequest) -> types.ListTensorboardRunsResponse:
        """The runs of an experiment, newest first unless ordered otherwise."""
        found, token = self._list(TensorboardRun, request)
        return types.ListTensorboardRunsResponse(tensorboard_runs=found, next_page_token=token)

    def update_tensorboard_run(self, request: types.UpdateTensorboardRunRequest) -> TensorboardRun:
        """Change the fields in the mask; without a mask, those that are set in the request."""
        return self._update(request.tensorboard_run, request.update_mask.paths)

    def delete_tensorboard_run(self, request: types.DeleteTensorboardRunRequest) -> operations_pb2.Operation:
        """Begin to delete a run and its time series."""
        return self._delete(TensorboardRun, request.name)

    # Time series

    def create_tensorboard_time_series(
        self, request: types.CreateTensorboardTimeSeriesRequest
    ) -> TensorboardTimeSeries:
        """Create a time series, under the given id or a fresh one; its display name is its own in the run."""
        if request.tensorboard_time_series_id:
            _check_id("tensorboard_time_series_id", request.tensorboard_time_series_id)
        series = TensorboardTimeSeries(request.tensorboard_time_series, metadata=None)
        if series.value_type not in _VALUES:
            raise exceptions.InvalidArgument(
                "tensorboard_time_series.value_type must be SCALAR, TENSOR or BLOB_SEQUENCE."
            )
        return self._create(request.parent, series, request.tensorboard_time_series_id or names.new_id())

    def batch_create_tensorboard_time_series(
        self, request: types.BatchCreateTensorboardTimeSeriesRequest
    ) -> types.BatchCreateTensorboardTimeSeriesResponse:
        """Create several time series in runs of one experiment, all or none."""
        _check_batch(request.requests)
        with self._store.write():
            made = []
            for each in request.requests:
                _check_inside("requests.parent", each.parent, request.parent)
                made.append(self.create_tensorboard_time_series(each))
        return types.BatchCreateTensorboardTimeSeriesResponse(tensorboard_time_series=made)

    def get_tensorboard_time_series(self, request: types.GetTensorboardTimeSeriesRequest) -> TensorboardTimeSeries:
        """A time series, with its greatest step and its latest time."""
        return self._summarised([self._store.get(TensorboardTimeSeries, request.name)])[0]

    def list_tensorboard_time_series(
        self, request: types.ListTensorboardTimeSeriesRequest
    ) -> types.ListTensorboardTimeSeriesResponse:
        """The time series of a run, newest first unless ordered otherwise."""
        found, token = self._list(TensorboardTimeSeries, request, finish=self._summarised)
        return types.ListTensorboardTimeSeriesResponse(tensorboard_time_series=found, next_page_token=token)

    def update_tensorboard_time_series(
        self, request: types.UpdateTensorboardTimeSeriesRequest
    ) -> TensorboardTimeSeries:
        """Change the fields in the mask; without a mask, those that are set in the request."""
        changed = self._update(request.tensorboard_time_series, request.update_mask.paths)
        return self._summarised([changed])[0]

    def delete_tensorboard_time_series(
        self, request: types.DeleteTensorboardTimeSeriesRequest
    ) -> operations_pb2.Operation:
        """Begin to delete a time series and its points."""
        return self._delete(TensorboardTimeSeries, request.name)

    # Points

    def write_tensorboard_experiment_data(
        self, request: types.WriteTensorboardExperimentDataRequest
    ) -> types.WriteTensorboardExperimentDataResponse:
        """Write points of several runs of an experiment, all or none."""
        self._store.get(TensorboardExperiment, request.tensorboard_experiment)
        with self._store.write():
            for each in request.write_run_data_requests:
                _check_inside("tensorboard_run", each.tensorboard_run, request.tensorboard_experiment)
                self.write_tensorboard_run_data(each)
        return types.WriteTensorboardExperimentDataResponse()

    def write_tensorboard_run_data(
        self, request: types.WriteTensorboardRunDataRequest
    ) -> types.WriteTensorboardRunDataResponse:
        """Write points of the time series of a run, all or none; a point takes the place of one at its step."""
        count = sum(len(data.values) for data in request.time_series_data)
        if count > MAX_POINTS:
            raise exceptions.InvalidArgument(f"A request may write {MAX_POINTS} data points, not {count}.")
        self._store.get(TensorboardRun, request.tensorboard_run)
        with self._store.write():
            for data in request.time_series_data:
                name = f"{request.tensorboard_run}/timeSeries/{data.tensorboard_time_series_id}"
                self._write(self._store.get(TensorboardTimeSeries, name), data)
        return types.WriteTensorboardRunDataResponse()

    def read_tensorboard_time_series_data(
        self, request: types.ReadTensorboardTimeSeriesDataRequest
    ) -> types.ReadTensorboardTimeSeriesDataResponse:
        """The points of a series in the order of their steps.

        When there are more than `max_data_points`, an even choice of them that keeps the last; 0 and -1 mean all.
        """
        if request.max_data_points < -1:
            raise exceptions.InvalidArgument(f"max_data_points must be positive, or -1: {request.max_data_points}.")
        series = self._store.get(TensorboardTimeSeries, request.tensorboard_time_series)
        points = self._read(series.name, request.filter)
        return types.ReadTensorboardTimeSeriesDataResponse(
            time_series_data=_data(series, _evenly(points, request.max_data_points))
        )

    def batch_read_tensorboard_time_series_data(
        self, request: types.BatchReadTensorboardTimeSeriesDataRequest
    ) -> types.BatchReadTensorboardTimeSeriesDataResponse:
        """The points of several series of one Tensorboard."""
        for name in request.time_series:
            _check_inside("time_series", name, request.tensorboard)
        found = [self._store.get(TensorboardTimeSeries, name) for name in request.time_series]
        return types.BatchReadTensorboardTimeSeriesDataResponse(
            time_series_data=[_data(series, self._read(series.name)) for series in found]
        )

    def export_tensorboard_time_series_data(
        self, request: types.ExportTensorboardTimeSeriesDataRequest
    ) -> types.ExportTensorboardTimeSeriesDataResponse:
        """One page of the points of a series, in the order of their steps."""
        if request.order_by.strip() not in ("", "step", "step asc"):
            raise exceptions.InvalidArgument(f'Invalid order_by "{request.order_by}": points come by "step".')
        if request.page_token and not request.page_token.lstrip("-").isdigit():
            raise exceptions.InvalidArgument("page_token does not belong to this list.")
        if request.page_size < 0:
            raise exceptions.InvalidArgument(f"page_size must be from 1 to {MAX_POINTS_PAGE}: {request.page_size}.")
        self._store.get(TensorboardTimeSeries, request.tensorboard_time_series)
        size = min(request.page_size or DEFAULT_POINTS_PAGE, MAX_POINTS_PAGE)
        after = int(request.page_token) if request.page_token else None
        points = self._read(request.tensorboard_time_series, request.filter, after)
        return types.ExportTensorboardTimeSeriesDataResponse(
            time_series_data_points=points[:size],
            next_page_token=str(points[size - 1].step) if len(points) > size else "",
        )

    def read_tensorboard_blob_data(
        self, request: types.ReadTensorboardBlobDataRequest
    ) -> Iterable[types.ReadTensorboardBlobDataResponse]:
        """The bytes of blobs, one message each; without ids, all of the series."""
        self._store.get(TensorboardTimeSeries, request.time_series)
        blobs = {
            blob.id: blob for point in self._read(request.time_series, with_blobs=True) for blob in point.blobs.values
        }
        for id in request.blob_ids:
            if id not in blobs:
                raise exceptions.NotFound(f"TensorboardBlob {id} is not found in {request.time_series}.")
        wanted = request.blob_ids or list(blobs)
        return [types.ReadTensorboardBlobDataResponse(blobs=[blobs[id]]) for id in wanted]

    def _write(self, series: TensorboardTimeSeries, data: TimeSeriesData) -> None:
        if data.value_type and data.value_type != series.value_type:
            raise exceptions.InvalidArgument(
                f"TensorboardTimeSeries {series.name} holds {series.value_type.name}, not {data.value_type.name}."
            )
        rows = {point.step: _row(series, point) for point in data.values}
        steps = list(rows)
        with self._store.write() as connection:
            for start in range(0, len(steps), CHUNK):
                same = _points.c.step.in_(steps[start : start + CHUNK])
                connection.execute(_points.delete().where(_points.c.series == series.name, same))
            if rows:
                connection.execute(_points.insert(), list(rows.values()))

    def _read(
        self, series: str, filter: str = "", after: int | None = None, with_blobs: bool = False
    ) -> list[TimeSeriesDataPoint]:
        passes = filters.predicate(TimeSeriesDataPoint, filter)
        query = sa.select(_points.c.body).where(_points.c.series == series).order_by(_points.c.step)
        if after is not None:
            query = query.where(_points.c.step > after)
        with self._store.read() as connection:
            bodies = connection.execute(query).scalars().all()
        points = [TimeSeriesDataPoint.deserialize(body) for body in bodies]
        if not with_blobs:
            for point in points:
                for blob in TimeSeriesDataPoint.pb(point).blobs.values:
                    blob.ClearField("data")
        return [point for point in points if passes(point)]

    def _summarised(self, found: list[TensorboardTimeSeries]) -> list[TensorboardTimeSeries]:
        column = _points.c
        query = (
            sa.select(column.series, *(sa.func.max(each) for each in (column.step, column.wall_time, column.blobs)))
            .where(column.series.in_([series.name for series in found]))
            .group_by(column.series)
        )
        with self._store.read() as connection:
            summaries = {name: summary for name, *summary in connection.execute(query)}
        for series in found:
            step, wall_time, blobs = summaries.get(series.name, (0, 0, 0))
            metadata = TensorboardTimeSeries.pb(series).metadata
            metadata.max_step, metadata.max_blob_sequence_length = step, blobs
            if wall_time:
                metadata.max_wall_time.FromMicroseconds(wall_time)
        return found

    # What they have in common

    def _create(self, parent: str, resource: Resource, id: str) -> Resource:
        kind = type(resource)
        with self._store.write():
            self._store.get(_PARENTS[kind], parent)
            made: Resource = kind(resource, name=f"{parent}/{_COLLECTIONS[kind]}/{id}")
            self._check_display_name(made)
            return self._store.create(made)

    def _check_display_name(self, made: Any) -> None:
        kind = type(made)
        if kind not in _ONE_OF_A_NAME:
            return
        if not made.display_name:
            raise exceptions.InvalidArgument(f"{kind_of(kind)}.display_name is required.")
        parent, _, _ = made.name.rsplit("/", 2)
        same = self._store.select(kind, resources.c.display_name == made.display_name, parent=parent, limit=2)
        for other in same:
            if other.name != made.name:
                raise exceptions.AlreadyExists(
                    f'{kind_of(kind)} with display_name "{made.display_name}" already exists: {other.name}.'
                )

    def _list(
        self,
        kind: type[Resource],
        request: _ListRequest,
        default: int = DEFAULT_PAGE,
        maximum: int = filters.MAX_PAGE,
        finish: Callable[[list[Resource]], list[Resource]] = lambda page: page,
    ) -> tuple[list[Resource], str]:
        if kind in _PARENTS:
            self._store.get(_PARENTS[kind], request.parent)
        page, token = filters.listing(
            self._store,
            kind,
            request.parent,
            request.filter,
            request.order_by,
            request.page_size or default,
            request.page_token,
            maximum=maximum,
        )
        return [shown(each, request.read_mask.paths) for each in finish(page)], token

    def _update(self, changes: Resource, paths: Sequence[str]) -> Resource:
        kind = type(changes)
        read_only = _READ_ONLY | ({"metadata"} if kind is TensorboardTimeSeries else set())

        def change(stored: Resource) -> None:
            if changes.etag and changes.etag != stored.etag:
                raise exceptions.Aborted(
                    f"Specified {kind_of(kind)} `etag`: `{changes.etag}` does not match server `etag`: `{stored.etag}`"
                )
            copy_fields(kind.pb(changes), kind.pb(stored), paths, read_only)
            self._check_display_name(stored)

        return self._store.update(kind, str(changes.name), change)

    def _delete(self, kind: type[Resource], name: str) -> operations_pb2.Operation:
        self._store.get(kind, name)

        def work() -> None:
            within = f"{name}/"
            kinds = resources.c.kind.in_([kind_of(each) for each in _COLLECTIONS])
            with self._store.write() as connection:
                inside = resources.c.name.startswith(within, autoescape=True)
                connection.execute(resources.delete().where(kinds, inside))
                self._store.delete(kind, name)
                points = sa.or_(_points.c.series == name, _points.c.series.startswith(within, autoescape=True))
                connection.execute(_points.delete().where(points))

        return self._operations.start(name, work, metadata=types.DeleteOperationMetadata())

    def _counted(self, tensorboard: Tensorboard) -> Tensorboard:
        inside = resources.c.parent.startswith(f"{tensorboard.name}/", autoescape=True)
        runs = resources.c.kind == kind_of(TensorboardRun)
        with self._store.read() as connection:
            query = sa.select(sa.func.count()).select_from(resources).where(runs, inside)
            tensorboard.run_count = connection.execute(query).scalar_one()
        return tensorboard

    def _be_the_only_default(self, chosen: Tensorboard) -> None:
        if not chosen.is_default:
            return
        for other in self._store.select(Tensorboard, parent=names.location_parent(chosen.name)):
            if other.is_default and other.name != chosen.name:
                other.is_default = False
                self._store.save(other)


def _row(series: TensorboardTimeSeries, point: TimeSeriesDataPoint) -> dict[str, Any]:
    stored = TimeSeriesDataPoint(point)
    wire = TimeSeriesDataPoint.pb(stored)
    held, wanted = wire.WhichOneof("value"), _VALUES[series.value_type]
    if held != wanted:
        raise exceptions.InvalidArgument(
            f"TensorboardTimeSeries {series.name} holds {series.value_type.name}: "
            f"the data point of step {point.step} must have a {wanted}."
        )
    for index, blob in enumerate(wire.blobs.values if held == "blobs" else ()):
        blob.id = f"{names.id_of(series.name)}-{point.step}-{index}"
    return {
        "series": series.name,
        "step": point.step,
        "wall_time": wire.wall_time.ToMicroseconds(),
        "blobs": len(wire.blobs.values),
        "body": wire.SerializeToString(),
    }


def _data(series: TensorboardTimeSeries, points: Sequence[TimeSeriesDataPoint]) -> TimeSeriesData:
    return TimeSeriesData(
        tensorboard_time_series_id=names.id_of(series.name), value_type=series.value_type, values=points
    )


def _evenly(points: Sequence[TimeSeriesDataPoint], most: int) -> Sequence[TimeSeriesDataPoint]:
    if most <= 0 or len(points) <= most:
        return points
    return [points[(index + 1) * len(points) // most - 1] for index in range(most)]


def _check_id(field: str, id: str) -> None:
    if not _ID.fullmatch(id):
        raise exceptions.InvalidArgument(
            f'{field} "{id}" must have 1 to 128 characters, each a lower-case letter, a digit or a hyphen, '
            "and begin with no hyphen."
        )


def _check_batch(requests: Sequence[Any]) -> None:
    if not 0 < len(requests) <= MAX_BATCH:
        raise exceptions.InvalidArgument(f"requests: give between 1 and {MAX_BATCH}, not {len(requests)}.")


def _check_inside(field: str, name: str, parent: str) -> None:
    if not name.startswith(f"{parent}/"):
        raise exceptions.InvalidArgument(f'{field} "{name}" must be inside {parent}.')
