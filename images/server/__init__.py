"""The server image: answers predictions from any TensorFlow SavedModel, as Vertex's endpoints do."""
