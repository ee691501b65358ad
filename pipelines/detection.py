"""Finds objects in pictures: a folder of VOC annotations becomes an endpoint that answers with boxes and classes.

Trains: a small anchor-free detector over 128x128 pictures, its hyperparameters searched first. While it trains, a
    second job measures its epochs and keeps the one with the highest mean average precision.
Takes: about 5 minutes on 2 CPU cores for the sample of 900 scenes (settings/local.yaml).
Expect: on the sample an AP50 of 0.9 and a mAP of 0.7, which say that the machinery works, nothing about photographs.
Run: make run PIPELINE=detection                 the sample, made first when it is missing
     make run PIPELINE=detection DATA=<folder>   your own: VOC XML beside pictures, Oxford-IIIT Pets, or *.record files
     make run PIPELINE=detection DATA=<folder> ARGS="train_epochs=300 trial_epochs=20"   as long as in production
     make run PIPELINE=detection ARGS="batch_size=8 optimizer=momentum learning_rate=0.004"   not searched, but chosen
     .venv/bin/python -m images.trainer.systems.detection.pipeline_config <file>   what an old config asks for, as ARGS
     make predict PIPELINE=detection INPUT=photo.jpg
"""

from kfp import dsl

import components
from pipelines import release, settings

BUILD = settings.build()
IMAGES = components.Images(BUILD.registry, system="detection")
RELEASE = release.release("detection", IMAGES)


@dsl.pipeline(
    name="detection", description="From a folder of annotated pictures to a deployed endpoint that finds objects."
)
def detection(
    source: str,
    image_height: int,
    image_width: int,
    faces_only: str,
    max_reject_share: float,
    learning_rate: str,
    batch_size: int,
    optimizer: str,
    schedule: str,
    width: int,
    depth: int,
    zoom: float,
    stretch: float,
    flip: float,
    colour: float,
    nms_iou: float,
    max_trials: int,
    parallel_trials: int,
    trial_epochs: int,
    trial_examples: int,
    tune_budget: float,
    train_epochs: int,
    train_steps: int,
    patience: int,
    seed: int,
    machine_type: str,
    accelerator_type: str,
    accelerator_count: int,
    tpu_topology: str,
    image_suffix: str,
    keras_backend: str,
    follow_machine_type: str,
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
        source: gs:// folder with the pictures and what is in them, loose or as `source.tar`.
        image_height: of the canvas that the network sees, pixels; a multiple of 32.
        image_width: of the canvas that the network sees, pixels; a multiple of 32.
        faces_only: of pets the boxes of faces, `true`, or of the whole animals, `false`.
        max_reject_share: stop if more than this share of pictures and boxes cannot be used; from 0 to 1.
        learning_rate: the highest; empty: searched.
        batch_size: pictures a step: 8, 16, 24, 32 or 64.
        optimizer: `adamw`, `momentum` or `rmsprop`.
        schedule: of the rate after its rise: `cosine`, `exponential` or `constant`.
        width: channels of the first convolution: 8, 12, 16, 24, 32 or 48.
        depth: residual blocks at each resolution, 1 to 3.
        zoom: pictures are made larger or smaller in training by up to this factor, 1 to 3.
        stretch: one side is made longer than the other by up to this share, 0 to 0.5.
        flip: share of pictures that are mirrored, left to right.
        colour: how far brightness, contrast, saturation and tint are changed, 0 to 1.
        nms_iou: of two detections of a class that overlap by more than this share the weaker gives way, 0.3 to 0.8.
        max_trials: sets of hyperparameters to try.
        parallel_trials: how many of them at a time.
        trial_epochs: passes over the training pictures in a trial that is not stopped early.
        trial_examples: training pictures that a trial sees, at most.
        tune_budget: device-hours of all trials together after which the search ends with the best so far; 0: no limit.
        train_epochs: passes over the training pictures in the final training, at most.
        train_steps: optimizer steps in the final training, at most.
        patience: seconds without a new epoch after which the evaluation gives the training up; longer than an epoch,
            and than it takes to get a machine.
        seed: of initial weights, shuffling and augmentation.
        machine_type: Compute Engine machine for trials and training.
        accelerator_type: for trials and training, such as `NVIDIA_TESLA_T4`; empty for none.
        accelerator_count: accelerators per machine; 0 for none.
        tpu_topology: of a machine with TPUs, such as `2x2`; empty for others.
        image_suffix: of the images for the accelerator: empty, `-gpu` or `-tpu`.
        keras_backend: for trials and training: `tensorflow`, or `jax`, which TPUs need.
        follow_machine_type: Compute Engine machine for the evaluation that runs beside the training.
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
        data = release.snapshot("detection", IMAGES, source)

        ingest = components.ingest("detection", IMAGES["ingest"])(
            source=data,
            height=image_height,
            width=image_width,
            faces_only=faces_only,
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
        given = {
            "learning_rate": learning_rate,
            "batch_size": batch_size,
            "optimizer": optimizer,
            "schedule": schedule,
            "width": width,
            "depth": depth,
            "zoom": zoom,
            "stretch": stretch,
            "flip": flip,
            "colour": colour,
            "nms_iou": nms_iou,
        }
        tune = components.tune("detection", IMAGES["tune"], trial_image=IMAGES["trial"])(
            examples=examples,
            given=" ".join(f"{name}={value}" for name, value in given.items()),
            max_trials=max_trials,
            parallel_trials=parallel_trials,
            trial_epochs=trial_epochs,
            trial_examples=trial_examples,
            tune_budget=tune_budget,
            seed=seed,
            strategy=strategy,
            **machine,
        )

        training = {
            "examples": examples,
            "hyperparameters": tune.outputs["hyperparameters"],
            "epochs": train_epochs,
            "steps": train_steps,
            "seed": seed,
            **machine,
        }
        place = components.place(IMAGES["place"], trainer=IMAGES["train"])(**training)
        folder = place.outputs["folder"]

        train = components.train("detection", IMAGES["train"], replicas=BUILD.replicas)(
            followed=folder, timeout=timeout, strategy=strategy, **training
        )
        train.set_retry(**components.RETRY)

        # Not after the training, but beside it.
        follow = components.follow("detection", IMAGES["follow"])(
            examples=examples,
            hyperparameters=tune.outputs["hyperparameters"],
            checkpoints=folder,
            patience=patience,
            machine_type=follow_machine_type,
            accelerator_type="",
            accelerator_count=0,
            timeout=timeout,
        )
        model = follow.set_retry(**components.RETRY).outputs["model"]

        evaluate = components.evaluate("detection", IMAGES["evaluate"])(examples=examples, model=model)

        export = components.export("detection", IMAGES["export"])(examples=examples, model=model)

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
