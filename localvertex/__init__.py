"""Vertex AI on localhost: the API, the engine that executes PipelineSpec, and their stores."""
