"""Protects experiments as the SDK uses them: runs, parameters, metrics, time series, pipelines, tables."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.api_core import exceptions
from kfp import compiler, dsl


def fresh(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def experiment(aiplatform: ModuleType) -> Iterator[str]:
    """An experiment without TensorBoard, chosen by `init`."""
    name = fresh("experiment")
    aiplatform.init(experiment=name, experiment_tensorboard=False)
    yield name
    aiplatform.init(experiment="", experiment_tensorboard=False)


def rows(aiplatform: ModuleType, experiment: str, **more: Any) -> list[dict[str, Any]]:
    return aiplatform.get_experiment_df(experiment, **more).sort_values("run_name").to_dict("records")


def test_runs_become_rows(aiplatform: ModuleType, experiment: str) -> None:
    for rate in (0.1, 0.2):
        with aiplatform.start_run(f"run-{int(rate * 10)}"):
            aiplatform.log_params({"learning_rate": rate, "kind": "tcn"})
            aiplatform.log_metrics({"cer": rate / 2})
            aiplatform.log_metrics({"loss": 3})
            with aiplatform.start_execution(schema_title="system.ContainerExecution", display_name="t") as execution:
                execution.assign_output_artifacts([aiplatform.Artifact.create("system.Model")])
    one, other = rows(aiplatform, experiment)
    assert (one["run_name"], other["run_name"]) == ("run-1", "run-2")
    assert (one["param.learning_rate"], other["param.learning_rate"]) == (0.1, 0.2)
    assert (one["metric.cer"], other["metric.cer"], one["metric.loss"]) == (0.05, 0.1, 3)
    assert one["state"] == "COMPLETE" and one["experiment_name"] == experiment
    again = aiplatform.ExperimentRun("run-2", experiment=experiment)
    assert again.get_params() == {"learning_rate": 0.2, "kind": "tcn"}
    assert again.get_metrics() == {"cer": 0.1, "loss": 3}
    assert len(again.get_artifacts()) == 1 and len(again.get_executions()) == 1
    assert {run.name for run in aiplatform.ExperimentRun.list(experiment=experiment)} == {"run-1", "run-2"}
    assert experiment in {item.name for item in aiplatform.Experiment.list()}
    again.delete()
    assert [row["run_name"] for row in rows(aiplatform, experiment)] == ["run-1"]
    aiplatform.Experiment(experiment).delete()
    assert aiplatform.Experiment.get(experiment) is None


def test_a_run_is_taken_up_again(aiplatform: ModuleType, experiment: str) -> None:
    aiplatform.start_run("run")
    aiplatform.log_params({"a": 1})
    aiplatform.end_run()
    with pytest.raises(exceptions.Conflict, match="already exists"):
        aiplatform.start_run("run")
    with aiplatform.start_run("run", resume=True) as run:
        assert run.state.name == "RUNNING"
        aiplatform.log_params({"b": "two"})
    with pytest.raises(RuntimeError), aiplatform.start_run("broken"):
        raise RuntimeError
    broken, whole = rows(aiplatform, experiment)
    assert (whole["param.a"], whole["param.b"], whole["state"]) == (1, "two", "COMPLETE")
    assert broken["state"] == "FAILED"
    run.update_state(aiplatform.gapic.Execution.State.FAILED)
    assert aiplatform.ExperimentRun("run", experiment=experiment).state.name == "FAILED"


def test_curves_of_a_classifier(aiplatform: ModuleType, experiment: str) -> None:
    with aiplatform.start_run("run"):
        aiplatform.log_classification_metrics(
            labels=["cat", "dog"],
            matrix=[[9, 1], [2, 8]],
            fpr=[0.0, 0.5, 1.0],
            tpr=[0.0, 0.9, 1.0],
            threshold=[1.0, 0.5, 0.0],
            display_name="holdout",
        )
    (metrics,) = aiplatform.ExperimentRun("run", experiment=experiment).get_classification_metrics()
    assert (metrics["display_name"], metrics["matrix"]) == ("holdout", [[9.0, 1.0], [2.0, 8.0]])
    assert (metrics["labels"], metrics["tpr"]) == (["cat", "dog"], [0.0, 0.9, 1.0])


def test_time_series_go_to_the_tensorboard(aiplatform: ModuleType) -> None:
    experiment, board = fresh("experiment"), aiplatform.Tensorboard.create(display_name="mine")
    aiplatform.init(experiment=experiment, experiment_tensorboard=board)
    with aiplatform.start_run("run") as run:
        for epoch in (1, 2, 3):
            aiplatform.log_time_series_metrics({"loss": 1 / epoch, "cer": epoch / 4})
        aiplatform.log_time_series_metrics({"loss": 0.25}, step=10)
        frame = run.get_time_series_data_frame()
    assert list(frame["step"]) == [1, 2, 3, 10] and list(frame["loss"]) == [1.0, 0.5, 1 / 3, 0.25]
    (row,) = rows(aiplatform, experiment)
    assert (row["time_series_metric.loss"], row["time_series_metric.cer"]) == (0.25, 0.75)
    assert "time_series_metric.loss" not in rows(aiplatform, experiment, include_time_series=False)[0]
    assert aiplatform.Experiment(experiment).get_backing_tensorboard_resource().name == board.name
    (of_run,) = aiplatform.TensorboardRun.list(
        tensorboard_experiment_name=f"{board.resource_name}/experiments/{experiment}"
    )
    aiplatform.Experiment(experiment).delete(delete_backing_tensorboard_runs=True)
    with pytest.raises(Exception, match="not found"):
        aiplatform.TensorboardRun(of_run.resource_name)
    board.delete()


def test_without_being_told_an_experiment_uses_the_default_tensorboard(aiplatform: ModuleType) -> None:
    boards = []
    for _ in range(2):
        experiment = fresh("experiment")
        aiplatform.init(experiment=experiment)
        with aiplatform.start_run("run"):
            aiplatform.log_time_series_metrics({"loss": 0.5})
        boards.append(aiplatform.Experiment(experiment).get_backing_tensorboard_resource())
        assert rows(aiplatform, experiment)[0]["time_series_metric.loss"] == 0.5
        aiplatform.Experiment(experiment).delete()
    assert boards[0].gca_resource.is_default and boards[0].name == boards[1].name


def test_a_model_is_part_of_a_run(aiplatform: ModuleType, experiment: str) -> None:
    from sklearn.linear_model import LinearRegression

    fitted = LinearRegression().fit([[1.0], [2.0], [3.0]], [2.0, 4.0, 6.0])
    with aiplatform.start_run("run") as run:
        aiplatform.log_model(fitted, artifact_id=(id := fresh("model")))
    (model,) = run.get_experiment_models()
    assert model.name == id
    assert model.load_model().predict([[4.0]])[0] == pytest.approx(8)


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def measure(rate: float, metrics: dsl.Output[dsl.Metrics]) -> None:
    metrics.log_metric("cer", rate / 2)


@dsl.pipeline(name="contract-metadata")
def measuring(rate: float = 0.5) -> None:
    measure(rate=rate)


def test_pipeline_runs_become_rows(aiplatform: ModuleType, tmp_path: Path) -> None:
    compiler.Compiler().compile(measuring, str(tmp_path / "pipeline.json"))
    experiment = fresh("experiment")
    for rate in (0.25, 0.5):
        job = aiplatform.PipelineJob(
            display_name="measuring",
            template_path=str(tmp_path / "pipeline.json"),
            pipeline_root=f"gs://contract-tests/{experiment}",
            parameter_values={"rate": rate},
            job_id=fresh("contract-metadata"),
        )
        job.submit(experiment=experiment)
        job.wait()
        frame = aiplatform.get_pipeline_df("contract-metadata")
        (row,) = frame[frame["run_name"] == job.name].to_dict("records")
        assert (row["param.input:rate"], row["metric.cer"]) == (rate, rate / 2)
    runs = aiplatform.get_experiment_df(experiment).sort_values("param.rate")
    assert list(runs["param.rate"]) == [0.25, 0.5] and list(runs["metric.cer"]) == [0.125, 0.25]
    assert set(runs["run_type"]) == {"system.PipelineRun"} and set(runs["state"]) == {"COMPLETE"}
    assert job.get_associated_experiment().name == experiment
    aiplatform.init(experiment=experiment, experiment_tensorboard=False)
    with aiplatform.start_run("with-job") as run:
        aiplatform.log(pipeline_job=job)
    assert [each.resource_name for each in run.get_logged_pipeline_jobs()] == [job.resource_name]
