"""Follow: a second Vertex CustomJob measures a training's epochs while it goes on, and keeps the best of them."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components.train import as_custom_job


def follow(system: str, image: str) -> dsl.base_component.BaseComponent:
    """Makes the component that follows the training of a system: a CustomJob on one machine.

    Args:
        system: a folder of `images/trainer/systems`.
        image: the full name of the image it runs in.

    Beside the inputs below, the component takes CustomJob's own, such as `timeout` and `strategy`.
    """

    @dsl.container_component
    def follow(
        examples: Input[Dataset],
        hyperparameters: Input[Artifact],
        checkpoints: str,
        patience: int,
        machine_type: str,
        accelerator_type: str,
        accelerator_count: int,
        model: Output[Model],
        evaluations: Output[Artifact],
        tpu_topology: str = "",
        image_suffix: str = "",
        keras_backend: str = "tensorflow",
    ) -> dsl.ContainerSpec:
        """Measures every epoch on the validation split, as soon as it is there.

        Args:
            examples: what ingest wrote; only `validation/` is read.
            hyperparameters: JSON that the training has too.
            checkpoints: the folder that `place` chose.
            patience: seconds without anything new after which the training is given up.
            machine_type: Compute Engine machine.
            accelerator_type: such as `NVIDIA_TESLA_T4`; empty for none.
            accelerator_count: per machine; 0 for none.
            model: what train writes, with the weights of the best epoch; scores and pictures in `logs/`.
            evaluations: CSV, a row an epoch.
            tpu_topology: such as `2x2`, of machines with TPUs; empty for others.
            image_suffix: of the image for this accelerator: empty or `-gpu`.
            keras_backend: `tensorflow`.
        """
        return dsl.ContainerSpec(
            image=image,
            command=["python", "-m", "images.trainer.follow"],
            args=[
                f"--system={system}",
                f"--examples={examples.path}",
                f"--hyperparameters={hyperparameters.path}",
                f"--checkpoints={checkpoints}",
                f"--patience={patience}",
                f"--model={model.path}",
                f"--evaluations={evaluations.path}",
                "--executor_input",
                dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER,
            ],
        )

    return as_custom_job(follow, f"{system}-follow")
