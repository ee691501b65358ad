"""What can be tuned in the species classifier, and the known good values."""

from __future__ import annotations

import dataclasses

from images.trainer.hyperparameters import Choice, Discrete, Float, within


@dataclasses.dataclass(frozen=True)
class Hyperparameters:
    """The species classifier's hyperparameters.

    Attributes:
        hidden_units: units of each hidden layer; 10-20-10 is the classic tutorial's.
        learning_rate: AdamW's highest rate; it rises to it at first and falls to nothing along a cosine.
        batch_size: rows a step.
        dropout: share of features dropped after each hidden layer.
        activation: of the hidden layers.
    """

    hidden_units: str = within(Choice(("10-20-10", "8", "16", "32-16")), "16")
    learning_rate: float = within(Float(3e-3, 4e-2, log=True), 0.02)
    batch_size: int = within(Discrete((8, 16, 32)), 16)
    dropout: float = within(Float(0.0, 0.4), 0.0)
    activation: str = within(Choice(("relu", "tanh")), "tanh")
