"""Protects conditions, loops, collections, exit handlers and failure policies, against pipelines compiled by kfp."""

from kfp import dsl
from kfp.dsl import Artifact, Collected, Dataset, Input, PipelineTaskFinalStatus

from tests.localvertex.engine.pieces import copy, fail, number, say, show, wait, write
from tests.localvertex.engine.support import Bench


@dsl.container_component
def join(texts: list, joined: dsl.OutputPath(str)):  # type: ignore
    return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", 'printf %s "$0" > "$1"'], args=[texts, joined])


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def read_all(files: Input[list[Dataset]]) -> str:
    return ",".join(open(file.path).read() for file in files)


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def report(status: PipelineTaskFinalStatus, text: str = "") -> str:
    return f"{status.state} {status.pipeline_task_name} {status.error_message} {text}"


def test_one_branch_of_if_elif_else_runs_and_oneof_takes_its_output(bench: Bench) -> None:
    @dsl.pipeline(name="branches")
    def branches(value: int) -> str:
        chosen = number(value=value)
        with dsl.If(chosen.output == 1):
            a = say(text="one")
        with dsl.Elif(chosen.output == 2):
            b = say(text="two")
        with dsl.Else():
            c = say(text="many")
        return say(text=dsl.OneOf(a.output, b.output, c.output)).output

    for value, word in ((1, "one"), (2, "two"), (9, "many")):
        result = bench.run(branches, parameters={"value": value})
        assert result.state == "SUCCEEDED", result.job.error
        assert result.output("") == word
        states = [state for path, state in result.states.items() if path.rsplit("/")[-1].startswith("condition-")]
        assert sorted(states) == ["NOT_TRIGGERED", "NOT_TRIGGERED", "SUCCEEDED", "SUCCEEDED"]


def test_oneof_chooses_among_artifacts(bench: Bench) -> None:
    @dsl.pipeline(name="artifacts")
    def pipeline(big: bool) -> Dataset:
        with dsl.If(big == True, "big"):  # noqa: E712
            a = write(text="BIG")
        with dsl.Else("small"):
            b = write(text="small")
        return copy(source=dsl.OneOf(a.output, b.output)).output

    for big, text in ((True, "BIG"), (False, "small")):
        result = bench.run(pipeline, parameters={"big": big})
        assert result.state == "SUCCEEDED", result.job.error
        uri = result.artifacts("", "Output")[0]["uri"]
        assert bench.buckets.path(uri).read_text() == text


def test_a_condition_on_strings_numbers_and_booleans(bench: Bench) -> None:
    @dsl.pipeline(name="kinds")
    def pipeline(text: str, share: float, flag: bool, count: int) -> None:
        with dsl.If(text == "its"):
            say(text="string")
        with dsl.If(share > 0.5):
            say(text="float")
        with dsl.If(flag == True):  # noqa: E712
            say(text="boolean")
        with dsl.If(count >= 3), dsl.If(count < 5):
            say(text="nested")

    values = {"text": "its", "share": 0.75, "flag": False, "count": 4}
    result = bench.run(pipeline, parameters=values)
    assert result.state == "SUCCEEDED", result.job.error
    said = sorted(result.output(path, "said") for path in result.states if "say" in path.rsplit("/")[-1])
    assert said == ["float", "nested", "string"]


def test_what_depends_on_a_branch_not_taken_is_not_triggered(bench: Bench) -> None:
    @dsl.pipeline(name="skipped")
    def pipeline(go: str = "no") -> None:
        with dsl.If(go == "yes"):
            first = say(text="a")
            say(text="b").after(first)

    result = bench.run(pipeline)
    assert (result.state, result.states) == ("SUCCEEDED", {"condition-1": "NOT_TRIGGERED"})


def test_loops_nest_use_outer_outputs_and_collect(bench: Bench) -> None:
    @dsl.pipeline(name="loops")
    def loops(names: list = ["a", "b"]) -> str:  # noqa: B006
        outer = say(text="o")
        with dsl.ParallelFor(names) as name, dsl.ParallelFor([1, 2], parallelism=1) as index:
            inner = say(text=f"{outer.output}{name}{index}")
        return join(texts=Collected(inner.output)).output

    result = bench.run(loops)
    assert result.state == "SUCCEEDED", result.job.error
    assert result.output("") == '[["oa1", "oa2"], ["ob1", "ob2"]]'
    assert len(result.executed()) == 6


def test_loops_over_dictionaries_and_collected_artifacts(bench: Bench) -> None:
    @dsl.pipeline(name="fields")
    def fields() -> str:
        with dsl.ParallelFor([{"label": "x", "n": 1}, {"label": "y", "n": 2}]) as item:
            made = write(text=item.label)
        return read_all(files=Collected(made.output)).output

    result = bench.run(fields)
    assert result.state == "SUCCEEDED", result.job.error
    assert result.output("") == "x,y"


def test_loops_over_artifacts(bench: Bench) -> None:
    @dsl.pipeline(name="make-files")
    def make_files() -> list[Dataset]:
        with dsl.ParallelFor(["p", "q"]) as text:
            made = write(text=text)
        return Collected(made.output)

    @dsl.pipeline(name="files")
    def files() -> None:
        with dsl.ParallelFor(make_files().output) as file:
            show(source=file)

    result = bench.run(files)
    assert result.state == "SUCCEEDED", result.job.error
    shown = [result.output(path, "text") for path in sorted(result.states) if path.endswith("/show")]
    assert shown == ["p", "q"]


def test_a_loop_over_nothing_succeeds(bench: Bench) -> None:
    @dsl.pipeline(name="empty")
    def empty(names: list = []) -> str:  # noqa: B006
        with dsl.ParallelFor(names) as name:
            said = say(text=name)
        return join(texts=Collected(said.output)).output

    result = bench.run(empty)
    assert result.state == "SUCCEEDED", result.job.error
    assert result.output("") == "[]"


def test_the_limit_of_a_loop_is_kept(bench: Bench) -> None:
    @dsl.pipeline(name="limited")
    def limited() -> None:
        with dsl.ParallelFor([0.05, 0.06, 0.07, 0.08], parallelism=2) as seconds:
            wait(seconds=seconds)

    result = bench.run(limited)
    assert result.state == "SUCCEEDED", result.job.error
    spans = [(record.started, record.ended) for path, record in result.records.items() if path.endswith("/wait")]
    assert len(spans) == 4
    assert max(sum(start <= moment < end for start, end in spans) for moment, _ in spans) == 2


def test_an_exit_task_runs_after_failure_and_is_told_of_it(bench: Bench) -> None:
    @dsl.pipeline(name="exits")
    def exits(message: str) -> None:
        last = report(text="bye")
        with dsl.ExitHandler(last, name="guarded"):
            first = fail(message=message)
            say(text="x").after(first)

    result = bench.run(exits, parameters={"message": "broken"})
    assert result.state == "FAILED"
    told = result.output("report")
    assert told.startswith(
        "FAILED exit-handler-1 The DAG failed because some tasks failed. The failed tasks are: [fail]."
    )
    assert told.endswith("bye")


def test_a_task_may_ignore_that_upstream_failed(bench: Bench) -> None:
    @dsl.container_component
    def perhaps(text: dsl.OutputPath(str)):  # type: ignore
        return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", "exit 1"], args=[text])

    @dsl.component(base_image="python:3.11", install_kfp_package=False)
    def anyway(text: str = "default") -> str:
        return text

    @dsl.pipeline(name="ignoring")
    def ignoring() -> None:
        anyway(text=perhaps().output).ignore_upstream_failure()

    result = bench.run(ignoring)
    assert (result.state, result.states) == ("FAILED", {"perhaps": "FAILED", "anyway": "SUCCEEDED"})
    assert result.output("anyway") == "default"


def test_failing_fast_starts_nothing_new_and_failing_slowly_does(bench: Bench) -> None:
    @dsl.pipeline(name="policies")
    def policies() -> None:
        fail(message="x")
        slow = wait(seconds=0.5).set_caching_options(False)
        say(text="later").after(slow)

    slowly = bench.run(policies)
    assert slowly.states == {"fail": "FAILED", "wait": "SUCCEEDED", "say": "SUCCEEDED"}
    fast = bench.run(policies, failurePolicy="PIPELINE_FAILURE_POLICY_FAIL_FAST")
    assert fast.states["say"] == "NOT_TRIGGERED"
    assert fast.state == "FAILED"


def test_pipelines_nest(bench: Bench) -> None:
    @dsl.pipeline(name="inner")
    def inner(text: str, suffix: str = "!") -> Artifact:
        return write(text=f"{text}{suffix}").output

    @dsl.pipeline(name="outer")
    def outer() -> str:
        return show(source=inner(text="in").output).output

    result = bench.run(outer)
    assert result.state == "SUCCEEDED", result.job.error
    assert result.output("") == "in!"
    assert result.states == {"inner": "SUCCEEDED", "inner/write": "SUCCEEDED", "show": "SUCCEEDED"}
    assert result.tasks["write"].parent_task_id == result.tasks["inner"].task_id


def test_independent_tasks_run_at_the_same_time(bench: Bench) -> None:
    @dsl.pipeline(name="parallel")
    def parallel() -> None:
        for _ in range(3):
            wait(seconds=0.6)

    result = bench.run(parallel)
    starts = [record.started for path, record in result.records.items() if path]
    ends = [record.ended for path, record in result.records.items() if path]
    assert max(starts) < min(ends)
