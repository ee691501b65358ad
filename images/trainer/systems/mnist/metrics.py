"""How right digits are read."""

from images.trainer.classification.scores import MONITOR, confusion, evaluate, measure

__all__ = ["MONITOR", "confusion", "evaluate", "measure"]
