"""The forms in which people have images: each opened as Records."""
