"""Preset: known hyperparameters by name, where a pipeline trains without tuning, or beside it."""

from kfp import dsl
from kfp.dsl import Artifact, Output


def preset(system: str, image: str) -> dsl.base_component.BaseComponent:
    """Makes the preset component of a system.

    Args:
        system: a folder of `images/trainer/systems`.
        image: the full name of the image it runs in.
    """

    @dsl.container_component
    def preset(name: str, hyperparameters: Output[Artifact]) -> dsl.ContainerSpec:
        """Writes a preset in the form that tune writes.

        Args:
            name: of the system's presets.
            hyperparameters: JSON.
        """
        return dsl.ContainerSpec(
            image=image,
            command=["python", "-m", "images.trainer.preset"],
            args=[
                f"--system={system}",
                f"--name={name}",
                f"--hyperparameters={hyperparameters.path}",
                "--executor_input",
                dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER,
            ],
        )

    return preset
