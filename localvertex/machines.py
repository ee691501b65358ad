"""Which accelerators go with which machine types, and how many of them; and what a machine limits containers to.

Accelerators are not provided here, but what Vertex AI would refuse is refused.

Sources: https://cloud.google.com/vertex-ai/docs/training/configure-compute#gpu-compatibility-table (custom jobs),
https://cloud.google.com/vertex-ai/docs/predictions/configure-compute#gpus (deployed models, batch prediction),
https://cloud.google.com/compute/docs/accelerator-optimized-machines (sizes),
https://cloud.google.com/vertex-ai/docs/pipelines/machine-types (tasks of a pipeline).

The sizes of a series are a closed list, series are not: a machine type of a series unknown here is let through.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import AcceleratorType, MachineSpec, WorkerPoolSpec

from localvertex.workloads import Limits

_FORM = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)+")
_TOPOLOGY = re.compile(r"\d+x\d+(x\d+)?")
_GIGABYTE = 2**30
_MOST_CPUS = 96
_MOST_MEMORY = 624


@dataclass(frozen=True)
class Machine:
    """One machine type.

    Args:
        accelerators: valid counts by accelerator type.
        cpus: virtual CPUs; this and the next are 0 where the task of a pipeline cannot ask for the machine.
        memory: in gigabytes.
        built_in: the accelerators are part of the machine.
        topologies: valid TPU topologies.
    """

    accelerators: Mapping[str, Sequence[int]] = field(default_factory=dict)
    cpus: int = 0
    memory: float = 0
    built_in: bool = False
    topologies: Sequence[str] = ()


def check(spec: MachineSpec, where: str, *, serving: bool = False) -> None:
    """Refuse a machine type that there is not, and accelerators that do not go with it.

    Args:
        where: the field that the specification stands in, such as `job_spec.worker_pool_specs[0].machine_spec`.
        serving: it is for a deployed model or batch prediction, where a replica may take some of a machine's GPUs.

    Raises:
        google.api_core.exceptions.InvalidArgument: what does not fit, and what would.
    """
    name = spec.machine_type
    kind = AcceleratorType(spec.accelerator_type).name if spec.accelerator_type else ""
    if bool(kind) != bool(spec.accelerator_count):
        raise exceptions.InvalidArgument(
            f"{where}: Both `accelerator_type` and `accelerator_count` should be specified or none."
        )
    if spec.gpu_partition_size and spec.accelerator_count != 1:
        raise exceptions.InvalidArgument(f"{where}.accelerator_count must be 1 when gpu_partition_size is set.")
    if not name:
        return
    machine = _machine(name, f"{where}.machine_type")
    if kind:
        _check_accelerator(name, machine, kind, spec.accelerator_count, where, serving)
    elif machine and machine.built_in and not machine.topologies and not serving:
        wanted = " or ".join(
            f"{counts[0]} {kind}" if len(counts) == 1 else kind for kind, counts in machine.accelerators.items()
        )
        raise exceptions.InvalidArgument(
            f'{where}: machine type "{name}" must be used with its accelerators; set accelerator_type and '
            f"accelerator_count ({wanted})."
        )
    _check_topology(name, machine, spec.tpu_topology, where, serving)


def limits(spec: MachineSpec) -> Limits:
    """What a container on a machine may take; nothing is known of the memory of some series."""
    name = spec.machine_type
    machine = _MACHINES.get(name, Machine())
    last = name.rpartition("-")[2]
    cpus = machine.cpus or (int(last) if last.isdecimal() else 0)
    return Limits(cpus, int(machine.memory * _GIGABYTE))


def check_worker_pools(pools: Sequence[WorkerPoolSpec], where: str) -> None:
    """`check` the machines of a job's worker pools, and that TPUs are asked for by one replica alone.

    Raises:
        google.api_core.exceptions.InvalidArgument: what does not fit, and where.
    """
    for number, pool in enumerate(pools):
        check(pool.machine_spec, f"{where}[{number}].machine_spec")
        if _is_tpu(pool.machine_spec.machine_type) and (len(pools) > 1 or pool.replica_count > 1):
            raise exceptions.InvalidArgument(
                f"{where}[{number}]: a job on TPU VMs must have a single worker pool with a single replica."
            )


def check_resources(accelerator: str, count: int, cpus: float, memory: float, where: str) -> None:
    """Refuse what no machine type offers; Vertex AI chooses one for each task of a pipeline by what the task asks for.

    Args:
        accelerator: its type; empty for none.
        count: how many; not looked at without a type.
        cpus: virtual CPUs asked for; 0 if nothing is said.
        memory: in gigabytes; 0 if nothing is said.
        where: the field in the pipeline that says so.

    Raises:
        google.api_core.exceptions.InvalidArgument: what does not fit, and what would.
    """
    if cpus > _MOST_CPUS:
        raise exceptions.InvalidArgument(
            f"{where}.cpuLimit: {cpus:g} is more than {_MOST_CPUS}, the most CPUs of a task."
        )
    if memory > _MOST_MEMORY:
        raise exceptions.InvalidArgument(
            f"{where}.memoryLimit: {memory:g} GB is more than {_MOST_MEMORY} GB, the most memory of a task."
        )
    if not accelerator:
        return
    _must_be_known(accelerator, f"{where}.accelerator.type")
    offers = [machine for machine in _MACHINES.values() if accelerator in machine.accelerators]
    if not offers:
        raise exceptions.InvalidArgument(
            f'{where}.accelerator.type: Accelerator "{accelerator}" is not supported for any machine type.'
        )
    counts = sorted({each for machine in offers for each in machine.accelerators[accelerator]})
    if count not in counts and not _is_pod(accelerator, count):
        raise exceptions.InvalidArgument(
            f"{where}.accelerator.count: no machine type has {count} {accelerator}; valid numbers: {_listed(counts)}."
        )
    if _is_pod(accelerator, count) or any(
        count in machine.accelerators[accelerator] and machine.cpus >= cpus and machine.memory >= memory
        for machine in offers
    ):
        return
    raise exceptions.InvalidArgument(
        f"{where}: no machine type has {count} {accelerator} together with {cpus:g} CPUs and {memory:g} GB of memory."
    )


def _machine(name: str, where: str) -> Machine | None:
    if name in _MACHINES:
        return _MACHINES[name]
    if not _FORM.fullmatch(name) or _series(name) in {_series(known) for known in _MACHINES}:
        raise exceptions.InvalidArgument(f'{where}: Machine type "{name}" is not supported.')
    return None


def _check_accelerator(name: str, machine: Machine | None, kind: str, count: int, where: str, serving: bool) -> None:
    if machine is None and not _takes_no_accelerator(name):
        return
    counts = machine.accelerators.get(kind, ()) if machine else ()
    if not counts:
        raise exceptions.InvalidArgument(
            f'{where}: Accelerator "{kind}" is not supported for machine type "{name}". {_hint(machine, kind)}'
        )
    if machine and machine.built_in and serving:
        counts = range(1, max(counts) + 1)
    if count not in counts and not (name == "cloud-tpu" and _is_pod(kind, count)):
        raise exceptions.InvalidArgument(
            f'{where}.accelerator_count: {count} {kind} do not fit machine type "{name}"; '
            f"valid numbers: {_listed(counts)}."
        )


def _check_topology(name: str, machine: Machine | None, topology: str, where: str, serving: bool) -> None:
    if topology and not _is_tpu(name):
        raise exceptions.InvalidArgument(f'{where}.tpu_topology: machine type "{name}" has no TPUs.')
    if topology and not _TOPOLOGY.fullmatch(topology):
        raise exceptions.InvalidArgument(f"{where}.tpu_topology: '{topology}' is not a topology such as 2x4.")
    if machine and machine.topologies and topology not in machine.topologies and (topology or not serving):
        raise exceptions.InvalidArgument(
            f"{where}.tpu_topology: '{topology}' is not supported for machine type \"{name}\"; "
            f"valid: {', '.join(machine.topologies)}."
        )


def _hint(machine: Machine | None, kind: str) -> str:
    if machine and machine.accelerators:
        return f"It goes with {', '.join(machine.accelerators)}."
    homes = sorted({_series(name) for name, other in _MACHINES.items() if kind in other.accelerators})
    return f"Machine types with it: {', '.join(homes)}." if homes else "It is no longer offered."


def _must_be_known(accelerator: str, where: str) -> None:
    known = [name for name in AcceleratorType.__members__ if name != "ACCELERATOR_TYPE_UNSPECIFIED"]
    if accelerator not in known:
        raise exceptions.InvalidArgument(
            f"{where}: '{accelerator}' is not an accelerator of Vertex AI; valid: {', '.join(known)}."
        )


def _takes_no_accelerator(name: str) -> bool:
    # "To use GPUs" names the series that take them; these are the general-purpose ones that never do.
    return name.partition("-")[0] in {"e2", "n2", "n2d", "n4", "c2", "c2d", "c3", "c3d", "c4", "t2d", "m1", "m2", "m3"}


def _is_tpu(name: str) -> bool:
    return name == "cloud-tpu" or name.startswith("ct")


def _is_pod(kind: str, count: int) -> bool:
    """Whether it is a slice of a TPU pod: these come in any multiple of 32."""
    return kind in ("TPU_V2", "TPU_V3", "TPU_V4_POD") and count > 0 and count % 32 == 0


def _series(name: str) -> str:
    return name.rpartition("-")[0]


def _listed(counts: Sequence[int]) -> str:
    return ", ".join(map(str, counts))


def _n1() -> Iterator[tuple[str, Machine]]:
    """The one series whose GPUs are optional: the more CPUs a machine has, the more GPUs it must have."""
    for series, gigabytes in (("standard", 3.75), ("highmem", 6.5), ("highcpu", 0.9)):
        for cpus in (2, 4, 8, 16, 32, 64, 96):
            most = (1, 2, 4) if cpus <= 16 else (2, 4) if cpus <= 32 else (4,)
            large = (1, 2, 4, 8) if cpus <= 8 else (2, 4, 8) if cpus <= 16 else (4, 8) if cpus <= 32 else (8,)
            gpus = {"NVIDIA_TESLA_P4": most, "NVIDIA_TESLA_T4": most, "NVIDIA_TESLA_V100": large}
            # Four of these stand for at most 64 CPUs and 208 GB.
            if cpus <= 64 and cpus * gigabytes <= 208:
                gpus["NVIDIA_TESLA_P100"] = most
            yield f"n1-{series}-{cpus}", Machine(gpus, cpus, cpus * gigabytes)


def _with_gpus(kind: str, cpus: int, gigabytes: float, *names: str) -> Iterator[tuple[str, Machine]]:
    """Machine types with as many GPUs as their names say, and so many CPUs and gigabytes a GPU."""
    for name in names:
        count = int(name.rpartition("-")[2].removesuffix("g"))
        yield name, Machine({kind: (count,)}, count * cpus, count * gigabytes, built_in=True)


def _g2() -> Iterator[tuple[str, Machine]]:
    for cpus, count in ((4, 1), (8, 1), (12, 1), (16, 1), (24, 2), (32, 1), (48, 4), (96, 8)):
        yield f"g2-standard-{cpus}", Machine({"NVIDIA_L4": (count,)}, cpus, 4 * cpus, built_in=True)


def _g4() -> Iterator[tuple[str, Machine]]:
    for count in (1, 2, 4, 8):
        gpus = {"NVIDIA_RTX_PRO_6000": (count,)}
        yield f"g4-standard-{48 * count}", Machine(gpus, 48 * count, 180 * count, built_in=True)


def _tpus() -> Iterator[tuple[str, Machine]]:
    old = {kind: (8, 32) for kind in ("TPU_V2", "TPU_V3", "TPU_V4_POD")}
    yield "cloud-tpu", Machine(old, 96, 335, built_in=True)
    slices = {1: ("1x1",), 4: ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"), 8: ("2x4",)}
    for chips, topologies in slices.items():
        v5e = {"TPU_V5_LITEPOD": (chips,) if len(topologies) == 1 else (4, 8, 16, 32, 64, 128, 256)}
        cpus = 24 if chips == 1 else 28 * chips
        yield f"ct5lp-hightpu-{chips}t", Machine(v5e, cpus, 48 * chips, True, topologies)
        # The API has no accelerator type for these: the machine type says it all.
        yield f"ct6e-standard-{chips}t", Machine(built_in=True, topologies=topologies)


_MACHINES: Mapping[str, Machine] = dict(
    [
        *_n1(),
        *_with_gpus("NVIDIA_TESLA_A100", 12, 85, *(f"a2-highgpu-{count}g" for count in (1, 2, 4, 8))),
        *_with_gpus("NVIDIA_TESLA_A100", 6, 85, "a2-megagpu-16g"),
        *_with_gpus("NVIDIA_A100_80GB", 12, 170, *(f"a2-ultragpu-{count}g" for count in (1, 2, 4, 8))),
        *_with_gpus("NVIDIA_H100_80GB", 26, 234, *(f"a3-highgpu-{count}g" for count in (1, 2, 4, 8)), "a3-edgegpu-8g"),
        *_with_gpus("NVIDIA_H100_MEGA_80GB", 26, 234, "a3-megagpu-8g"),
        *_with_gpus("NVIDIA_H200_141GB", 28, 369, "a3-ultragpu-8g"),
        *_with_gpus("NVIDIA_B200", 28, 496, "a4-highgpu-8g"),
        *_with_gpus("NVIDIA_GB200", 35, 221, "a4x-highgpu-4g"),
        *_g2(),
        *_g4(),
        *_tpus(),
    ]
)
