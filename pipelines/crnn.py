"""Reads handwritten words: a folder of word images becomes an endpoint that answers with their text.

Trains: a convolutional network over 32x128 images, with CTC, its hyperparameters searched first.
Takes: 4 to 6 minutes on 2 CPU cores for the sample of 10,000 words (settings/local.yaml).
Expect: on the sample, a character error rate of about 2 % on words of writers that training never saw.
Run: make run PIPELINE=crnn                    the sample, made first when it is missing
     make run PIPELINE=crnn DATA=<folder>      your own: `words.txt` and `words/`, or `words_metadata.csv`
"""

from kfp import dsl

import components
from pipelines import release, settings

BUILD = settings.build()
IMAGES = components.Images(BUILD.registry, system="crnn")
RELEASE = release.release("crnn", IMAGES)


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
    tune_budget: float,
    train_epochs: int,
    train_steps: int,
    seed: int,
    machine_type: str,
    accelerator_type: str,
    accelerator_count: int,
    tpu_topology: str,
    image_suffix: str,
    keras_backend: str,
    timeout: str,
    strategy: str,
    serving_machine_type: str,
    model_name: str,
    endpoint_name: str,
    highest_error: float,
    margin: float,
    slice_margin: float,
    level: float = 0.05,
    canary_share: int = 10,
    logged_share: float = 0.0,
    webhook: str = "",
    webhook_secret: str = "",
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
        tune_budget: device-hours of all trials together after which the search ends with the best so far; 0: no limit.
        train_epochs: passes over the training words in the final training, at most.
        train_steps: optimizer steps in the final training, at most.
        seed: of initial weights, shuffling and augmentation.
        machine_type: Compute Engine machine for trials and training.
        accelerator_type: for trials and training, such as `NVIDIA_TESLA_T4`; empty for none.
        accelerator_count: accelerators per machine; 0 for none.
        tpu_topology: of a machine with TPUs, such as `2x2`; empty for others.
        image_suffix: of the images for the accelerator: empty, `-gpu` or `-tpu`.
        keras_backend: for trials and training: `tensorflow`, or `jax`, which TPUs need.
        timeout: training ends after this long, such as `3600s`.
        strategy: `STANDARD`, or `SPOT` for machines that cost less and may be taken away.
        serving_machine_type: Compute Engine machine for the endpoint.
        model_name: display name in the Model Registry.
        endpoint_name: display name of the endpoint.
        highest_error: the error rate on the test examples up to which a model may serve.
        margin: by how much it may be above the error rate of the model that serves.
        slice_margin: the same on any guarded slice of the test examples.
        level: of the models that are worse by the margin, how many may pass.
        canary_share: percent of the endpoint's traffic that a new model gets at first.
        logged_share: of the endpoint's requests, from 0 to 1, that are logged.
        webhook: URL that failures and drift are posted to; empty: nowhere.
        webhook_secret: version of a secret in Secret Manager that goes with them; empty: the environment's.
    """
    notify = components.notify(IMAGES["notify"])(webhook=webhook, webhook_secret=webhook_secret)

    with dsl.ExitHandler(notify.set_caching_options(False)):
        data = release.snapshot("crnn", IMAGES, source)

        ingest = components.ingest("crnn", IMAGES["ingest"])(
            source=data,
            height=image_height,
            width=image_width,
            max_reject_share=max_reject_share,
        )
        examples = ingest.outputs["examples"]

        machine = {
            "machine_type": machine_type,
            "accelerator_type": accelerator_type,
            "accelerator_count": accelerator_count,
            "tpu_topology": tpu_topology,
            "image_suffix": image_suffix,
            "keras_backend": keras_backend,
        }
        tune = components.tune("crnn", IMAGES["tune"], trial_image=IMAGES["trial"])(
            examples=examples,
            max_trials=max_trials,
            parallel_trials=parallel_trials,
            trial_epochs=trial_epochs,
            trial_examples=trial_examples,
            tune_budget=tune_budget,
            seed=seed,
            strategy=strategy,
            **machine,
        )

        train = components.train("crnn", IMAGES["train"], replicas=BUILD.replicas)(
            examples=examples,
            hyperparameters=tune.outputs["hyperparameters"],
            epochs=train_epochs,
            steps=train_steps,
            seed=seed,
            timeout=timeout,
            strategy=strategy,
            **machine,
        ).set_retry(**components.RETRY)
        model = train.outputs["model"]

        evaluate = components.evaluate("crnn", IMAGES["evaluate"])(examples=examples, model=model)

        export = components.export("crnn", IMAGES["export"])(examples=examples, model=model)

        RELEASE(
            examples=examples,
            saved_model=export.outputs["saved_model"],
            smoke=export.outputs["smoke"],
            metrics=evaluate.outputs["metrics"],
            model_name=model_name,
            endpoint_name=endpoint_name,
            machine_type=serving_machine_type,
            highest_error=highest_error,
            margin=margin,
            slice_margin=slice_margin,
            level=level,
            canary_share=canary_share,
            logged_share=logged_share,
        )
