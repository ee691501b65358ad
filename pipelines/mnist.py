"""Reads handwritten digits: MNIST's files become an endpoint that answers with a digit and its probabilities.

Trains: a small residual network over 28x28 images, its hyperparameters searched first; and beside it the network of
    the classic tutorial for its 10,000 steps, to see what has been gained since.
Takes: 3 to 4 minutes on 2 CPU cores for the sample of 1,797 digits (settings/local.yaml).
Expect: on all of MNIST an accuracy of 99.6 % after 4,320 steps; on the sample, whose digits were 8x8 pixels, 97 %.
Run: make run PIPELINE=mnist                   the sample, made first when it is missing
     make run PIPELINE=mnist DATA=<folder>     your own: IDX files, the classic TFRecords, or `<digit>/*.png`
"""

from kfp import dsl

import components
from pipelines import settings

BUILD = settings.build()


@dsl.pipeline(
    name="mnist", description="From a folder of handwritten digits to a deployed endpoint that reads a digit."
)
def mnist(
    source: str,
    max_reject_share: float,
    max_trials: int,
    parallel_trials: int,
    trial_epochs: int,
    trial_examples: int,
    train_epochs: int,
    train_steps: int,
    classic_steps: int,
    seed: int,
    machine_type: str,
    accelerator_type: str,
    accelerator_count: int,
    timeout: str,
    strategy: str,
    serving_machine_type: str,
    model_name: str,
    endpoint_name: str,
) -> None:
    """The graph.

    Args:
        source: gs:// folder with the digits, loose or as `source.tar`.
        max_reject_share: stop if more than this share of the digits cannot be used; from 0 to 1.
        max_trials: sets of hyperparameters to try.
        parallel_trials: how many of them at a time.
        trial_epochs: passes over the training digits in a trial that is not stopped early.
        trial_examples: training digits that a trial sees, at most.
        train_epochs: passes over the training digits in the final training, at most.
        train_steps: optimizer steps in the final training, at most.
        classic_steps: optimizer steps of the classic network, at most.
        seed: of initial weights, shuffling and augmentation.
        machine_type: Compute Engine machine for trials and training.
        accelerator_type: for trials and training, such as `NVIDIA_TESLA_T4`; empty for none.
        accelerator_count: accelerators per machine; 0 for none.
        timeout: training ends after this long, such as `3600s`.
        strategy: `STANDARD`, or `SPOT` for machines that cost less and may be taken away.
        serving_machine_type: Compute Engine machine for the endpoint.
        model_name: display name in the Model Registry.
        endpoint_name: display name of the endpoint.
    """
    images = components.Images(BUILD.registry, system="mnist")

    data = dsl.importer(artifact_uri=source, artifact_class=dsl.Artifact).set_display_name("source")

    ingest = components.ingest("mnist", images["ingest"])(
        source=data.output,
        max_reject_share=max_reject_share,
    )
    examples = ingest.outputs["examples"]

    tune = components.tune("mnist", images["tune"], trial_image=images["trial"])(
        examples=examples,
        max_trials=max_trials,
        parallel_trials=parallel_trials,
        trial_epochs=trial_epochs,
        trial_examples=trial_examples,
        seed=seed,
        machine_type=machine_type,
        accelerator_type=accelerator_type,
        accelerator_count=accelerator_count,
        strategy=strategy,
    )

    train = components.train("mnist", images["train"], replicas=BUILD.replicas)
    machine = {
        "seed": seed,
        "machine_type": machine_type,
        "accelerator_type": accelerator_type,
        "accelerator_count": accelerator_count,
        "timeout": timeout,
        "strategy": strategy,
    }

    tuned = train(
        examples=examples,
        hyperparameters=tune.outputs["hyperparameters"],
        epochs=train_epochs,
        steps=train_steps,
        **machine,
    )
    model = tuned.set_retry(**components.RETRY).outputs["model"]

    preset = components.preset("mnist", images["preset"])(name="classic")
    classic = train(
        examples=examples,
        hyperparameters=preset.outputs["hyperparameters"],
        epochs=train_epochs,
        steps=classic_steps,
        **machine,
    )
    classic.set_retry(**components.RETRY).set_display_name("train the classic network")

    prices = settings.prices().model_dump_json()
    evaluate = components.evaluate_classifier("mnist", images["evaluate"], prices)(
        examples=examples, model=model, baseline=classic.outputs["model"]
    )

    export = components.export("mnist", images["export"])(examples=examples, model=model)

    components.deploy(images["deploy"], serving_image=images["serve"])(
        saved_model=export.outputs["saved_model"],
        smoke=export.outputs["smoke"],
        metrics=evaluate.outputs["metrics"],
        model_name=model_name,
        endpoint_name=endpoint_name,
        machine_type=serving_machine_type,
    )
