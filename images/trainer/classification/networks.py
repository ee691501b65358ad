"""Parts of networks that read pictures.

The residual blocks are those of He et al., "Identity Mappings in Deep Residual Networks" (2016). The tutorial's network
is that of TensorFlow's "Deep MNIST for Experts", which later tutorials took over: two 5 x 5 convolutions with pooling
and a dense layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import layers

TUTORIAL_CHANNELS = (32, 64)
TUTORIAL_UNITS = 1024

Activate = Callable[[Any, str | None], Any]


def activated(features: Any, name: str | None = None) -> Any:
    """Normalised within each place, which keeps no moving averages, and rectified; `name` begins that of the norm."""
    norm = layers.LayerNormalization(name=name and f"{name}_norm")
    return layers.Activation("relu")(norm(features))


def residual(features: Any, activate: Activate = activated, name: str | None = None) -> Any:
    """A block of two 3 x 3 convolutions, added to its input.

    Args:
        features: [N, height, width, channels].
        activate: what comes before each convolution.
        name: begins the layers' names.
    """
    change = features
    for number in (1, 2):
        own = name and f"{name}_{number}"
        change = layers.Conv2D(features.shape[-1], 3, padding="same", name=own)(activate(change, own))
    return layers.Add()([features, change])


def tutorial(features: Any) -> Any:
    """The tutorial's network up to its dense layer: from [N, height, width, channels] to [N, 1024]."""
    for channels in TUTORIAL_CHANNELS:
        features = layers.Conv2D(channels, 5, padding="same", activation="relu")(features)
        features = layers.MaxPooling2D()(features)
    return layers.Dense(TUTORIAL_UNITS, activation="relu")(layers.Flatten()(features))
