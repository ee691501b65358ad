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
from pipelines import settings

BUILD = settings.build()
FOLDS = 5


@dsl.pipeline(name="iris", description="From a CSV of four lengths to an endpoint that names the species.")
def iris(
    source: str,
    max_reject_share: float,
    max_trials: int,
    parallel_trials: int,
    trial_epochs: int,
    trial_examples: int,
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
    timeout: str,
    strategy: str,
    serving_machine_type: str,
    model_name: str,
    endpoint_name: str,
) -> None:
    """The graph.

    Args:
        source: gs:// folder with the CSV files, loose or as `source.tar`.
        max_reject_share: stop if more than this share of the rows cannot be used; from 0 to 1.
        max_trials: sets of hyperparameters to try.
        parallel_trials: how many of them at a time.
        trial_epochs: passes over the training rows in a trial that is not stopped early.
        trial_examples: training rows that a trial sees, at most.
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
        timeout: training ends after this long, such as `3600s`.
        strategy: `STANDARD`, or `SPOT` for machines that cost less and may be taken away.
        serving_machine_type: Compute Engine machine for the endpoint.
        model_name: display name in the Model Registry.
        endpoint_name: display name of the endpoint.
    """
    images = components.Images(BUILD.registry, system="iris")

    data = dsl.importer(artifact_uri=source, artifact_class=dsl.Artifact).set_display_name("source")

    ingest = components.ingest("iris", images["ingest"])(
        source=data.output,
        max_reject_share=max_reject_share,
    )
    examples = ingest.outputs["examples"]

    new = dsl.importer(artifact_uri=new_data, artifact_class=dsl.Artifact).set_display_name("new data")

    components.skew("iris", images["skew"])(examples=examples, data=new.output, threshold=skew_threshold)

    tune = components.tune("iris", images["tune"], trial_image=images["trial"])(
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

    hyperparameters = tune.outputs["hyperparameters"]

    with dsl.ParallelFor(list(range(FOLDS))) as fold:
        validate = components.cross_validate("iris", images["cross_validate"])(
            examples=examples,
            hyperparameters=hyperparameters,
            fold=fold,
            folds=FOLDS,
            seeds=seeds,
            epochs=fold_epochs,
        )
    components.compare(images["compare"])(scores=dsl.Collected(validate.outputs["scores"]))

    train = components.train("iris", images["train"], replicas=BUILD.replicas)(
        examples=examples,
        hyperparameters=hyperparameters,
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

    evaluate = components.evaluate_classifier("iris", images["evaluate"])(examples=examples, model=model)

    export = components.export("iris", images["export"])(examples=examples, model=model)

    components.deploy(images["deploy"], serving_image=images["serve"])(
        saved_model=export.outputs["saved_model"],
        smoke=export.outputs["smoke"],
        metrics=evaluate.outputs["metrics"],
        model_name=model_name,
        endpoint_name=endpoint_name,
        machine_type=serving_machine_type,
    )
