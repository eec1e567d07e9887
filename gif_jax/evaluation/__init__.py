"""Embeddings in, metrics of the field out: verification, identification rates, reports."""
