"""Ingest: a folder of raw data becomes TFRecords, split, with a schema and the list of what was left out."""

from typing import Optional

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output


def ingest(system: str, image: str) -> dsl.base_component.BaseComponent:
    """Makes the ingest component of a system.

    Args:
        system: a folder of `images/trainer/systems`.
        image: the full name of the image it runs in.
    """

    @dsl.container_component
    def ingest(
        source: Input[Artifact],
        max_reject_share: float,
        examples: Output[Dataset],
        height: Optional[int] = None,  # noqa: UP045 - kfp reads no other form
        width: Optional[int] = None,  # noqa: UP045 - kfp reads no other form
        faces_only: Optional[str] = None,  # noqa: UP045 - kfp reads no other form
    ) -> dsl.ContainerSpec:
        """Reads raw data in its public format, rejects what cannot be used, splits the rest into TFRecords.

        Args:
            source: a folder in the system's format, or one that holds it as `source.tar`.
            max_reject_share: the stage fails if more than this share of the inputs is rejected; from 0 to 1.
            examples: `train/`, `validation/`, `test/`, `schema.json`, `rejects.csv`, `samples.jsonl`.
            height: of the images that the network sees, in pixels; left out where it is no choice.
            width: of the images that the network sees, in pixels; left out where it is no choice.
            faces_only: `true` or `false`: of pets the boxes of faces, or of the whole animals; left out elsewhere.
        """
        return dsl.ContainerSpec(
            image=image,
            command=["python", "-m", "images.trainer.ingest"],
            args=[
                f"--system={system}",
                f"--source={source.path}",
                f"--examples={examples.path}",
                dsl.IfPresentPlaceholder("height", f"--height={height}"),
                dsl.IfPresentPlaceholder("width", f"--width={width}"),
                dsl.IfPresentPlaceholder("faces_only", f"--faces_only={faces_only}"),
                f"--max_reject_share={max_reject_share}",
                "--executor_input",
                dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER,
            ],
        )

    return ingest
