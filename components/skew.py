"""Skew: how far new data has drifted from what a network was trained on."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Output


def skew(system: str, image: str) -> dsl.base_component.BaseComponent:
    """Makes the skew component of a system.

    Args:
        system: a folder of `images/trainer/systems`.
        image: the full name of the image it runs in.
    """

    @dsl.container_component
    def skew(
        examples: Input[Dataset],
        data: Input[Artifact],
        threshold: float,
        metrics: Output[Metrics],
        report: Output[HTML],
    ) -> dsl.ContainerSpec:
        """Compares new data with the training examples; it succeeds whatever comes out.

        Args:
            examples: what ingest wrote; its `schema.json` has the training examples' statistics.
            data: folder of logged requests as JSON lines; of a table also CSV.
            threshold: the Jensen-Shannon distance, from 0 to 1, up to which a feature passes.
            metrics: `passed`, and of each feature its distance, missing share and share outside the training examples.
            report: the same as one page, bin by bin.
        """
        return dsl.ContainerSpec(
            image=image,
            command=["python", "-m", "images.trainer.skew"],
            args=[
                f"--system={system}",
                f"--examples={examples.path}",
                f"--data={data.path}",
                f"--threshold={threshold}",
                f"--metrics={metrics.path}",
                f"--report={report.path}",
                "--executor_input",
                dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER,
            ],
        )

    return skew
