"""The trainer image: ingest, trial, train, evaluate and export, each a module to run by itself."""

import os

from images.frameworks import import_lean

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow reads it when it is imported: errors only.
import_lean()
