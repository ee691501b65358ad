"""Protects what is said of machines: accelerators that Vertex AI would not attach to a machine type are refused."""

from __future__ import annotations

from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import MachineSpec, WorkerPoolSpec

from localvertex import machines


def machine(name: str, accelerator: str = "", count: int = 0, **fields: Any) -> MachineSpec:
    kind = {"accelerator_type": accelerator} if accelerator else {}
    return MachineSpec(machine_type=name, accelerator_count=count, **kind, **fields)


GOOD = [
    machine("n1-standard-4"),
    machine("n1-standard-4", "NVIDIA_TESLA_T4", 2),
    machine("n1-standard-32", "NVIDIA_TESLA_V100", 4),
    machine("n1-highcpu-64", "NVIDIA_TESLA_P100", 4),
    machine("a2-highgpu-8g", "NVIDIA_TESLA_A100", 8),
    machine("a2-megagpu-16g", "NVIDIA_TESLA_A100", 16),
    machine("a3-ultragpu-8g", "NVIDIA_H200_141GB", 8),
    machine("g2-standard-24", "NVIDIA_L4", 2),
    machine("cloud-tpu", "TPU_V3", 8),
    machine("cloud-tpu", "TPU_V2", 96),
    machine("ct5lp-hightpu-4t", tpu_topology="2x2"),
    machine("z9-standard-4"),
    machine("z9-hypergpu-4g", "NVIDIA_B200", 3),
]

BAD = [
    (machine("n1-standard-4", "NVIDIA_TESLA_T4", 3), "3 NVIDIA_TESLA_T4 do not fit .*valid numbers: 1, 2, 4"),
    (machine("n1-standard-32", "NVIDIA_TESLA_V100", 2), "2 NVIDIA_TESLA_V100 do not fit .*valid numbers: 4, 8"),
    (machine("n1-standard-64", "NVIDIA_TESLA_P100", 4), "is not supported for machine type"),
    (
        machine("n1-standard-4", "NVIDIA_TESLA_K80", 1),
        'Accelerator "NVIDIA_TESLA_K80" is not supported for machine type',
    ),
    (machine("e2-standard-4", "NVIDIA_TESLA_T4", 1), "Machine types with it: n1-"),
    (machine("a2-highgpu-1g", "NVIDIA_TESLA_T4", 1), "It goes with NVIDIA_TESLA_A100"),
    (machine("a2-highgpu-2g", "NVIDIA_TESLA_A100", 1), "valid numbers: 2"),
    (machine("a2-highgpu-1g"), r"must be used with its accelerators.*\(1 NVIDIA_TESLA_A100\)"),
    (machine("n1-standard-4", "NVIDIA_TESLA_T4"), "Both `accelerator_type` and `accelerator_count`"),
    (machine("n1-standard-4", count=1), "Both `accelerator_type` and `accelerator_count`"),
    (machine("n1-standard-3"), 'Machine type "n1-standard-3" is not supported'),
    (machine("big"), 'Machine type "big" is not supported'),
    (machine("cloud-tpu", "TPU_V3", 12), "12 TPU_V3 do not fit"),
    (machine("ct5lp-hightpu-1t", tpu_topology="2x2"), "valid: 1x1"),
    (machine("ct5lp-hightpu-8t"), "tpu_topology: '' is not supported"),
    (machine("n1-standard-4", tpu_topology="2x2"), "has no TPUs"),
    (machine("g2-standard-96", "NVIDIA_L4", 8, gpu_partition_size="1g.10gb"), "must be 1 when gpu_partition_size"),
]


@pytest.mark.parametrize("spec", GOOD, ids=lambda spec: spec.machine_type)
def test_machines_that_there_are_pass(spec: MachineSpec) -> None:
    machines.check(spec, "machine_spec")
    machines.check(spec, "machine_spec", serving=True)


@pytest.mark.parametrize(("spec", "told"), BAD)
def test_machines_that_there_are_not_are_refused(spec: MachineSpec, told: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match=f"machine_spec.*{told}"):
        machines.check(spec, "machine_spec")


def test_a_deployed_model_may_take_some_of_a_machines_gpus() -> None:
    machines.check(machine("a2-highgpu-8g"), "machine_spec", serving=True)
    machines.check(machine("a2-highgpu-8g", "NVIDIA_TESLA_A100", 3), "machine_spec", serving=True)
    with pytest.raises(exceptions.InvalidArgument, match="9 NVIDIA_TESLA_A100 do not fit"):
        machines.check(machine("a2-highgpu-8g", "NVIDIA_TESLA_A100", 9), "machine_spec", serving=True)


def test_a_job_on_tpus_has_one_replica() -> None:
    pool = WorkerPoolSpec(machine_spec=machine("cloud-tpu", "TPU_V3", 8), replica_count=1)
    machines.check_worker_pools([pool], "pools")
    with pytest.raises(exceptions.InvalidArgument, match=r"pools\[0\]: .* a single replica"):
        machines.check_worker_pools([pool, pool], "pools")
