"""Deploy: a new version in the Model Registry, and, if it may serve, a canary that becomes the champion."""

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
        verdict: Input[Metrics],
        champion: str,
        attempt: str,
        model_name: str,
        endpoint_name: str,
        machine_type: str,
        canary_share: int,
        logged_share: float,
        model: Output[VertexModel],
        endpoint: Output[VertexEndpoint],
        predictions: Output[Artifact],
        outcome: Output[Artifact],
    ) -> dsl.ContainerSpec:
        """Moves an endpoint's traffic to a challenger, first a share and then all, or leaves it where it is.

        Args:
            saved_model: what export wrote.
            smoke: what export wrote.
            metrics: what evaluate measured; noted on the model's version.
            verdict: what challenge decided.
            champion: the version that the verdict is about; empty if none served.
            attempt: this attempt at the release; another one is another deployment.
            model_name: display name in the Model Registry; a new version if there is one of this name.
            endpoint_name: display name of the endpoint; made if there is none.
            machine_type: Compute Engine machine that answers predictions.
            canary_share: percent of the traffic that the challenger gets at first; 1 to 99.
            logged_share: of the endpoint's requests, 0 to 1, that are logged.
            model: the version that serves now.
            endpoint: the endpoint that serves it.
            predictions: JSON list of `{"truth", "answer", "confidence"}` that the challenger gave when it was tried.
            outcome: `promoted`, `refused` or `withdrawn`, and the reason in one line.
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
                f"--canary_share={canary_share}",
                f"--logged_share={logged_share}",
                f"--saved_model_uri={saved_model.uri}",
                f"--smoke={smoke.path}",
                f"--metrics={metrics.path}",
                f"--verdict={verdict.path}",
                f"--champion={champion}",
                f"--attempt={attempt}",
                f"--predictions={predictions.path}",
                f"--outcome={outcome.path}",
                "--executor_input",
                dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER,
            ],
        )

    return deploy
