"""Tells irises apart: a CSV of four lengths becomes an endpoint that answers with a species and its probabilities.

Trains: a small dense network, its hyperparameters searched first; and cross-validates it beside logistic regression and
    gradient boosting, to see whether it earns its place.
Takes: 3 to 4 minutes on 2 CPU cores (settings/local.yaml).
Expect: a cross-validated accuracy of about 96 %, which no baseline is clearly better or worse than.
Run: make run PIPELINE=iris                   scikit-learn's copy of Fisher's table, made first when it is missing
     make run PIPELINE=iris DATA=<folder>     your own: CSV files with or without a header
     make run PIPELINE=iris ARGS="new_data=<folder>"   has new data (CSV, or logged requests) drifted from it?
"""

from kfp import dsl

import components
from pipelines import release, settings

BUILD = settings.build()
IMAGES = components.Images(BUILD.registry, system="iris")
RELEASE = release.release("iris", IMAGES)
FOLDS = 5


@dsl.pipeline(name="iris", description="From a CSV of four lengths to an endpoint that names the species.")
def iris(
    source: str,
    max_reject_share: float,
    max_trials: int,
    parallel_trials: int,
    trial_epochs: int,
    trial_examples: int,
    tune_budget: float,
    train_epochs: int,
    train_steps: int,
    seeds: int,
    fold_epochs: int,
    new_data: str,
    skew_threshold: float,
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
        source: gs:// folder with the CSV files, loose or as `source.tar`.
        max_reject_share: stop if more than this share of the rows cannot be used; from 0 to 1.
        max_trials: sets of hyperparameters to try.
        parallel_trials: how many of them at a time.
        trial_epochs: passes over the training rows in a trial that is not stopped early.
        trial_examples: training rows that a trial sees, at most.
        tune_budget: device-hours of all trials together after which the search ends with the best so far; 0: no limit.
        train_epochs: passes over the training rows in the final training, at most.
        train_steps: optimizer steps in the final training, at most.
        seeds: how often the cross-validation divides the rows anew.
        fold_epochs: passes over the training rows of a fold.
        new_data: gs:// folder with CSV files or logged requests, to be compared with the training rows; where it is
            empty, `make run` gives the source itself.
        skew_threshold: Jensen-Shannon distance up to which a column of new data passes; from 0 to 1.
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
        data = release.snapshot("iris", IMAGES, source)

        ingest = components.ingest("iris", IMAGES["ingest"])(
            source=data,
            max_reject_share=max_reject_share,
        )
        examples = ingest.outputs["examples"]

        new = dsl.importer(artifact_uri=new_data, artifact_class=dsl.Artifact).set_display_name("new data")

        components.skew("iris", IMAGES["skew"])(examples=examples, data=new.output, threshold=skew_threshold)

        machine = {
            "machine_type": machine_type,
            "accelerator_type": accelerator_type,
            "accelerator_count": accelerator_count,
            "tpu_topology": tpu_topology,
            "image_suffix": image_suffix,
            "keras_backend": keras_backend,
        }
        tune = components.tune("iris", IMAGES["tune"], trial_image=IMAGES["trial"])(
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

        hyperparameters = tune.outputs["hyperparameters"]

        with dsl.ParallelFor(list(range(FOLDS))) as fold:
            validate = components.cross_validate("iris", IMAGES["cross_validate"])(
                examples=examples,
                hyperparameters=hyperparameters,
                fold=fold,
                folds=FOLDS,
                seeds=seeds,
                epochs=fold_epochs,
            )
        components.compare(IMAGES["compare"])(scores=dsl.Collected(validate.outputs["scores"]))

        train = components.train("iris", IMAGES["train"], replicas=BUILD.replicas)(
            examples=examples,
            hyperparameters=hyperparameters,
            epochs=train_epochs,
            steps=train_steps,
            seed=seed,
            timeout=timeout,
            strategy=strategy,
            **machine,
        ).set_retry(**components.RETRY)
        model = train.outputs["model"]

        evaluate = components.evaluate_classifier("iris", IMAGES["evaluate"])(examples=examples, model=model)

        export = components.export("iris", IMAGES["export"])(examples=examples, model=model)

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
