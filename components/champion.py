"""Champion: what an endpoint serves now; the one step of a release that no cache may answer for."""

from google_cloud_pipeline_components import _placeholders as google
from kfp import dsl
from kfp.dsl import Input, Model, OutputPath


def champion(image: str, serving_image: str) -> dsl.base_component.BaseComponent:
    """Makes the component that looks at an endpoint.

    Args:
        image: the full name of the image it runs in.
        serving_image: the full name of the image that answers predictions.
    """

    @dsl.container_component
    def champion(
        saved_model: Input[Model],
        model_name: str,
        endpoint_name: str,
        champion: OutputPath(str),  # type: ignore[valid-type]
        uri: OutputPath(str),  # type: ignore[valid-type]
        attempt: OutputPath(str),  # type: ignore[valid-type]
    ) -> dsl.ContainerSpec:
        """Finds what a challenger is to be compared with; changes nothing.

        Args:
            saved_model: the challenger, that export wrote.
            model_name: display name in the Model Registry.
            endpoint_name: display name of the endpoint.
            champion: number of the version that serves; empty if none does.
            uri: gs:// folder of its SavedModel; the challenger's if none serves.
            attempt: the same as before as long as the endpoint is what that attempt left; else a new one.
        """
        return dsl.ContainerSpec(
            image=image,
            command=["python", "-m", "images.launcher.champion"],
            args=[
                f"--project={google.PROJECT_ID_PLACEHOLDER}",
                f"--location={google.LOCATION_PLACEHOLDER}",
                f"--model_name={model_name}",
                f"--endpoint_name={endpoint_name}",
                f"--saved_model_uri={saved_model.uri}",
                f"--serving_image={serving_image}",
                f"--champion={champion}",
                f"--uri={uri}",
                f"--attempt={attempt}",
            ],
        )

    return champion
