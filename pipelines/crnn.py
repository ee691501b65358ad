"""Reads handwritten words: a folder of word images becomes an endpoint that answers with their text.

Trains: a convolutional network over 32x128 images, with CTC, its hyperparameters searched first.
Takes: 4 to 5 minutes on 2 CPU cores for the sample of 10,000 words (settings/local.yaml).
Expect: on the sample, a character error rate of about 2 % on words of writers that training never saw.
Run: make run PIPELINE=crnn                    the sample, made first when it is missing
     make run PIPELINE=crnn DATA=<folder>      your own: `words.txt` and `words/`, or `words_metadata.csv`
"""

from kfp import dsl

import components
from pipelines import settings

BUILD = settings.build()


@dsl.pipeline(name="crnn", description="From a folder of handwritten words to a deployed endpoint that reads a word.")
def crnn(
    source: str,
    image_height: int,
    image_width: int,
    max_reject_share: float,
    max_trials: int,
    parallel_trials: int,
    trial_epochs: int,
    trial_examples: int,
    train_epochs: int,
    train_steps: int,
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
        source: gs:// folder with the words, loose or as `source.tar`.
        image_height: of the images that the network sees, in pixels.
        image_width: of the images that the network sees, in pixels.
        max_reject_share: stop if more than this share of the words cannot be used; from 0 to 1.
        max_trials: sets of hyperparameters to try.
        parallel_trials: how many of them at a time.
        trial_epochs: passes over the training words in a trial that is not stopped early.
        trial_examples: training words that a trial sees, at most.
        train_epochs: passes over the training words in the final training, at most.
        train_steps: optimizer steps in the final training, at most.
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
    images = components.Images(BUILD.registry, system="crnn")

    data = dsl.importer(artifact_uri=source, artifact_class=dsl.Artifact).set_display_name("source")

    ingest = components.ingest("crnn", images["ingest"])(
        source=data.output,
        height=image_height,
        width=image_width,
        max_reject_share=max_reject_share,
    )
    examples = ingest.outputs["examples"]

    tune = components.tune("crnn", images["tune"], trial_image=images["trial"])(
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

    train = components.train("crnn", images["train"], replicas=BUILD.replicas)(
        examples=examples,
        hyperparameters=tune.outputs["hyperparameters"],
        epochs=train_epochs,
        steps=train_steps,
        seed=seed,
        machine_type=machine_type,
        accelerator_type=accelerator_type,
        accelerator_count=accelerator_count,
        timeout=timeout,
        strategy=strategy,
    ).set_retry(**components.RETRY)
    model = train.outputs["model"]

    evaluate = components.evaluate("crnn", images["evaluate"])(examples=examples, model=model)

    export = components.export("crnn", images["export"])(examples=examples, model=model)

    components.deploy(images["deploy"], serving_image=images["serve"])(
        saved_model=export.outputs["saved_model"],
        smoke=export.outputs["smoke"],
        metrics=evaluate.outputs["metrics"],
        model_name=model_name,
        endpoint_name=endpoint_name,
        machine_type=serving_machine_type,
    )
