"""What a release of the digit reader compares."""

from images.trainer.classification.release import errors, slices
from images.trainer.picture_files import requests

__all__ = ["errors", "requests", "slices"]
