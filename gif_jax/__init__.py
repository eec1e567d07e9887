"""GIF in JAX: face recognition with identity codes instead of a softmax over every identity."""
