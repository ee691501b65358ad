"""The server image: answers predictions from any TensorFlow SavedModel, as Vertex's endpoints do."""

from images.frameworks import import_lean

import_lean()
