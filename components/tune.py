"""Tune: a Vertex HyperparameterTuningJob with early stopping finds the best hyperparameters."""

from google_cloud_pipeline_components import _placeholders as google
from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Output, OutputPath


def tune(system: str, image: str, trial_image: str) -> dsl.base_component.BaseComponent:
    """Makes the tuning component of a system.

    Args:
        system: a folder of `images/trainer/systems`.
        image: the full name of the image that starts and watches the tuning job.
        trial_image: the full name of the image that each trial runs in.
    """

    @dsl.container_component
    def tune(
        examples: Input[Dataset],
        max_trials: int,
        parallel_trials: int,
        trial_epochs: int,
        trial_examples: int,
        seed: int,
        machine_type: str,
        accelerator_type: str,
        accelerator_count: int,
        strategy: str,
        gcp_resources: OutputPath(str),  # type: ignore[valid-type]
        hyperparameters: Output[Artifact],
        trials: Output[Artifact],
        report: Output[HTML],
        metrics: Output[Metrics],
        tune_budget: float = 0.0,
        tpu_topology: str = "",
        image_suffix: str = "",
        keras_backend: str = "tensorflow",
        given: str = "",
    ) -> dsl.ContainerSpec:
        """Runs trials in parallel, stops the hopeless ones early, and keeps the best one's hyperparameters.

        Args:
            examples: what ingest wrote.
            max_trials: how many sets of hyperparameters to try.
            parallel_trials: how many at a time.
            trial_epochs: passes over the training examples that a trial makes unless it is stopped.
            trial_examples: training examples that a trial sees, at most.
            seed: of each trial's initial weights and shuffling.
            machine_type: Compute Engine machine of each trial.
            accelerator_type: of each trial, such as `NVIDIA_TESLA_T4`; empty for none.
            accelerator_count: per trial; 0 for none.
            strategy: `STANDARD`, or `SPOT` for machines that cost less and may be taken away.
            gcp_resources: the tuning job, in the form that Vertex AI's console links to.
            hyperparameters: JSON of the best trial's.
            trials: CSV, one row a trial.
            report: the trials' curves and table, as one page.
            metrics: `best_val_loss`, `trials`, `epochs_spent`, `epochs_saved`, `device_hours`.
            tune_budget: device-hours of all trials together after which the search ends with the best so far; 0 for no
                limit.
            tpu_topology: of each trial's machine, such as `2x2`, if it has TPUs; empty for others.
            image_suffix: of the trials' image for this accelerator: empty, `-gpu` or `-tpu`.
            keras_backend: `tensorflow`, or `jax`, which TPUs need.
            given: hyperparameters that are not searched, such as `flip=0.5 width=16`.
        """
        return dsl.ContainerSpec(
            image=image,
            command=["python", "-m", "images.launcher.tune"],
            args=[
                f"--system={system}",
                f"--project={google.PROJECT_ID_PLACEHOLDER}",
                f"--location={google.LOCATION_PLACEHOLDER}",
                f"--job_name={dsl.PIPELINE_JOB_NAME_PLACEHOLDER}-tune",
                f"--examples={examples.path}",
                f"--trial_image={trial_image}{image_suffix}",
                f"--trial_epochs={trial_epochs}",
                f"--trial_examples={trial_examples}",
                f"--max_trials={max_trials}",
                f"--parallel_trials={parallel_trials}",
                f"--seed={seed}",
                f"--machine_type={machine_type}",
                f"--accelerator_type={accelerator_type}",
                f"--accelerator_count={accelerator_count}",
                f"--tpu_topology={tpu_topology}",
                f"--keras_backend={keras_backend}",
                f"--strategy={strategy}",
                f"--tune_budget={tune_budget}",
                f"--given={given}",
                f"--gcp_resources={gcp_resources}",
                f"--hyperparameters={hyperparameters.path}",
                f"--trials={trials.path}",
                f"--report={report.path}",
                f"--metrics={metrics.path}",
                "--executor_input",
                dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER,
            ],
        )

    return tune
