"""Reads handwritten digits: MNIST's files become an endpoint that answers with a digit and its probabilities.

Trains: a small residual network over 28x28 images, its hyperparameters searched first; and beside it the network of
    the classic tutorial for its 10,000 steps, to see what has been gained since.
Takes: 2 to 3 minutes on 2 CPU cores for the sample of 1,797 digits (settings/local.yaml).
Expect: on all of MNIST an accuracy of 99.5 % after 6,000 steps, in 12 minutes that are those of the classic network; on
    the sample, whose digits were 8x8 pixels, 96 %.
Run: make run PIPELINE=mnist                   the sample, made first when it is missing
     make run PIPELINE=mnist DATA=<folder>     your own: IDX files, the classic TFRecords, or `<digit>/*.png`
"""

from kfp import dsl

import components
from pipelines import release, settings

BUILD = settings.build()
IMAGES = components.Images(BUILD.registry, system="mnist")
RELEASE = release.release("mnist", IMAGES)


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
    tune_budget: float,
    train_epochs: int,
    train_steps: int,
    classic_steps: int,
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
        source: gs:// folder with the digits, loose or as `source.tar`.
        max_reject_share: stop if more than this share of the digits cannot be used; from 0 to 1.
        max_trials: sets of hyperparameters to try.
        parallel_trials: how many of them at a time.
        trial_epochs: passes over the training digits in a trial that is not stopped early.
        trial_examples: training digits that a trial sees, at most.
        tune_budget: device-hours of all trials together after which the search ends with the best so far; 0: no limit.
        train_epochs: passes over the training digits in the final training, at most.
        train_steps: optimizer steps in the final training, at most.
        classic_steps: optimizer steps of the classic network, at most.
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
        data = release.snapshot("mnist", IMAGES, source)

        ingest = components.ingest("mnist", IMAGES["ingest"])(
            source=data,
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
        tune = components.tune("mnist", IMAGES["tune"], trial_image=IMAGES["trial"])(
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

        train = components.train("mnist", IMAGES["train"], replicas=BUILD.replicas)
        same = {"examples": examples, "seed": seed, "timeout": timeout, "strategy": strategy, **machine}

        tuned = train(
            hyperparameters=tune.outputs["hyperparameters"],
            epochs=train_epochs,
            steps=train_steps,
            **same,
        )
        model = tuned.set_retry(**components.RETRY).outputs["model"]

        preset = components.preset("mnist", IMAGES["preset"])(name="classic")
        classic = train(
            hyperparameters=preset.outputs["hyperparameters"],
            epochs=train_epochs,
            steps=classic_steps,
            **same,
        )
        classic.set_retry(**components.RETRY).set_display_name("train the classic network")

        prices = settings.prices().model_dump_json()
        evaluate = components.evaluate_classifier("mnist", IMAGES["evaluate"], prices)(
            examples=examples, model=model, baseline=classic.outputs["model"]
        )

        export = components.export("mnist", IMAGES["export"])(examples=examples, model=model)

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
