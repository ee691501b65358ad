"""What can be tuned."""

from __future__ import annotations

import dataclasses

from images.trainer.hyperparameters import Discrete, Float, within


@dataclasses.dataclass(frozen=True)
class Hyperparameters:
    """Of a network with one hidden layer.

    Attributes:
        learning_rate: AdamW's highest rate.
        batch_size: points a step.
        units: of the hidden layer.
    """

    learning_rate: float = within(Float(1e-3, 0.1, log=True), 0.03)
    batch_size: int = within(Discrete((16, 32)), 16)
    units: int = within(Discrete((8, 16)), 16)


PRESETS = {"small": Hyperparameters(units=8)}
