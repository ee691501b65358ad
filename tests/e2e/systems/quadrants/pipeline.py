"""Tells the quadrants of a plane apart: the smallest pipeline, and no system of the repository's own.

Trains: one hidden layer, of a preset size.
Takes: a minute.
Expect: an accuracy above 90 %.
Run: make run PIPELINE=quadrants
"""

from kfp import dsl

import components
from pipelines import release, settings

BUILD = settings.build()
IMAGES = components.Images(BUILD.registry, system="quadrants")
RELEASE = release.release("quadrants", IMAGES)


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
    highest_error: float,
    margin: float,
    slice_margin: float,
) -> None:
    """The graph."""
    data = release.snapshot("quadrants", IMAGES, source)
    ingest = components.ingest("quadrants", IMAGES["ingest"])(source=data, max_reject_share=max_reject_share)
    examples = ingest.outputs["examples"]
    preset = components.preset("quadrants", IMAGES["preset"])(name="small")
    train = components.train("quadrants", IMAGES["train"], replicas=BUILD.replicas)(
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
    evaluate = components.evaluate_classifier("quadrants", IMAGES["evaluate"])(examples=examples, model=model)
    export = components.export("quadrants", IMAGES["export"])(examples=examples, model=model)
    RELEASE(
        examples=examples,
        saved_model=export.outputs["saved_model"],
        smoke=export.outputs["smoke"],
        metrics=evaluate.outputs["metrics"],
        model_name=model_name,
        endpoint_name=endpoint_name,
        machine_type=machine_type,
        highest_error=highest_error,
        margin=margin,
        slice_margin=slice_margin,
        level=0.05,
        canary_share=10,
        logged_share=0.0,
    )
