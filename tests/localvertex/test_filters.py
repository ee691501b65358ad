"""Protects lists: a filter means what AIP-160 says, ordering orders, and paging gives each resource once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import (
    Artifact,
    Context,
    Endpoint,
    Execution,
    Model,
    PipelineJob,
    Schedule,
    Tensorboard,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from localvertex import filters, graph
from localvertex.filters import scan
from localvertex.graph import Graph
from localvertex.store import Store

LOCATION = "projects/1/locations/x"
STORE = f"{LOCATION}/metadataStores/default"
RUN = f"{STORE}/contexts/run"
IN_CONTEXT = filters.Relations(functions={"in_context": graph.ids_in})


@pytest.fixture(scope="module")
def store(new_database: Callable[[], str]) -> Iterator[Store]:
    store = Store(new_database())
    fill(store)
    yield store
    store.close()


def fill(store: Store) -> None:
    """Thirty artifacts that differ in everything a filter can ask for, and eight jobs."""
    store.create(Context(name=RUN))
    for i in range(30):
        metadata: dict[str, Any] = {"note:1": f"n{i % 4}"} | ({"loss": i / 10} if i % 3 else {})
        metadata |= {"done": i % 2 == 0, "long": f"{'x' * 300}{i % 2}"}
        store.create(
            Artifact(
                name=f"{STORE}/artifacts/a{i}",
                display_name=["one", "Two", "o_e", "o%e", "", 'quo"te'][i % 6],
                schema_title=["system.Model", "system.Metrics"][i % 2],
                uri=f"gs://b/{i % 5}/x",
                state=Artifact.State(i % 3),
                labels={"env": ["prod", "dev", ""][i % 3]} if i % 4 else {},
                metadata=metadata,
            )
        )
    Graph(store).add_members(RUN, [f"{STORE}/artifacts/a{i}" for i in range(0, 30, 4)])
    for i in range(8):
        store.create(
            PipelineJob(
                name=f"{LOCATION}/pipelineJobs/job-{i}",
                display_name=f"My job {i}",
                state=[3, 4, 5][i % 3],
                schedule_name=f"{LOCATION}/schedules/{i % 2}",
                labels={"run by": "me"},
                pipeline_spec={"pipelineInfo": {"name": f"p{i % 2}"}},
                end_time=None if i % 3 else datetime(2024, 1, 1 + i, tzinfo=UTC),
            )
        )


def ids(store: Store, kind: Any, filter: str, order_by: str = "", page_size: int = 7, **more: Any) -> list[str]:
    found, token = [], ""
    while True:
        page, token = filters.listing(store, kind, None, filter, order_by, page_size, token, **more)
        assert len(page) <= page_size
        found += [item.name.rsplit("/", 1)[1] for item in page]
        if not token:
            return found


@pytest.mark.parametrize(
    ("filter", "numbers"),
    [
        ('state="PIPELINE_STATE_SUCCEEDED" AND display_name:"My*"', {1, 4, 7}),
        ('state!=PIPELINE_STATE_FAILED OR display_name="My job 2"', {0, 1, 2, 3, 4, 6, 7}),
        ('NOT display_name="My job 1"', {0, 2, 3, 4, 5, 6, 7}),
        ('create_time>"2021-05-18T00:00:00Z"', set(range(8))),
        ("update_time <= 2020-11-19T11:30:00-04:00", set()),
        ('end_time>"2024-01-02T00:00:00Z" OR NOT end_time:*', {1, 2, 3, 4, 5, 6, 7}),
        ('end_time="2024-01-04T01:00:00+01:00"', {3}),
        ('labels."run by"=me', set(range(8))),
        ("labels.env:*", set()),
        ('NOT labels:"env" AND pipeline_name = p1', {1, 3, 5, 7}),
        ('pipelineName != "p1"', {0, 2, 4, 6}),
        ("pipeline_job_user_id:job-*", set(range(8))),
        (f'schedule_name="{LOCATION}/schedules/1"', {1, 3, 5, 7}),
        ("name:*job-3", {3}),
        ("  ", set(range(8))),
    ],
)
def test_filters_that_the_reference_gives_for_pipeline_jobs(store: Store, filter: str, numbers: set[int]) -> None:
    assert set(ids(store, PipelineJob, filter)) == {f"job-{i}" for i in numbers}


def test_or_binds_tighter_than_and(store: Store) -> None:
    plain = 'state="PIPELINE_STATE_RUNNING" AND name="*job-0" OR name="*job-1"'
    assert ids(store, PipelineJob, plain) == ["job-0"]
    grouped = '(state="PIPELINE_STATE_RUNNING" AND name="*job-0") OR name="*job-1"'
    assert ids(store, PipelineJob, grouped) == ["job-1", "job-0"]


def test_an_id_is_asked_for_by_the_name_of_its_kind(new_database: Callable[[], str]) -> None:
    own = Store(new_database())
    own.create(Model(name=f"{LOCATION}/models/1234", display_name="m"))
    own.create(Model(name=f"{LOCATION}/models/1235/versions/1", display_name="m"))
    own.create(Endpoint(name=f"{LOCATION}/endpoints/77"))
    own.create(Tensorboard(name=f"{LOCATION}/tensorboards/5", is_default=True))
    own.create(Schedule(name=f"{LOCATION}/schedules/9", create_pipeline_job_request={"parent": LOCATION}))
    assert ids(own, Model, 'model=1234 AND displayName="m"') == ["1234"]
    assert ids(own, Model, "model=1235") == ["1"]
    assert ids(own, Endpoint, 'endpoint!="78"') == ["77"]
    assert ids(own, Tensorboard, "is_default=true") == ["5"]
    assert ids(own, Schedule, "create_pipeline_job_request:*") == ["9"]
    assert ids(own, Schedule, "NOT create_pipeline_job_request:* OR state=PAUSED") == []
    own.close()


@pytest.mark.parametrize(
    ("kind", "filter", "position", "problem"),
    [
        (PipelineJob, "state=FOO", 7, 'state has no value "FOO"; there is: PIPELINE_STATE_UNSPECIFIED'),
        (PipelineJob, "labels.env<1", 12, "labels.env does not support '<', only = != :"),
        (PipelineJob, "create_time>yesterday", 13, "RFC 3339"),
        (PipelineJob, "create_time>2020-01-01T00:00:00", 13, "RFC 3339"),
        (PipelineJob, "display_name=", 14, "expected a quoted text, a value"),
        (PipelineJob, 'display_name="a', 14, "expected a quoted text"),
        (PipelineJob, 'display_name="a" display_name="b"', 18, "expected ',', AND, OR, the end"),
        (PipelineJob, 'display_name="a" OR', 20, "expected '(', NOT, a field"),
        (PipelineJob, "nonsense=1", 1, "PipelineJob has no field nonsense"),
        (PipelineJob, 'name=x AND in_context("x")', 12, "PipelineJob filters have no function in_context"),
        (PipelineJob, "((((((state=PIPELINE_STATE_RUNNING))))))", 6, "nest deeper than 5 levels"),
        (PipelineJob, "name=a,b", 1, "takes one value"),
        (Artifact, "metadata.loss>3", 15, "metadata.loss.number_value"),
        (Artifact, "metadata.loss.number_value>much", 28, 'compared with a number, and "much" is none'),
        (Artifact, "metadata.loss.int_value>3", 1, "string_value, number_value, bool_value"),
        (Tensorboard, "is_default=1", 12, "compared with true or false"),
    ],
)
def test_what_is_not_supported_is_refused_with_its_position(
    store: Store, kind: Any, filter: str, position: int, problem: str
) -> None:
    with pytest.raises(exceptions.InvalidArgument) as refused:
        filters.listing(store, kind, None, filter)
    assert f"at position {position} " in refused.value.message
    assert problem in refused.value.message


@pytest.mark.parametrize("order_by", ["nonsense", "labels", "state sideways", "create_time,,name"])
def test_an_order_that_makes_no_sense_is_refused(store: Store, order_by: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="Invalid order_by"):
        filters.listing(store, PipelineJob, None, order_by=order_by)


def test_a_page_token_belongs_to_one_question(store: Store) -> None:
    _, token = filters.listing(store, Artifact, STORE, page_size=1)
    for other in ({"filter": "state=LIVE"}, {"order_by": "name"}):
        with pytest.raises(exceptions.InvalidArgument, match="page_token"):
            filters.listing(store, Artifact, STORE, page_token=token, **other)
    for broken in ("x", "e30=", token[:-4]):
        with pytest.raises(exceptions.InvalidArgument, match="page_token"):
            filters.listing(store, Artifact, STORE, page_token=broken)
    with pytest.raises(exceptions.InvalidArgument, match="page_size"):
        filters.listing(store, Artifact, STORE, page_size=-1)


def test_the_newest_come_first(store: Store) -> None:
    assert ids(store, Artifact, "", page_size=4) == [f"a{i}" for i in reversed(range(30))]
    assert filters.listing(store, Artifact, f"{STORE}x") == ([], "")


def test_ordering_by_several_fields(store: Store) -> None:
    by_columns = ids(store, PipelineJob, "", "state desc, create_time")
    assert by_columns == ["job-2", "job-5", "job-1", "job-4", "job-7", "job-0", "job-3", "job-6"]
    # Jobs that have not ended come before all that have.
    by_message = ids(store, PipelineJob, "", "end_time, createTime desc", page_size=3)
    assert by_message == ["job-7", "job-5", "job-4", "job-2", "job-1", "job-0", "job-3", "job-6"]


def test_pages_stay_true_while_resources_come_and_go(new_database: Callable[[], str]) -> None:
    store = Store(new_database())
    for i in range(10):
        store.create(Execution(name=f"{STORE}/executions/{i}"))
    first, token = filters.listing(store, Execution, STORE, page_size=4)
    store.create(Execution(name=f"{STORE}/executions/new"))
    store.delete(Execution, first[-1].name)
    store.delete(Execution, f"{STORE}/executions/2")
    rest, end = filters.listing(store, Execution, STORE, page_size=100, page_token=token)
    assert [item.name[-1] for item in first] == ["9", "8", "7", "6"]
    assert [item.name[-1] for item in rest] == ["5", "4", "3", "1", "0"]
    assert end == ""
    store.close()


def test_a_page_ends_early_when_its_messages_are_large(store: Store) -> None:
    whole, _ = filters.listing(store, Artifact, STORE)
    weight = sum(Artifact.pb(item).ByteSize() for item in whole[:4])
    page, token = filters.listing(store, Artifact, STORE, page_bytes=weight)
    assert page == whole[:4]
    rest, _ = filters.listing(store, Artifact, STORE, page_token=token)
    assert page + rest == whole
    page, token = filters.listing(store, Artifact, STORE, page_bytes=1)
    assert page == whole[:1] and token


def test_a_relation_of_many_members_means_the_same_as_one_of_few(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    filter = f'in_context("{RUN}") AND state=LIVE'
    few = ids(store, Artifact, filter, relations=IN_CONTEXT)
    monkeypatch.setattr(scan, "_FEW", 2)
    assert ids(store, Artifact, filter, relations=IN_CONTEXT) == few == ["a20", "a8"]


# A second reading of the language, on plain values: what the store answers must equal it.

Naive = tuple[str, Callable[[Artifact], bool]]


def metadata_of(item: Artifact) -> dict[str, Any]:
    return dict(item.metadata or {})


def text_leaf(field: str, values: list[str]) -> st.SearchStrategy[Naive]:
    def build(operator: str, text: str) -> Naive:
        quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        pattern = re.compile(".*".join(re.escape(part) for part in text.split("*")), re.DOTALL)

        def passes(item: Artifact) -> bool:
            matches = pattern.fullmatch(getattr(item, field)) is not None
            return not matches if operator == "!=" else matches

        return f"{field} {operator} {quoted}", passes

    return st.builds(build, st.sampled_from(["=", "!="]), st.sampled_from(values))


def number_leaf() -> st.SearchStrategy[Naive]:
    operators = {
        **{"<": float.__lt__, "<=": float.__le__, ">": float.__gt__},
        **{">=": float.__ge__, "=": float.__eq__, "!=": float.__ne__},
    }

    def build(operator: str, number: float) -> Naive:
        def passes(item: Artifact) -> bool:
            metadata = metadata_of(item)
            return "loss" in metadata and bool(operators[operator](float(metadata["loss"]), number))

        return f"metadata.loss.number_value{operator}{number}", passes

    return st.builds(build, st.sampled_from(list(operators)), st.sampled_from([-1.0, 0.5, 1.0, 1.7, 2.9]))


def time_leaf(store: Store) -> st.SearchStrategy[Naive]:
    created = sorted(item.create_time for item in store.select(Artifact))

    def build(operator: str, index: int, shift: int) -> Naive:
        moment = created[index] + timedelta(microseconds=shift)
        text = datetime.fromtimestamp(moment.timestamp(), UTC).replace(microsecond=moment.microsecond)
        compare: dict[str, Callable[[Any, Any], bool]] = {
            "<": lambda a, b: a < b,
            ">=": lambda a, b: a >= b,
            "=": lambda a, b: a == b,
        }
        return (
            f'create_time{operator}"{text.isoformat()}"',
            lambda item: compare[operator](item.create_time, moment),
        )

    return st.builds(
        build,
        st.sampled_from(["<", ">=", "="]),
        st.integers(0, len(created) - 1),
        st.sampled_from([-1, 0, 1]),
    )


def fixed_leaves(store: Store) -> st.SearchStrategy[Naive]:
    members = {f"{STORE}/artifacts/a{i}" for i in range(0, 30, 4)}
    leaves: list[Naive] = [
        ("state=LIVE", lambda item: item.state == Artifact.State.LIVE),
        ("state!=PENDING", lambda item: item.state != Artifact.State.PENDING),
        ("labels.env=prod", lambda item: item.labels.get("env") == "prod"),
        ("labels.env!=prod", lambda item: item.labels.get("env", "prod") != "prod"),
        ("labels.env:p*", lambda item: item.labels.get("env", "").startswith("p")),
        ("labels.env:*", lambda item: bool(item.labels.get("env"))),
        ("labels:env", lambda item: "env" in item.labels),
        ("metadata:loss", lambda item: "loss" in metadata_of(item)),
        ("metadata.done.bool_value=true", lambda item: metadata_of(item)["done"] is True),
        ("metadata.done.bool_value!=true", lambda item: metadata_of(item)["done"] is False),
        ("metadata.done.number_value=1", lambda item: False),
        (f"metadata.long.string_value={'x' * 300}1", lambda item: metadata_of(item)["long"].endswith("1")),
        (f"metadata.long.string_value!={'x' * 300}1", lambda item: metadata_of(item)["long"].endswith("0")),
        ("metadata.long.string_value:x*1", lambda item: metadata_of(item)["long"].endswith("1")),
        ("create_time>2020-01-01T00:00:00Z", lambda item: True),
        ('metadata."note:1".string_value:"n*"', lambda item: True),
        ('metadata."note:1".string_value="n2"', lambda item: metadata_of(item)["note:1"] == "n2"),
        ("metadata.loss:*", lambda item: "loss" in metadata_of(item)),
        (f'in_context("{RUN}")', lambda item: item.name in members),
        ('in_context("elsewhere")', lambda item: False),
    ]
    return st.sampled_from(leaves)


def conditions(store: Store) -> st.SearchStrategy[Naive]:
    names = ["one", "o_e", "o%e", "o*e", "*", "", "ONE", "T*", 'quo"te', "nothing"]
    leaves = st.one_of(
        text_leaf("display_name", names),
        text_leaf("uri", ["gs://b/3/x", "gs://*/3/*", "*x"]),
        text_leaf("schema_title", ["system.Model", "system.M*"]),
        number_leaf(),
        time_leaf(store),
        fixed_leaves(store),
    )

    def either(one: Naive, other: Naive) -> Naive:
        return f"({one[0]} OR {other[0]})", lambda item: one[1](item) or other[1](item)

    def both(one: Naive, other: Naive) -> Naive:
        return f"({one[0]} AND {other[0]})", lambda item: one[1](item) and other[1](item)

    def neither(one: Naive) -> Naive:
        return f"NOT {one[0]}", lambda item: not one[1](item)

    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(either, inner, inner), st.builds(both, inner, inner), st.builds(neither, inner)
        ),
        max_leaves=5,
    )


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_what_the_store_answers_equals_a_naive_reading(store: Store, data: st.DataObject) -> None:
    filter, passes = data.draw(conditions(store))
    order_by = data.draw(
        st.sampled_from(["", "display_name", "uri desc, create_time", "state, name desc", "labels.env desc, uri"])
    )
    page_size = data.draw(st.sampled_from([1, 7, 100]))
    every = store.select(Artifact)
    wanted = {item.name.rsplit("/", 1)[1] for item in every if passes(item)}
    with pytest.MonkeyPatch.context() as patch:
        # As in a store so large that what holds for a few is far from everything.
        for limit, value in data.draw(st.sampled_from([{}, {"_FEW": 3, "_READ": 2}, {"_FEW": 2, "_MANY": 4}])).items():
            patch.setattr(scan, limit, value)
        found = ids(store, Artifact, filter, order_by, page_size, relations=IN_CONTEXT)
    assert len(found) == len(set(found))
    assert set(found) == wanted
    unfiltered = ids(store, Artifact, "", order_by, 100)
    assert found == [id for id in unfiltered if id in wanted]


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.sampled_from('ab.= "():*<>!\\ANDORT,-\n'), max_size=25))
def test_no_text_does_worse_than_being_refused(text: str) -> None:
    try:
        filters.parse_filter(Artifact, text, IN_CONTEXT)
    except exceptions.InvalidArgument as refused:
        assert refused.message.startswith("Invalid filter at position ")
