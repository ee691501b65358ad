"""Protects what the API shows of a run: its tasks, their artifacts, executions and times."""

from kfp import dsl

from localvertex import names
from tests.localvertex.engine.pieces import show, write
from tests.localvertex.engine.support import Bench


def test_the_job_shows_its_tasks_their_artifacts_and_executions(bench: Bench) -> None:
    @dsl.pipeline(name="shown")
    def pipeline() -> None:
        show(source=write(text="a").output)

    result = bench.run(pipeline, "shown-1")
    root = result.job.job_detail.task_details[0]
    assert (root.task_name, root.state.name, root.execution.schema_title) == ("shown-1", "SUCCEEDED", "system.Run")
    assert result.tasks["show"].parent_task_id == root.task_id
    made = result.tasks["write"].outputs["file"].artifacts[0]
    assert result.tasks["show"].inputs["source"].artifacts[0].name == made.name
    assert made.schema_title == "system.Dataset"
    assert result.tasks["show"].execution.metadata["output:text"] == "a"
    assert result.tasks["show"].execution.state.name == "COMPLETE"
    assert result.job.job_detail.pipeline_run_context.name.endswith("/contexts/shown-1")
    assert result.tasks["show"].start_time <= result.tasks["show"].end_time
    assert names.id_of(result.job.name) == "shown-1"
