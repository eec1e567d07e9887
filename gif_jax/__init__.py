"""GIF in JAX: face recognition with identity codes instead of a softmax over every identity."""

__version__ = '0.1.0'
