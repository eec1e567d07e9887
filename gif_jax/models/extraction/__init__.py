"""A network over a set of images."""
