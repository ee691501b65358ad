"""Protects retries: how often, after how long, with what left behind, and what follows them."""

from itertools import pairwise

from kfp import dsl
from kfp.dsl import Artifact, Output

from localvertex.engine.spec import Retry
from tests.conformance.support import Conformance, compiled
from tests.localvertex.engine.pieces import fail, say, show


@dsl.container_component
def third_time(mark: Output[Artifact]):
    """Succeeds at the third attempt, and says what it finds in its folder."""
    script = (
        'task="$(dirname "$0")"; count="$(dirname "$task")/count"; echo x >> "$count"; '
        'ls -A "$task"; wc -l < "$count" > "$0"; [ "$(wc -l < "$count")" = 3 ]'
    )
    return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", script], args=[mark.path])


def test_a_retry_gets_a_fresh_folder_and_what_follows_its_output(run: Conformance) -> None:
    @dsl.pipeline(name="retrying")
    def pipeline() -> str:
        tried = third_time().set_retry(2, backoff_duration="0s")
        return show(source=tried.output).output

    result = run(pipeline, ran="third-time third-time third-time show", outputs={"Output": "3\n"})
    assert result.log("third-time") == ""
    assert result.artifacts("third-time", "mark")[0]["uri"].endswith("_2/mark")
    attempts = run.bench.engine.journal.attempts(result.records["third-time"])
    assert [(each.number, each.state.name) for each in attempts] == [(0, "FAILED"), (1, "FAILED"), (2, "SUCCEEDED")]
    assert attempts[0].error == "The container exited with code 1." and attempts[2].error == ""
    assert all(each.started <= each.ended for each in attempts)
    assert attempts[0].ended <= attempts[1].started and attempts[2].ended == result.records["third-time"].ended


def test_retries_come_to_an_end(run: Conformance) -> None:
    @dsl.pipeline(name="hopeless")
    def pipeline() -> None:
        say(text="never").after(fail(message="no").set_retry(2, backoff_duration="0s"))

    states = {"fail": "FAILED", "say": "NOT_TRIGGERED"}
    result = run(pipeline, ran="fail fail fail", states=states, ends="FAILED")
    assert result.records["fail"].attempt == 2


def test_a_retry_waits_longer_each_time_up_to_a_limit(run: Conformance) -> None:
    @dsl.container_component
    def clock():
        return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", "date +%s.%N; exit 1"])

    @dsl.pipeline(name="patient")
    def pipeline() -> None:
        clock().set_retry(3, backoff_factor=2.0)

    spec = compiled(pipeline, run.bench.folder)
    spec["root"]["dag"]["tasks"]["clock"]["retryPolicy"].update(backoffDuration="0.2s", backoffMaxDuration="0.300s")
    result = run(spec, ran="clock clock clock clock", states={"clock": "FAILED"}, ends="FAILED")
    moments = [float(line) for line in result.log("clock").splitlines()]
    waits = [after - before for before, after in pairwise(moments)]
    assert all(waited >= least for waited, least in zip(waits, (0.2, 0.3, 0.3), strict=True))
    retry = Retry(count=9, backoff=2, factor=3, longest=60)
    assert [retry.delay(attempt) for attempt in (1, 2, 3, 4, 5)] == [2, 6, 18, 54, 60]


def test_each_iteration_of_a_loop_is_retried_for_itself(run: Conformance) -> None:
    @dsl.container_component
    def second_time(folder: str, word: str):
        script = 'test -e "$0/$1" || { touch "$0/$1"; exit 1; }'
        return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", script], args=[folder, word])

    @dsl.pipeline(name="iterations")
    def pipeline(folder: str) -> None:
        with dsl.ParallelFor(["a", "b"]) as word:
            second_time(folder=folder, word=word).set_retry(1, backoff_duration="0s")

    first, second = "for-loop-2/0/second-time", "for-loop-2/1/second-time"
    run(pipeline, parameters={"folder": run.shared()}, ran=f"{first} {first} {second} {second}")


def test_a_retried_task_is_cached_like_any_other(run: Conformance) -> None:
    @dsl.pipeline(name="retrying")
    def pipeline() -> None:
        third_time().set_retry(2, backoff_duration="0s")

    run(pipeline, ran="third-time third-time third-time")
    run(pipeline, ran="", states={"third-time": "SKIPPED"})
