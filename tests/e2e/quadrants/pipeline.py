"""Tells the quadrants of a plane apart: the smallest pipeline, and no system of the repository's own.

Trains: one hidden layer, of a preset size.
Takes: a minute.
Expect: an accuracy above 90 %.
Run: make run PIPELINE=quadrants
"""

from kfp import dsl

import components
from pipelines import settings

BUILD = settings.build()


@dsl.pipeline(name="quadrants", description="From a CSV of points to an endpoint that names the quadrant.")
def quadrants(
    source: str,
    max_reject_share: float,
    train_epochs: int,
    train_steps: int,
    seed: int,
    machine_type: str,
    model_name: str,
    endpoint_name: str,
) -> None:
    """The graph."""
    images = components.Images(BUILD.registry, system="quadrants")
    data = dsl.importer(artifact_uri=source, artifact_class=dsl.Artifact).set_display_name("source")
    ingest = components.ingest("quadrants", images["ingest"])(source=data.output, max_reject_share=max_reject_share)
    examples = ingest.outputs["examples"]
    preset = components.preset("quadrants", images["preset"])(name="small")
    train = components.train("quadrants", images["train"], replicas=BUILD.replicas)(
        examples=examples,
        hyperparameters=preset.outputs["hyperparameters"],
        epochs=train_epochs,
        steps=train_steps,
        seed=seed,
        machine_type=machine_type,
        accelerator_type="",
        accelerator_count=0,
    )
    model = train.outputs["model"]
    evaluate = components.evaluate_classifier("quadrants", images["evaluate"])(examples=examples, model=model)
    export = components.export("quadrants", images["export"])(examples=examples, model=model)
    components.deploy(images["deploy"], serving_image=images["serve"])(
        saved_model=export.outputs["saved_model"],
        smoke=export.outputs["smoke"],
        metrics=evaluate.outputs["metrics"],
        model_name=model_name,
        endpoint_name=endpoint_name,
        machine_type=machine_type,
    )
