"""Export: the trained network as a SavedModel that takes a file's bytes and gives an answer."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output


def export(system: str, image: str) -> dsl.base_component.BaseComponent:
    """Makes the export component of a system.

    Args:
        system: a folder of `images/trainer/systems`.
        image: the full name of the image it runs in.
    """

    @dsl.container_component
    def export(
        examples: Input[Dataset],
        model: Input[Model],
        saved_model: Output[Model],
        smoke: Output[Dataset],
    ) -> dsl.ContainerSpec:
        """Puts pre- and post-processing into the graph, and notes what it answers to some test inputs.

        Args:
            examples: what ingest wrote; `samples.jsonl` is read.
            model: what train wrote.
            saved_model: TensorFlow SavedModel.
            smoke: `smoke.jsonl`: test inputs, the truth, and the answers that the SavedModel gave here.
        """
        return dsl.ContainerSpec(
            image=image,
            command=["python", "-m", "images.trainer.export"],
            args=[
                f"--system={system}",
                f"--examples={examples.path}",
                f"--model={model.path}",
                f"--saved_model={saved_model.path}",
                f"--smoke={smoke.path}",
                "--executor_input",
                dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER,
            ],
        )

    return export
