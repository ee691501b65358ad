"""Challenge: a new model against the one that serves, on the same test examples."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input, Metrics, Model, Output


def challenge(system: str, image: str) -> dsl.base_component.BaseComponent:
    """Makes the comparison of a release.

    Args:
        system: a folder of `images/trainer/systems`.
        image: the full name of the image it runs in.
    """

    @dsl.container_component
    def challenge(
        examples: Input[Dataset],
        challenger: Input[Model],
        champion_model: Input[Model],
        champion: str,
        highest_error: float,
        margin: float,
        slice_margin: float,
        level: float,
        verdict: Output[Metrics],
        report: Output[HTML],
    ) -> dsl.ContainerSpec:
        """Decides whether a challenger may take the champion's place; it succeeds whatever comes out.

        Args:
            examples: what ingest wrote; only `test/` is read.
            challenger: the new SavedModel.
            champion_model: the SavedModel that serves.
            champion: its version; empty: none serves, and only the highest error counts.
            highest_error: the error rate that a model may have.
            margin: by how much the challenger's error rate may be above the champion's.
            slice_margin: the same on any guarded slice.
            level: of the challengers that are worse by the margin, how many may pass; from 0 to 0.5.
            verdict: `passed` and `reason` in the file; the error rates, their difference and its bound.
            report: the same as one page, with the bootstrap's distribution and the slices.
        """
        return dsl.ContainerSpec(
            image=image,
            command=["python", "-m", "images.trainer.challenge"],
            args=[
                f"--system={system}",
                f"--examples={examples.path}",
                f"--challenger={challenger.path}",
                f"--champion_model={champion_model.path}",
                f"--champion={champion}",
                f"--highest_error={highest_error}",
                f"--margin={margin}",
                f"--slice_margin={slice_margin}",
                f"--level={level}",
                f"--verdict={verdict.path}",
                f"--report={report.path}",
                "--executor_input",
                dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER,
            ],
        )

    return challenge
