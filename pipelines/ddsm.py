"""Reads the density of the breast: mammograms become an endpoint that answers with one of four classes.

Trains: a compact residual network over 95x128 greys, its hyperparameters searched first; and beside it the network of
    the NUS-MIT datathon's tutorial, for as many multiplications, to see what has been gained since.
Takes: about 4 minutes on 2 CPU cores for the sample of 1,440 synthetic phantoms (settings/local.yaml).
Expect: on the sample a balanced accuracy and a quadratic-weighted kappa above 0.9, which say that the machinery works
    and nothing about mammograms.
Run: make run PIPELINE=ddsm                         the sample, made first when it is missing
     make run PIPELINE=ddsm DATA=<folder>           your own: CBIS-DDSM's CSVs beside PNG or DICOM files,
                                                    `<density>_<name>.png`, or the tutorial's TFRecords
     make run PIPELINE=ddsm ACCELERATOR=tpu         train on another accelerator (settings/accelerators.yaml)
     make run PIPELINE=ddsm ACCELERATOR=gpu,tpu     train on two side by side, and compare time, cost and answers
"""

from kfp import dsl

import components
from pipelines import release, settings

BUILD = settings.build()
IMAGES = components.Images(BUILD.registry, system="ddsm")
RELEASE = release.release("ddsm", IMAGES)


@dsl.pipeline(name="ddsm", description="From a folder of mammograms to a deployed endpoint that reads their density.")
def ddsm(
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
    tutorial_steps: int,
    initial_weights: str,
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
    second_machine_type: str = "",
    second_accelerator_type: str = "",
    second_accelerator_count: int = 0,
    second_tpu_topology: str = "",
    second_image_suffix: str = "",
    second_keras_backend: str = "tensorflow",
) -> None:
    """The graph.

    Args:
        source: gs:// folder with the mammograms, loose or as `source.tar`.
        image_height: of the network's image, in pixels.
        image_width: of the network's image, in pixels.
        max_reject_share: stop if more than this share of the mammograms cannot be used; from 0 to 1.
        max_trials: sets of hyperparameters to try.
        parallel_trials: how many of them at a time.
        trial_epochs: passes over the training mammograms in a trial that is not stopped early.
        trial_examples: training mammograms that a trial sees, at most.
        tune_budget: device-hours of all trials together after which the search ends with the best so far; 0: no limit.
        train_epochs: passes over the training mammograms in the final training, at most.
        train_steps: optimizer steps in the final training, at most.
        tutorial_steps: optimizer steps of the tutorial's network, at most.
        initial_weights: gs:// URI of a Keras file; layers of the same name and shapes begin with its weights. Empty:
            all begin at random.
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
        second_machine_type: of a second training, to compare with the first; empty: there is none.
        second_accelerator_type: of the second training.
        second_accelerator_count: of the second training.
        second_tpu_topology: of the second training.
        second_image_suffix: of the second training.
        second_keras_backend: of the second training.
    """
    notify = components.notify(IMAGES["notify"])(webhook=webhook, webhook_secret=webhook_secret)

    with dsl.ExitHandler(notify.set_caching_options(False)):
        data = release.snapshot("ddsm", IMAGES, source)

        ingest = components.ingest("ddsm", IMAGES["ingest"])(
            source=data,
            max_reject_share=max_reject_share,
            height=image_height,
            width=image_width,
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
        tune = components.tune("ddsm", IMAGES["tune"], trial_image=IMAGES["trial"])(
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

        train = components.train("ddsm", IMAGES["train"], replicas=BUILD.replicas)
        same = {"examples": examples, "epochs": train_epochs, "seed": seed, "timeout": timeout, "strategy": strategy}
        chosen = {
            "hyperparameters": tune.outputs["hyperparameters"],
            "steps": train_steps,
            "initial_weights": initial_weights,
        }

        tuned = train(**same, **chosen, **machine)
        model = tuned.set_retry(**components.RETRY).outputs["model"]

        preset = components.preset("ddsm", IMAGES["preset"])(name="tutorial")
        tutorial = train(
            **same,
            hyperparameters=preset.outputs["hyperparameters"],
            steps=tutorial_steps,
            initial_weights="",
            **machine,
        )
        tutorial.set_retry(**components.RETRY).set_display_name("train the tutorial's network")

        prices = settings.prices().model_dump_json()
        evaluate = components.evaluate_classifier("ddsm", IMAGES["evaluate"], prices)(
            examples=examples, model=model, baseline=tutorial.outputs["model"]
        )

        with dsl.If(second_machine_type != "", name="on two accelerators"):
            second = train(
                **same,
                **chosen,
                machine_type=second_machine_type,
                accelerator_type=second_accelerator_type,
                accelerator_count=second_accelerator_count,
                tpu_topology=second_tpu_topology,
                image_suffix=second_image_suffix,
                keras_backend=second_keras_backend,
            )
            second.set_retry(**components.RETRY).set_display_name("train on the second accelerator")
            components.accelerators("ddsm", IMAGES["accelerators"], prices)(
                examples=examples, first=model, second=second.outputs["model"]
            ).set_display_name("compare the accelerators")

        export = components.export("ddsm", IMAGES["export"])(examples=examples, model=model)

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
