"""Compare: the folds of a cross-validation together, and whether the network earns its place."""

from typing import Any

from kfp import dsl
from kfp.dsl import HTML, Metrics, Output


def compare(image: str) -> dsl.base_component.BaseComponent:
    """Makes the comparison component.

    Args:
        image: the full name of the image it runs in.
    """

    @dsl.container_component
    def compare(scores: list[Any], metrics: Output[Metrics], report: Output[HTML]) -> dsl.ContainerSpec:
        """Puts the folds together.

        Args:
            scores: what cross-validate wrote, of every fold.
            metrics: mean accuracy of the network and of each baseline, with intervals, and the network's lead.
            report: the same as one page, fold by fold.
        """
        return dsl.ContainerSpec(
            image=image,
            command=["python", "-m", "images.trainer.compare"],
            args=[
                f"--scores={scores}",
                f"--metrics={metrics.path}",
                f"--report={report.path}",
                "--executor_input",
                dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER,
            ],
        )

    return compare
