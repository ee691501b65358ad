"""Place: the folder of a training's checkpoints, known before the training begins."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output


def place(image: str, trainer: str) -> dsl.base_component.BaseComponent:
    """Makes the component that says where a training will be found.

    Args:
        image: the full name of the image it runs in.
        trainer: the full name of the image that trains.
    """

    @dsl.container_component
    def place(
        examples: Input[Dataset],
        hyperparameters: Input[Artifact],
        epochs: int,
        steps: int,
        seed: int,
        machine_type: str,
        accelerator_type: str,
        accelerator_count: int,
        tpu_topology: str,
        image_suffix: str,
        keras_backend: str,
        mark: Output[Artifact],
        folder: dsl.OutputPath(str),  # type: ignore[valid-type]
    ) -> dsl.ContainerSpec:
        """Names the folder of checkpoints for a training and those who follow it.

        It has the inputs of the training, so that it is taken from the cache when the training is, and the folder is
        then where that training's checkpoints are.

        Args:
            examples: what ingest wrote.
            hyperparameters: JSON that tune wrote.
            epochs: passes over the training examples, at most.
            steps: optimizer steps, at most.
            seed: of initial weights, shuffling and augmentation.
            machine_type: Compute Engine machine to train on.
            accelerator_type: such as `NVIDIA_TESLA_T4`; empty for none.
            accelerator_count: per machine; 0 for none.
            tpu_topology: such as `2x2`, of machines with TPUs; empty for others.
            image_suffix: of the training's image for this accelerator: empty, `-gpu` or `-tpu`.
            keras_backend: of the training, `tensorflow` or `jax`.
            mark: a file whose place tells the run's own folder.
            folder: `checkpoints` in the run's own folder.
        """
        return dsl.ContainerSpec(
            image=image,
            command=["python", "-m", "images.trainer.place"],
            args=[
                f"--training={trainer}",
                f"--mark={mark.path}",
                "--folder",
                folder,
                "--executor_input",
                dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER,
            ],
        )

    return place
