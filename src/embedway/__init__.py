"""Embedway: an OpenAI-compatible gateway for embeddings, with a model in the same process."""

__version__ = "0.1.0"
