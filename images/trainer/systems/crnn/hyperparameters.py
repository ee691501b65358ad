"""What can be tuned in the word reader, and the known good values."""

from __future__ import annotations

import dataclasses

from images.trainer.hyperparameters import Choice, Discrete, Float, When, within


@dataclasses.dataclass(frozen=True)
class Hyperparameters:
    """The word reader's hyperparameters.

    Attributes:
        architecture: what reads the columns of the image: dilated convolutions, or a bidirectional LSTM.
        learning_rate: AdamW's highest rate; it rises to it at first and falls to nothing along a cosine.
        batch_size: words a step.
        dropout: share of features dropped before the classifier and in each residual block.
        width: channels of the sequence model.
        activation: of every convolution.
        kernel_size: columns that one dilated convolution spans (tcn).
        lstm_units: units in each direction (bilstm).
    """

    architecture: str = within(Choice(("tcn", "bilstm")), "tcn")
    learning_rate: float = within(Float(5e-4, 1.6e-2, log=True), 4e-3)
    batch_size: int = within(Discrete((16, 32, 64)), 32)
    dropout: float = within(Float(0.0, 0.4), 0.1)
    width: int = within(Discrete((64, 96, 128)), 96)
    activation: str = within(Choice(("relu", "silu", "gelu")), "relu")
    kernel_size: int = within(Discrete((3, 5)), 3, when=When("architecture", ("tcn",)))
    lstm_units: int = within(Discrete((48, 64, 96)), 64, when=When("architecture", ("bilstm",)))
