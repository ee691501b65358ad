"""Train: a Vertex CustomJob fits the network, and resumes from its checkpoint after a kill."""

import json
from typing import Any

import yaml
from google.protobuf import json_format
from google_cloud_pipeline_components.v1.custom_job import create_custom_training_job_from_component
from kfp import components, dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

WORKER_POOLS = "{{$.inputs.parameters['worker_pool_specs']}}"
MACHINE_TYPE = "{{$.inputs.parameters['machine_type']}}"
ACCELERATOR_TYPE = "{{$.inputs.parameters['accelerator_type']}}"
ACCELERATOR_COUNT = "{{$.inputs.parameters['accelerator_count']}}"
TPU_TOPOLOGY = "{{$.inputs.parameters['tpu_topology']}}"
IMAGE_SUFFIX = "{{$.inputs.parameters['image_suffix']}}"
KERAS_BACKEND = "{{$.inputs.parameters['keras_backend']}}"

RETRY: dict[str, Any] = {
    "num_retries": 2,
    "backoff_duration": "5s",
    "backoff_factor": 2.0,
    "backoff_max_duration": "300s",
}
"""How a pipeline tries a training again that was cut off, for `set_retry`: it resumes from its checkpoint."""


def train(system: str, image: str, replicas: int = 1) -> dsl.base_component.BaseComponent:
    """Makes the training component of a system: a CustomJob whose machine is chosen when the pipeline is run.

    Args:
        system: a folder of `images/trainer/systems`.
        image: the full name of the image it runs in; what is for GPUs or TPUs ends in `image_suffix` too.
        replicas: machines that train together. Part of the compiled pipeline: a CustomJob has one worker pool
            for one replica, two for more.

    Beside the inputs below, the component takes CustomJob's own, of which `timeout` (such as `3600s`) and
    `strategy` (`STANDARD`, `SPOT`) matter most.
    """

    @dsl.container_component
    def train(
        examples: Input[Dataset],
        hyperparameters: Input[Artifact],
        epochs: int,
        steps: int,
        seed: int,
        machine_type: str,
        accelerator_type: str,
        accelerator_count: int,
        model: Output[Model],
        tpu_topology: str = "",
        image_suffix: str = "",
        keras_backend: str = "tensorflow",
        initial_weights: str = "",
        followed: str = "",
    ) -> dsl.ContainerSpec:
        """Trains until the validation score stops improving, and keeps the best weights.

        Args:
            examples: what ingest wrote.
            hyperparameters: JSON that tune wrote.
            epochs: passes over the training examples, at most.
            steps: optimizer steps, at most.
            seed: of initial weights, shuffling and augmentation.
            machine_type: Compute Engine machine to train on.
            accelerator_type: such as `NVIDIA_TESLA_T4`; empty for none.
            accelerator_count: per machine; 0 for none.
            model: `model.keras`, `history.csv`, TensorBoard `logs/`, `schema.json`, `hyperparameters.json`, and
                `training.json`: workers, seconds, examples a second.
            tpu_topology: such as `2x2`, of machines with TPUs; empty for others.
            image_suffix: of the image for this accelerator: empty, `-gpu` or `-tpu`.
            keras_backend: `tensorflow`, or `jax`, which TPUs need.
            initial_weights: gs:// URI of a Keras file; layers of the same name and shapes begin with its weights.
                Empty: all begin at random.
            followed: the folder that `place` chose, where `follow` looks for each epoch's weights; empty: nobody does.
        """
        return dsl.ContainerSpec(
            image=image,
            command=["python", "-m", "images.trainer.train"],
            args=[
                f"--system={system}",
                f"--examples={examples.path}",
                f"--hyperparameters={hyperparameters.path}",
                f"--epochs={epochs}",
                f"--steps={steps}",
                f"--seed={seed}",
                f"--initial_weights={initial_weights}",
                f"--examples_uri={examples.uri}",
                # An output is at <root>/<project>/<run>/<task>/<name>. Two up is the run's own folder, where
                # a retry looks again, wherever its outputs go. It is a path; `pipeline_root` is a URI.
                f"--checkpoints={model.path}/../../checkpoints",
                f"--followed={followed}",
                f"--model={model.path}",
                "--executor_input",
                dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER,
            ],
        )

    return as_custom_job(train, f"{system}-train", replicas)


def as_custom_job(
    component: dsl.base_component.BaseComponent, display_name: str, replicas: int = 1
) -> dsl.base_component.BaseComponent:
    """Makes a component run as a CustomJob, on the machine that its inputs name.

    Args:
        component: to run so; it has the inputs `machine_type`, `accelerator_type`, `accelerator_count`, `tpu_topology`,
            `image_suffix` and `keras_backend`.
        display_name: of the job.
        replicas: machines that work together.
    """
    job = create_custom_training_job_from_component(
        component,
        display_name=display_name,
        replica_count=replicas,
        # Who has lost another replica ends too: all begin again, from the chief's checkpoint.
        restart_job_on_worker_restart=replicas > 1,
        machine_type=MACHINE_TYPE,
        accelerator_type=ACCELERATOR_TYPE,
        accelerator_count=ACCELERATOR_COUNT,
    )
    return _with_worker_pools_in_place(job)


def _with_worker_pools_in_place(job: dsl.base_component.BaseComponent) -> dsl.base_component.BaseComponent:
    """Moves the worker pools from a parameter's default value into the payload.

    In a default value a placeholder is a JSON string, which the API's `accelerator_count`, an int32, is not.
    In the payload it can stand without quotes.
    """
    spec: dict[str, Any] = json_format.MessageToDict(job.pipeline_spec)
    (executor,) = spec["deploymentSpec"]["executors"].values()
    (component,) = spec["components"].values()
    pools = component["inputDefinitions"]["parameters"].pop("worker_pool_specs")["defaultValue"]
    del spec["root"]["inputDefinitions"]["parameters"]["worker_pool_specs"]
    for pool in pools:
        pool["machine_spec"]["tpu_topology"] = TPU_TOPOLOGY
        pool["container_spec"]["image_uri"] += IMAGE_SUFFIX
        # Of the image too; where no container is made, only this says it.
        pool["container_spec"]["env"] = [{"name": "KERAS_BACKEND", "value": KERAS_BACKEND}]
    inlined = json.dumps(_whole_numbers(pools), sort_keys=True).replace(f'"{ACCELERATOR_COUNT}"', ACCELERATOR_COUNT)
    container = executor["container"]
    container["args"] = [argument.replace(WORKER_POOLS, inlined) for argument in container["args"]]
    moved = components.load_component_from_text(yaml.safe_dump(spec))
    moved.component_spec.name = job.component_spec.name
    moved.description = job.description
    return moved


def _whole_numbers(value: Any) -> Any:
    """Undoes protobuf's Struct, in which 100 comes back as 100.0."""
    if isinstance(value, dict):
        return {key: _whole_numbers(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
