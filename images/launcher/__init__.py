"""Stages that ask Vertex AI to do something and wait for it; no TensorFlow here."""
