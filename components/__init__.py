"""The stages' contracts: inputs, outputs, image and command of each; composed by `pipelines`."""

from components.deploy import deploy
from components.evaluate import evaluate
from components.export import export
from components.image import Images
from components.ingest import ingest
from components.train import train
from components.tune import tune

__all__ = ["Images", "deploy", "evaluate", "export", "ingest", "train", "tune"]
