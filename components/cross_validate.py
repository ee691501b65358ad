"""Cross-validate: one fold of a small table, learned by the network and by the baselines beside it."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, OutputPath


def cross_validate(system: str, image: str) -> dsl.base_component.BaseComponent:
    """Makes the cross-validation component of a system of tables.

    Args:
        system: a folder of `images/trainer/systems`.
        image: the full name of the image it runs in.
    """

    @dsl.container_component
    def cross_validate(
        examples: Input[Dataset],
        hyperparameters: Input[Artifact],
        fold: int,
        folds: int,
        seeds: int,
        epochs: int,
        scores: OutputPath(list),  # type: ignore[valid-type]
    ) -> dsl.ContainerSpec:
        """Trains on all folds but one, and answers that one.

        Args:
            examples: what ingest wrote; rows of all splits take part.
            hyperparameters: JSON that tune wrote.
            fold: which fold is answered, from 0.
            folds: how many there are.
            seeds: how often the rows are divided anew.
            epochs: passes over the training rows.
            scores: right answers by model and seed.
        """
        return dsl.ContainerSpec(
            image=image,
            command=["python", "-m", "images.trainer.cross_validate"],
            args=[
                f"--system={system}",
                f"--examples={examples.path}",
                f"--hyperparameters={hyperparameters.path}",
                f"--fold={fold}",
                f"--folds={folds}",
                f"--seeds={seeds}",
                f"--epochs={epochs}",
                f"--scores={scores}",
            ],
        )

    return cross_validate
