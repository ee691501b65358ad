"""What can be tuned in the digit reader, and the known good values."""

from __future__ import annotations

import dataclasses

from images.trainer.hyperparameters import Choice, Discrete, Float, When, within


@dataclasses.dataclass(frozen=True)
class Hyperparameters:
    """The digit reader's hyperparameters.

    Attributes:
        architecture: small residual convolutions, or the network of the classic tutorial.
        learning_rate: the highest rate; it rises to it at first and falls to nothing along a cosine. A trial gains
            by a higher one than the whole training bears: of 80 steps 8e-3 is best, of 6,000 it is 2e-3 or less.
        optimizer: AdamW, or the classic tutorial's Adam. Not searched.
        batch_size: digits a step. Not searched: trials are as many epochs, the training as many steps, so that a
            small batch would win the first and lose the second.
        dropout: share of features dropped before the classifier. Not searched, as augmentation is not: trials are too
            short to overfit, so that the least of either would win them.
        augmentation: how far digits are shifted, turned, slanted and stretched in training; 0 leaves them as they
            are, 1 is as far as they stay what they are.
        width: channels of the first convolution; later ones have twice and four times as many (modern). Not
            searched: what more of them cost in time, a trial's error rate does not show.
    """

    architecture: str = within(Choice(("modern", "classic")), "modern")
    learning_rate: float = within(Float(2.5e-4, 2e-3, log=True), 2e-3)
    optimizer: str = within(Choice(("adamw", "adam")), "adamw", searched=False)
    batch_size: int = within(Discrete((50, 64, 100, 128, 256)), 100, searched=False)
    dropout: float = within(Float(0.0, 0.5), 0.2, searched=False)
    augmentation: float = within(Float(0.0, 1.0), 0.6, searched=False)
    width: int = within(Discrete((16, 24, 32)), 16, When("architecture", ("modern",)), searched=False)

    @property
    def trial_share(self) -> float:
        """Of the digits that a trial may see, those that it does: what costs three times as much each sees a third."""
        return {"modern": 1.0, "classic": 1 / 3}[self.architecture]


PRESETS = {
    # The classic tutorial's own: Adam, 50 digits a step, half of the features dropped, digits as they are.
    "classic": Hyperparameters(
        "classic", learning_rate=1e-3, optimizer="adam", batch_size=50, dropout=0.5, augmentation=0.0
    ),
}
