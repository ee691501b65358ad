"""What takes the steps of a training, and the rate at which it does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

WARMUP_SHARE = 0.05
WEIGHT_DECAY = 0.004
LARGE = 2**20  # numbers; 4 MiB


def optimizer(
    learning_rate: float, steps: int, kind: str = "adamw", schedule: str = "cosine"
) -> keras.optimizers.Optimizer:
    """What takes the steps.

    Args:
        learning_rate: the highest; the rate rises to it at first.
        steps: of the whole training.
        kind: adamw, momentum or rmsprop, with decay of the weights and a limit to the gradients' norm; or adam (Kingma
            and Ba, 2015), which has neither.
        schedule: of the rate: cosine (Loshchilov and Hutter, 2017) falls to nothing in `steps`; exponential halves
            every tenth of them; constant stays.
    """
    rate = _Schedule(learning_rate, steps, schedule)
    if kind == "adam":
        return Adam(rate)
    common: dict[str, Any] = {"weight_decay": WEIGHT_DECAY, "global_clipnorm": 5.0}
    if kind == "momentum":
        return keras.optimizers.SGD(rate, momentum=0.9, **common)
    if kind == "rmsprop":
        return keras.optimizers.RMSprop(rate, momentum=0.9, **common)
    return AdamW(rate, **common)


class _Compiled(keras.optimizers.Optimizer):
    """An optimizer of Keras', compiled where weights are more than a processor's cache holds.

    It then goes over them two or three times instead of a dozen, which was half of a step of a network with a large
    dense layer.
    """

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Takes a step of all variables."""
        step = super().apply
        large = any(math.prod(variable.shape) >= LARGE for variable in self.variables)
        if large and keras.backend.backend() == "tensorflow":  # JAX compiles all there is
            tf.function(lambda grads: step(grads, trainable_variables), jit_compile=True)(grads)
        else:
            step(grads, trainable_variables)


class Adam(_Compiled, keras.optimizers.Adam):
    """Keras' Adam, compiled."""


class AdamW(_Compiled, keras.optimizers.AdamW):
    """Keras' AdamW, compiled."""


class _Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises in the first steps, then takes its course.

    Keras asks it once for every weight that decays: without a branch, unlike Keras' own, that costs next to nothing.

    Args:
        highest: rate.
        steps: of the whole training.
        course: cosine, exponential or constant; see `optimizer`.
    """

    def __init__(self, highest: float, steps: int, course: str) -> None:
        self.highest, self.steps, self.course = highest, steps, course

    def __call__(self, step: Any) -> Any:
        warmup = max(1, round(WARMUP_SHARE * self.steps))
        step = keras.ops.cast(step, "float32")
        after = keras.ops.maximum(0.0, step - warmup)
        if self.course == "cosine":
            done = keras.ops.minimum(1.0, after / max(1, self.steps - warmup))
            rising = keras.ops.minimum(1.0, 1 / 25 + (1 - 1 / 25) * step / warmup)
            return self.highest * rising * 0.5 * (1.0 + keras.ops.cos(math.pi * done))
        rising = keras.ops.minimum(1.0, (step + 1.0) / warmup)
        halvings = after / max(1, self.steps // 10) if self.course == "exponential" else 0.0
        return self.highest * rising * 0.5**halvings

    def get_config(self) -> dict[str, Any]:
        return {"highest": self.highest, "steps": self.steps, "course": self.course}
