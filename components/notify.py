"""Notify: what went wrong, written down and posted; the step that every pipeline ends with."""

from google_cloud_pipeline_components import _placeholders as google
from kfp import dsl
from kfp.dsl import Artifact, Output


def notify(image: str) -> dsl.base_component.BaseComponent:
    """Makes the component for `dsl.ExitHandler`.

    Args:
        image: the full name of the image it runs in.
    """

    @dsl.container_component
    def notify(
        status: dsl.PipelineTaskFinalStatus,
        webhook: str,
        webhook_secret: str,
        record: Output[Artifact],
    ) -> dsl.ContainerSpec:
        """Writes a record of a failure or of drift, and posts it.

        Args:
            status: how the tasks before it ended.
            webhook: URL to post the record to; empty: nowhere.
            webhook_secret: version of a secret in Secret Manager; empty: the environment's `WEBHOOK_SECRET`.
            record: JSON: the task, its message, the last lines of its log, the command to look further.
        """
        return dsl.ContainerSpec(
            image=image,
            command=["python", "-m", "images.launcher.notify"],
            args=[
                f"--project={google.PROJECT_ID_PLACEHOLDER}",
                f"--location={google.LOCATION_PLACEHOLDER}",
                f"--status={status}",
                f"--webhook={webhook}",
                f"--webhook_secret={webhook_secret}",
                f"--record={record.path}",
                "--executor_input",
                dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER,
            ],
        )

    return notify
