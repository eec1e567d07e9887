"""Embeddings in, figures of the field out: verification, identification rates, reports."""
