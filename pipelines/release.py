"""The release of a model, nested in every system's pipeline: only what is shown to be as good takes over.

champion looks at what serves now, every time; challenge holds the new model against it on the same test examples;
deploy gives it a share of the traffic, then all of it, or keeps it out.
"""

from typing import Any

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model

import components


def release(system: str, images: components.Images) -> dsl.base_component.BaseComponent:
    """Makes the nested pipeline of a system.

    Args:
        system: a folder of `images/trainer/systems`.
        images: of its stages.
    """

    @dsl.pipeline(name="release", description="Champion against challenger, then a canary, then all traffic.")
    def release(
        examples: Input[Dataset],
        saved_model: Input[Model],
        smoke: Input[Dataset],
        metrics: Input[Metrics],
        model_name: str,
        endpoint_name: str,
        machine_type: str,
        highest_error: float,
        margin: float,
        slice_margin: float,
        level: float,
        canary_share: int,
        logged_share: float,
    ) -> None:
        """The graph.

        Args:
            examples: what ingest wrote.
            saved_model: what export wrote.
            smoke: what export wrote.
            metrics: what evaluate measured.
            model_name: display name in the Model Registry.
            endpoint_name: display name of the endpoint.
            machine_type: Compute Engine machine for the endpoint.
            highest_error: the error rate that a model may have.
            margin: by how much the error rate may be above the champion's.
            slice_margin: the same on any guarded slice.
            level: of the challengers that are worse by the margin, how many may pass.
            canary_share: percent of the traffic that the challenger gets at first.
            logged_share: of the endpoint's requests, from 0 to 1, that are logged.
        """
        present = components.champion(images["champion"], serving_image=images["serve"])(
            saved_model=saved_model, model_name=model_name, endpoint_name=endpoint_name
        ).set_caching_options(False)

        serving = dsl.importer(artifact_uri=present.outputs["uri"], artifact_class=dsl.Model)
        serving.set_display_name("champion model")

        challenge = components.challenge(system, images["challenge"])(
            examples=examples,
            challenger=saved_model,
            champion_model=serving.output,
            champion=present.outputs["champion"],
            highest_error=highest_error,
            margin=margin,
            slice_margin=slice_margin,
            level=level,
        )

        components.deploy(images["deploy"], serving_image=images["serve"])(
            saved_model=saved_model,
            smoke=smoke,
            metrics=metrics,
            verdict=challenge.outputs["verdict"],
            champion=present.outputs["champion"],
            attempt=present.outputs["attempt"],
            model_name=model_name,
            endpoint_name=endpoint_name,
            machine_type=machine_type,
            canary_share=canary_share,
            logged_share=logged_share,
        )

    return release


def snapshot(system: str, images: components.Images, source: Any) -> Any:
    """The data that a run reads: a snapshot of the source, as the artifact `source`.

    Args:
        system: name of the pipeline.
        images: of its stages.
        source: gs:// folder.
    """
    taken = components.snapshot(system, images["snapshot"])(source=source).set_caching_options(False)
    data = dsl.importer(artifact_uri=taken.outputs["uri"], artifact_class=dsl.Artifact)
    return data.set_display_name("source").output
