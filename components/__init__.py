"""The stages' contracts: inputs, outputs, image and command of each; composed by `pipelines`."""

from components.accelerators import accelerators
from components.challenge import challenge
from components.champion import champion
from components.compare import compare
from components.cross_validate import cross_validate
from components.deploy import deploy
from components.evaluate import evaluate, evaluate_classifier
from components.export import export
from components.follow import follow
from components.image import Images
from components.ingest import ingest
from components.notify import notify
from components.place import place
from components.preset import preset
from components.requests_log import requests_log
from components.skew import skew
from components.snapshot import snapshot
from components.train import RETRY, train
from components.tune import tune

__all__ = [
    "RETRY",
    "Images",
    "accelerators",
    "challenge",
    "champion",
    "compare",
    "cross_validate",
    "deploy",
    "evaluate",
    "evaluate_classifier",
    "export",
    "follow",
    "ingest",
    "notify",
    "place",
    "preset",
    "requests_log",
    "skew",
    "snapshot",
    "train",
    "tune",
]
