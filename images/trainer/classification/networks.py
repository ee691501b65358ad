"""Parts of networks that read pictures.

The residual blocks are those of He et al., "Identity Mappings in Deep Residual Networks" (2016); where they start as
nothing they need no norms, as in Zhang et al., "Fixup Initialization" (2019). The tutorial's network is that of
TensorFlow's "Deep MNIST for Experts", which later tutorials took over: two 5 x 5 convolutions with pooling and a dense
layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import layers

TUTORIAL_CHANNELS = (32, 64)
TUTORIAL_UNITS = 1024

Activate = Callable[[Any, str | None], Any]


def rectified(features: Any, name: str | None = None) -> Any:
    """Without a norm."""
    return layers.Activation("relu", name=name and f"{name}_relu")(features)


def residual(
    features: Any,
    activate: Activate = rectified,
    weights: tuple[str, str] = ("he_normal", "zeros"),
    name: str | None = None,
) -> Any:
    """A block of two 3 x 3 convolutions, added to its input.

    Args:
        features: [N, height, width, channels].
        activate: what comes before each convolution.
        weights: what those of each convolution are at first; if they are zeros in the second, so is the block.
        name: begins the layers' names.
    """
    change = features
    for number, first in enumerate(weights, start=1):
        own = name and f"{name}_{number}"
        convolution = layers.Conv2D(features.shape[-1], 3, padding="same", kernel_initializer=first, name=own)
        change = convolution(activate(change, own))
    return layers.Add()([features, change])


def tutorial(features: Any) -> Any:
    """The tutorial's network up to its dense layer: from [N, height, width, channels] to [N, 1024]."""
    for channels in TUTORIAL_CHANNELS:
        features = layers.Conv2D(channels, 5, padding="same", activation="relu")(features)
        features = layers.MaxPooling2D()(features)
    return layers.Dense(TUTORIAL_UNITS, activation="relu")(layers.Flatten()(features))
