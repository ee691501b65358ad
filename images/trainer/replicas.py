"""The machines that train together, as a CustomJob tells each of them in TF_CONFIG.

Source: cloud.google.com/vertex-ai/docs/training/distributed-training, tensorflow.org/guide/distributed_training
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

from images.executor import UserError

_TRAINERS = ("chief", "master", "worker")


class Replicas(NamedTuple):
    """Who trains together, and which of them this process is.

    Attributes:
        index: of this process, from 0, the chief.
        addresses: `host:port` of each; empty when there is but one.
    """

    index: int = 0
    addresses: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many train together."""
        return max(1, len(self.addresses))

    @property
    def chief(self) -> bool:
        """Whether this one writes what the training leaves."""
        return self.index == 0


def machine() -> dict[str, Any]:
    """What each of them runs on, as the job's CLUSTER_SPEC says: `machine_type`, perhaps `accelerator_type` and
    `accelerator_count`; nothing where it does not say."""
    try:
        return dict(json.loads(os.environ["CLUSTER_SPEC"])["job"]["worker_pool_specs"][0]["machine_spec"])
    except (ValueError, KeyError, TypeError, IndexError):
        return {}


def of_environment() -> Replicas:
    """What TF_CONFIG says; one machine where it is not set.

    Raises:
        UserError: it is set, but cannot be understood.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return Replicas()
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        members = [(role, index) for role in _TRAINERS for index in range(len(cluster.get(role, [])))]
        addresses = tuple(cluster[role][index] for role, index in members)
        return Replicas(members.index((task["type"], int(task["index"]))), addresses if len(addresses) > 1 else ())
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"TF_CONFIG={text}: not understood ({error!r}); a CustomJob sets it") from None
