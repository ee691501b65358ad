"""Evaluate: scores of the trained network on the test split, and a report of its mistakes."""

from typing import Any

from kfp import dsl
from kfp.dsl import HTML, ClassificationMetrics, Dataset, Input, Metrics, Model, Output


def evaluate(system: str, image: str) -> dsl.base_component.BaseComponent:
    """Makes the evaluation component of a system.

    Args:
        system: a folder of `images/trainer/systems`.
        image: the full name of the image it runs in.
    """

    @dsl.container_component
    def evaluate(
        examples: Input[Dataset],
        model: Input[Model],
        metrics: Output[Metrics],
        report: Output[HTML],
    ) -> dsl.ContainerSpec:
        """Measures the network on examples it has never seen.

        Args:
            examples: what ingest wrote; only `test/` is read.
            model: what train wrote.
            metrics: the scores, with their confidence intervals.
            report: learning curve, tables of errors and the worst examples as pictures, as one page.
        """
        return _container(system, image, examples, model, metrics, report)

    return evaluate


def evaluate_classifier(system: str, image: str, prices: str = "") -> dsl.base_component.BaseComponent:
    """Makes the evaluation component of a system whose answer is one of a few classes.

    Args:
        system: a folder of `images/trainer/systems`.
        image: the full name of the image it runs in.
        prices: JSON of what machines cost, for the report: `machines`, `accelerators`, `date`, `source`;
            empty: the report does not say what the training cost.
    """

    @dsl.container_component
    def evaluate(
        examples: Input[Dataset],
        model: Input[Model],
        metrics: Output[Metrics],
        confusion: Output[ClassificationMetrics],
        report: Output[HTML],
        baseline: Input[Model] = None,
    ) -> dsl.ContainerSpec:
        """Measures the network on examples it has never seen.

        Args:
            examples: what ingest wrote; only `test/` is read.
            model: what train wrote.
            metrics: the scores, with their confidence intervals, and the baseline's as `baseline_<name>`.
            confusion: how often each class was taken for each.
            report: learning curve, tables of errors and the worst examples, as one page.
            baseline: what train wrote of another network; its scores stand beside the model's.
        """
        flags = [f"--prices={prices}"] if prices else []
        beside = dsl.IfPresentPlaceholder("baseline", f"--baseline={baseline.path}")
        return _container(system, image, examples, model, metrics, report, beside, *flags)

    return evaluate


def _container(
    system: str, image: str, examples: Dataset, model: Model, metrics: Metrics, report: HTML, *flags: Any
) -> dsl.ContainerSpec:
    return dsl.ContainerSpec(
        image=image,
        command=["python", "-m", "images.trainer.evaluate"],
        args=[
            f"--system={system}",
            f"--examples={examples.path}",
            f"--model={model.path}",
            f"--metrics={metrics.path}",
            f"--report={report.path}",
            *flags,
            "--executor_input",
            dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER,
        ],
    )
