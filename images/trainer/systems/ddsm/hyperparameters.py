"""What can be tuned in the reader of mammograms, and the known good values."""

from __future__ import annotations

import dataclasses

from images.trainer.hyperparameters import Choice, Discrete, Float, When, within


@dataclasses.dataclass(frozen=True)
class Hyperparameters:
    """The hyperparameters of the reader of mammograms.

    Attributes:
        learning_rate: AdamW's highest rate; it rises to it at first and falls to nothing along a cosine.
        dropout: share of features dropped before the classifier.
        augmentation: how far mammograms are shifted, turned, stretched and exposed otherwise in training; 0 leaves
            them as they are, 1 is as far as they stay plausible.
        batch_size: mammograms a step; not searched: a short trial prefers many small steps.
        architecture: compact residual convolutions, or the network of the datathon's tutorial; not searched: they
            are compared, not chosen between.
        width: channels of the first convolution; later ones have twice and four times as many (residual).
    """

    learning_rate: float = within(Float(1e-3, 1.6e-2, log=True), 4e-3)
    dropout: float = within(Float(0.0, 0.5), 0.2)
    augmentation: float = within(Float(0.0, 1.0), 0.5)
    batch_size: int = within(Discrete((16, 32, 64, 96)), 16, searched=False)
    architecture: str = within(Choice(("residual", "tutorial")), "residual", searched=False)
    width: int = within(Discrete((8, 12, 16, 24, 32)), 16, when=When("architecture", ("residual",)), searched=False)


PRESETS = {
    "residual": Hyperparameters(),
    # The tutorial's own batch and dropout, its pictures as they are. Its plain gradient descent is replaced.
    "tutorial": Hyperparameters(1e-3, dropout=0.4, augmentation=0.0, batch_size=96, architecture="tutorial"),
}
