"""The trainer image: ingest, trial, train, evaluate and export, each a module to run by itself."""

import os

from images.frameworks import import_lean

# TensorFlow reads these when it is imported. Errors only; and a thread for every other core: what runs beside it,
# another training or its own reading of examples, needs them, and two that share all cores take each twice as long.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(max(1, (os.cpu_count() or 1) // 2)))
import_lean()
