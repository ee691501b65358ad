"""Requests: what an endpoint was asked, and what its model was trained on."""

from google_cloud_pipeline_components import _placeholders as google
from kfp import dsl
from kfp.dsl import Dataset, Output, OutputPath


def requests_log(image: str) -> dsl.base_component.BaseComponent:
    """Makes the component that a monitor begins with; no cache may answer for it.

    Args:
        image: the full name of the image it runs in.
    """

    @dsl.container_component
    def requests(
        endpoint_name: str,
        most: int,
        requests: Output[Dataset],
        examples: Output[Dataset],
        count: OutputPath(int),  # type: ignore[valid-type]
    ) -> dsl.ContainerSpec:
        """Reads the endpoint's log.

        Args:
            endpoint_name: display name of the endpoint.
            most: requests, the latest ones.
            requests: `requests.jsonl`, an instance with its prediction a line.
            examples: `schema.json` of the examples that the model which serves was trained on.
            count: how many instances there are; 0 where nothing is logged.
        """
        return dsl.ContainerSpec(
            image=image,
            command=["python", "-m", "images.launcher.requests_log"],
            args=[
                f"--project={google.PROJECT_ID_PLACEHOLDER}",
                f"--location={google.LOCATION_PLACEHOLDER}",
                f"--endpoint_name={endpoint_name}",
                f"--most={most}",
                f"--requests={requests.path}",
                f"--examples={examples.path}",
                f"--count={count}",
                "--executor_input",
                dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER,
            ],
        )

    return requests
