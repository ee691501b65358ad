"""Protects what follows a failure: exit tasks and what they are told, tasks that do not mind, and failure policies."""

import re
from typing import Any

import pytest
from kfp import dsl
from kfp.dsl import PipelineTaskFinalStatus

from tests.conformance.support import Conformance
from tests.localvertex.engine.pieces import fail, say, wait, write

NOT = "NOT_TRIGGERED"


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def report(status: PipelineTaskFinalStatus, text: str = "") -> str:
    return f"{status.state}|{status.pipeline_task_name}|{status.error_code}|{status.error_message}|{text}"


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def anyway(text: str = "default") -> str:
    return text


@dsl.container_component
def lose(text: dsl.OutputPath(str)):  # type: ignore
    """Is to make an output, and fails."""
    return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", 'exit "$1"'], args=[text, "1"])


def test_a_failing_task_is_named_with_its_exit_code_and_last_line(run: Conformance) -> None:
    @dsl.pipeline(name="failing")
    def pipeline() -> None:
        broken = fail(message="the disk is full")
        say(text="never").after(broken)
        say(text="besides")

    states = {"fail": "FAILED", "say": NOT}
    result = run(pipeline, ran="fail say-2", states=states, ends="FAILED")
    told = result.job.error.message
    assert "The DAG failed because some tasks failed. The failed tasks are: [fail]." in told
    assert "exited with code 7. Last line of its log: the disk is full" in told
    assert result.tasks["fail"].error.message.startswith("The container exited with code 7")


def test_an_exit_task_runs_after_success(run: Conformance) -> None:
    @dsl.pipeline(name="exits")
    def pipeline(note: str = "n") -> None:
        last = report(text=f"bye {note}")
        with dsl.ExitHandler(last, name="guarded"):
            say(text="fine")

    result = run(pipeline, ran="exit-handler-1/say report")
    assert result.output("report") == "SUCCEEDED|exit-handler-1|None|None|bye n"


def test_an_exit_task_runs_after_failure_and_is_told_of_it(run: Conformance) -> None:
    @dsl.pipeline(name="exits")
    def pipeline(message: str) -> None:
        with dsl.ExitHandler(report(text="bye")):
            first = fail(message=message)
            say(text="x").after(first)

    states = {"exit-handler-1": "FAILED", "exit-handler-1/fail": "FAILED", "exit-handler-1/say": NOT}
    parameters = {"message": "broken"}
    ran = "exit-handler-1/fail report"
    result = run(pipeline, parameters=parameters, ran=ran, states=states, ends="FAILED")
    told = result.output("report").split("|")
    assert told[:3] == ["FAILED", "exit-handler-1", "9"]
    assert told[3].startswith("The DAG failed because some tasks failed. The failed tasks are: [fail].")


def test_a_pipeline_as_exit_task_is_told_of_it_too(run: Conformance) -> None:
    @dsl.component(base_image="python:3.11", install_kfp_package=False)
    def state_of(status: dict) -> str:
        return status["state"]

    @dsl.pipeline(name="notify")
    def notify(status: PipelineTaskFinalStatus) -> None:
        with dsl.If(state_of(status=status).output == "FAILED"):
            say(text="it failed")

    @dsl.pipeline(name="exits")
    def pipeline() -> None:
        with dsl.ExitHandler(notify()):
            fail(message="x")

    states = {"exit-handler-1": "FAILED", "exit-handler-1/fail": "FAILED"}
    ran = "exit-handler-1/fail notify/state-of notify/condition-1/say"
    run(pipeline, ran=ran, states=states, ends="FAILED")


def test_two_exit_handlers_side_by_side(run: Conformance) -> None:
    @dsl.pipeline(name="two")
    def pipeline() -> None:
        with dsl.ExitHandler(report(text="first")):
            fail(message="x")
        with dsl.ExitHandler(report(text="second")):
            say(text="y")

    states = {"exit-handler-1": "FAILED", "exit-handler-1/fail": "FAILED"}
    ran = "exit-handler-1/fail exit-handler-2/say report report-2"
    result = run(pipeline, ran=ran, states=states, ends="FAILED")
    assert result.output("report").startswith("FAILED|exit-handler-1|")
    assert result.output("report-2").startswith("SUCCEEDED|exit-handler-2|")


def test_loops_and_conditions_in_an_exit_handler(run: Conformance) -> None:
    @dsl.pipeline(name="within")
    def pipeline(go: bool = True) -> None:
        with dsl.ExitHandler(say(text="bye")):
            with dsl.ParallelFor(["a", "b"]) as word:
                say(text=word)
            with dsl.If(go == False):  # noqa: E712
                fail(message="not here")

    loop = "exit-handler-1/for-loop-3"
    states = {"exit-handler-1/condition-4": NOT}
    run(pipeline, ran=f"{loop}/0/say-2 {loop}/1/say-2 say", states=states)


def test_a_failing_exit_task_fails_the_run(run: Conformance) -> None:
    @dsl.pipeline(name="last")
    def pipeline() -> None:
        with dsl.ExitHandler(fail(message="in the end")):
            say(text="fine")

    run(pipeline, ran="exit-handler-1/say fail", states={"fail": "FAILED"}, ends="FAILED")


def test_a_task_may_ignore_that_upstream_failed(run: Conformance) -> None:
    @dsl.pipeline(name="ignoring")
    def pipeline() -> None:
        anyway(text=lose().output).ignore_upstream_failure()

    result = run(pipeline, ran="lose anyway", states={"lose": "FAILED"}, ends="FAILED")
    assert result.output("anyway") == "default"


def test_a_task_that_ignores_failures_is_told_how_upstream_ended(run: Conformance) -> None:
    @dsl.pipeline(name="told")
    def pipeline() -> None:
        lost = lose()
        report(text="after").after(lost).ignore_upstream_failure()

    result = run(pipeline, ran="lose report", states={"lose": "FAILED"}, ends="FAILED")
    told = result.output("report").split("|")
    assert told[:3] == ["FAILED", "lose", "9"]
    assert told[4] == "after"


def test_what_follows_a_task_that_ignores_failures_goes_on(run: Conformance) -> None:
    @dsl.pipeline(name="on")
    def pipeline() -> None:
        kept = anyway(text=lose().output).ignore_upstream_failure()
        say(text=kept.output)
        say(text="x").after(fail(message="x"))

    states = {"lose": "FAILED", "fail": "FAILED", "say-2": NOT}
    result = run(pipeline, ran="lose anyway say fail", states=states, ends="FAILED")
    assert result.output("say", "said") == "default"


def test_failures_spread_out_of_nested_pipelines(run: Conformance) -> None:
    @dsl.pipeline(name="inner")
    def inner() -> str:
        first = say(text="fine")
        return lose().after(first).output

    @dsl.pipeline(name="middle")
    def middle() -> str:
        return inner().output

    @dsl.pipeline(name="outer")
    def outer() -> None:
        say(text=middle().output)
        write(text="besides")

    states = {"middle": "FAILED", "middle/inner": "FAILED", "middle/inner/lose": "FAILED", "say": NOT}
    result = run(outer, ran="middle/inner/say middle/inner/lose write", states=states, ends="FAILED")
    assert "middle/inner/lose: The container exited with code 1." in result.job.error.message


@pytest.mark.parametrize(
    ("policy", "ran", "states"),
    [
        ("SLOW", "fail wait say", {}),
        ("FAST", "fail wait", {"say": NOT}),
    ],
)
def test_failing_slowly_goes_on_and_failing_fast_starts_nothing_new(
    run: Conformance, policy: str, ran: str, states: dict[str, Any]
) -> None:
    @dsl.pipeline(name="policies")
    def pipeline() -> None:
        fail(message="x")
        say(text="later").after(wait(seconds=0.4))

    run(
        pipeline,
        ran=ran,
        states={"fail": "FAILED", **states},
        ends="FAILED",
        failurePolicy=f"PIPELINE_FAILURE_POLICY_FAIL_{policy}",
    )


def test_failing_fast_still_runs_exit_tasks(run: Conformance) -> None:
    @dsl.pipeline(name="fast")
    def pipeline() -> None:
        with dsl.ExitHandler(say(text="bye")):
            say(text="never").after(fail(message="x"))

    states = {"exit-handler-1": "FAILED", "exit-handler-1/fail": "FAILED", "exit-handler-1/say-2": NOT}
    policy = "PIPELINE_FAILURE_POLICY_FAIL_FAST"
    run(pipeline, ran="exit-handler-1/fail say", states=states, ends="FAILED", failurePolicy=policy)


def test_an_output_of_the_wrong_type_fails_its_task(run: Conformance) -> None:
    @dsl.container_component
    def lie(number: dsl.OutputPath(int)):  # type: ignore
        return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", 'echo many > "$0"'], args=[number])

    @dsl.pipeline(name="lying")
    def pipeline() -> None:
        lie()

    result = run(pipeline, ran="lie", states={"lie": "FAILED"}, ends="FAILED")
    assert "Output parameter 'number': expected NUMBER_INTEGER, got the text 'many" in result.job.error.message


def test_a_program_that_does_not_exist_is_named(run: Conformance) -> None:
    @dsl.container_component
    def absent():
        return dsl.ContainerSpec(image="elsewhere:1", command=["no-such-program"])

    @dsl.pipeline(name="absent")
    def pipeline() -> None:
        absent()

    result = run(pipeline, ran="absent", states={"absent": "FAILED"}, ends="FAILED")
    # Said by who starts it: localvertex, or the init of a container.
    assert re.search("(run|exec) no-such-program.*: No such file or directory", result.job.error.message)
