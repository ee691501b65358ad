"""How right quadrants are told apart."""

from images.trainer.classification.scores import MONITOR, confusion, evaluate, measure

__all__ = ["MONITOR", "confusion", "evaluate", "measure"]
