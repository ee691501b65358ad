"""Snapshot: a source that may grow in place, under a name that is its content."""

from google_cloud_pipeline_components import _placeholders as google
from kfp import dsl
from kfp.dsl import Artifact, Output, OutputPath


def snapshot(pipeline: str, image: str) -> dsl.base_component.BaseComponent:
    """Makes the component that every pipeline begins with; no cache may answer for it.

    Args:
        pipeline: its name.
        image: the full name of the image it runs in.
    """

    @dsl.container_component
    def snapshot(
        source: str,
        uri: OutputPath(str),  # type: ignore[valid-type]
        record: Output[Artifact],
    ) -> dsl.ContainerSpec:
        """Lists the source, and copies it unless the same content is there already.

        Args:
            source: gs:// folder with the data.
            uri: gs:// folder named by its content; an importer makes the artifact of it, the same for the same URI.
            record: what was found, and since which run it is unchanged.
        """
        return dsl.ContainerSpec(
            image=image,
            command=["python", "-m", "images.launcher.snapshot"],
            args=[
                f"--project={google.PROJECT_ID_PLACEHOLDER}",
                f"--location={google.LOCATION_PLACEHOLDER}",
                f"--pipeline={pipeline}",
                f"--source={source}",
                f"--root={dsl.PIPELINE_ROOT_PLACEHOLDER}",
                f"--uri={uri}",
                f"--record={record.path}",
                "--executor_input",
                dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER,
            ],
        )

    return snapshot
