"""Accelerators: the same training on two of them, compared in time, cost and answers."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input, Metrics, Model, Output


def accelerators(system: str, image: str, prices: str) -> dsl.base_component.BaseComponent:
    """Makes the comparison component of a system whose answer is one of a few classes.

    Args:
        system: a folder of `images/trainer/systems`.
        image: the full name of the image it runs in.
        prices: JSON of what machines cost: `machines`, `accelerators`, `date`, `source`.
    """

    @dsl.container_component
    def accelerators(
        examples: Input[Dataset],
        first: Input[Model],
        second: Input[Model],
        metrics: Output[Metrics],
        report: Output[HTML],
    ) -> dsl.ContainerSpec:
        """Asks both models about the test split.

        Args:
            examples: what ingest wrote; only `test/` is read.
            first: what train wrote on one accelerator.
            second: what train wrote on the other, of the same hyperparameters.
            metrics: `same_answer`, `probability_difference`, `speed_up`, and `cost_ratio` where the prices are known.
            report: time, cost and scores side by side, as one page.
        """
        return dsl.ContainerSpec(
            image=image,
            command=["python", "-m", "images.trainer.accelerators"],
            args=[
                f"--system={system}",
                f"--examples={examples.path}",
                f"--first={first.path}",
                f"--second={second.path}",
                f"--prices={prices}",
                f"--metrics={metrics.path}",
                f"--report={report.path}",
                "--executor_input",
                dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER,
            ],
        )

    return accelerators
