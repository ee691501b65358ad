"""Amounts of a resource as Kubernetes writes them: `500m` cores, `8G` or `512Mi` bytes.

Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

import re

from localvertex.workloads import WorkloadError

_DECIMAL = {suffix: 1000.0**power for power, suffix in enumerate("kMGTPE", 1)} | {"": 1.0, "m": 0.001, "K": 1000.0}
_BINARY = {f"{suffix}i": 1024.0**power for power, suffix in enumerate("KMGTPE", 1)}
_UNITS = _DECIMAL | _BINARY
_FORM = re.compile(r"([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)([A-Za-z]*)")


def quantity(text: str) -> float:
    """The number that a quantity stands for; 0 for an empty text.

    Raises:
        WorkloadError: it is none.
    """
    if not text:
        return 0
    found = _FORM.fullmatch(text)
    if found is None or found[2] not in _UNITS:
        raise WorkloadError(f"'{text}' is not a quantity such as 2, 500m, 8G or 512Mi.")
    return float(found[1]) * _UNITS[found[2]]
