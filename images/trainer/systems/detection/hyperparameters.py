"""What can be tuned in the detector, and the known good values."""

from __future__ import annotations

import dataclasses

from images.trainer.hyperparameters import Choice, Discrete, Float, Integer, within


@dataclasses.dataclass(frozen=True)
class Hyperparameters:
    """The detector's hyperparameters.

    Only the rate is searched: trials are short, and would choose less augmentation and smaller batches than the long
    training needs; what more channels cost, and how answers overlap, their loss does not show.

    Attributes:
        learning_rate: the highest; it rises to it at first.
        batch_size: pictures a step.
        optimizer: AdamW, or stochastic gradient descent with momentum, or RMSprop.
        schedule: after its rise the rate falls along a cosine, falls by half again and again, or stays.
        width: channels of the first convolution; later ones have up to six times as many.
        depth: residual blocks at each resolution.
        zoom: pictures are made larger or smaller by up to this factor in training; 1 leaves their size.
        stretch: one side is made longer than the other by up to this share.
        flip: share of pictures that are mirrored, left to right.
        colour: how far brightness, contrast, saturation and tint are changed; 0 leaves them, 1 is far.
        nms_iou: of two detections of a class that overlap by more than this share, the weaker gives way.
    """

    learning_rate: float = within(Float(5e-4, 1.6e-2, log=True), 4e-3)
    batch_size: int = within(Discrete((8, 16, 24, 32, 64)), 16, searched=False)
    optimizer: str = within(Choice(("adamw", "momentum", "rmsprop")), "adamw", searched=False)
    schedule: str = within(Choice(("cosine", "exponential", "constant")), "cosine", searched=False)
    width: int = within(Discrete((8, 12, 16, 24, 32, 48)), 12, searched=False)
    depth: int = within(Integer(1, 3), 1, searched=False)
    zoom: float = within(Float(1.0, 3.0), 1.5, searched=False)
    stretch: float = within(Float(0.0, 0.5), 0.15, searched=False)
    flip: float = within(Float(0.0, 1.0), 0.5, searched=False)
    colour: float = within(Float(0.0, 1.0), 0.5, searched=False)
    nms_iou: float = within(Float(0.3, 0.8), 0.5, searched=False)
