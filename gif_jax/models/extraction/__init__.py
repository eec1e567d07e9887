"""A network over a whole set of images."""
