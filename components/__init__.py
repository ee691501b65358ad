"""The stages' contracts: inputs, outputs, image and command of each; composed by `pipelines`."""

from components.compare import compare
from components.cross_validate import cross_validate
from components.deploy import deploy
from components.evaluate import evaluate, evaluate_classifier
from components.export import export
from components.image import Images
from components.ingest import ingest
from components.preset import preset
from components.skew import skew
from components.train import RETRY, train
from components.tune import tune

__all__ = [
    "RETRY",
    "Images",
    "compare",
    "cross_validate",
    "deploy",
    "evaluate",
    "evaluate_classifier",
    "export",
    "ingest",
    "preset",
    "skew",
    "train",
    "tune",
]
