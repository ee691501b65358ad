"""What a training took: machines, time, money."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLUMNS = ("workers", "machine", "wall time", "device-hours", "examples/s", "cost")


@dataclasses.dataclass(frozen=True)
class Taken:
    """What a training took.

    Attributes:
        workers: machines that trained together.
        machine: type of each of them, with its accelerators.
        seconds: wall time.
        examples_per_second: trained on by all machines together.
        cost: US dollars; None where a price is not known.
    """

    workers: int
    machine: str
    seconds: float
    examples_per_second: float
    cost: float | None

    @property
    def device_hours(self) -> float:
        """Hours of all machines together."""
        return self.workers * self.seconds / 3600

    def cells(self) -> list[str]:
        """A table's cells under `COLUMNS`."""
        return [
            str(self.workers),
            self.machine or "not known",
            f"{self.seconds:.0f} s",
            f"{self.device_hours:.4f}",
            f"{self.examples_per_second:,.0f}",
            "not known" if self.cost is None else f"${self.cost:.4f}",
        ]


def taken(model: str, prices: Mapping[str, Any]) -> Taken:
    """What the training of a model took.

    Args:
        model: the folder that train wrote.
        prices: `machines` and `accelerators`: US dollars an hour by type.
    """
    trained = json.loads((Path(model) / "training.json").read_text(encoding="utf-8"))
    machine, accelerator = trained.get("machine_type", ""), trained.get("accelerator_type", "")
    count = int(trained.get("accelerator_count", 0))
    parts = [prices["machines"].get(machine), *([prices["accelerators"].get(accelerator)] * count)]
    shown = machine + (f", {count} {accelerator}" if machine and count else "")
    hours = trained["workers"] * trained["seconds"] / 3600
    cost = None if None in parts else hours * sum(parts)
    return Taken(trained["workers"], shown, trained["seconds"], trained["examples_per_second"], cost)
