"""Deploy: a new version in the Model Registry, tried before it gets the endpoint's traffic."""

from google_cloud_pipeline_components import _placeholders as google
from google_cloud_pipeline_components.types.artifact_types import VertexEndpoint, VertexModel
from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output


def deploy(image: str, serving_image: str) -> dsl.base_component.BaseComponent:
    """Makes the deployment component.

    Args:
        image: the full name of the image it runs in.
        serving_image: the full name of the image that answers predictions.
    """

    @dsl.container_component
    def deploy(
        saved_model: Input[Model],
        smoke: Input[Dataset],
        metrics: Input[Metrics],
        model_name: str,
        endpoint_name: str,
        machine_type: str,
        model: Output[VertexModel],
        endpoint: Output[VertexEndpoint],
        predictions: Output[Artifact],
    ) -> dsl.ContainerSpec:
        """Moves an endpoint's traffic to a new version of a model once it answers as it did at export.

        Args:
            saved_model: what export wrote.
            smoke: what export wrote.
            metrics: what evaluate measured; noted on the model's version.
            model_name: display name in the Model Registry; a new version if there is one of this name.
            endpoint_name: display name of the endpoint; made if there is none.
            machine_type: Compute Engine machine that answers predictions.
            model: the version in the Model Registry.
            endpoint: the endpoint that serves it.
            predictions: JSON list of `{"truth", "answer", "confidence"}` that the deployed version gave.
        """
        return dsl.ContainerSpec(
            image=image,
            command=["python", "-m", "images.launcher.deploy"],
            args=[
                f"--project={google.PROJECT_ID_PLACEHOLDER}",
                f"--location={google.LOCATION_PLACEHOLDER}",
                f"--model_name={model_name}",
                f"--endpoint_name={endpoint_name}",
                f"--serving_image={serving_image}",
                f"--machine_type={machine_type}",
                f"--saved_model_uri={saved_model.uri}",
                f"--smoke={smoke.path}",
                f"--metrics={metrics.path}",
                f"--predictions={predictions.path}",
                "--executor_input",
                dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER,
            ],
        )

    return deploy
