"""TinyFace: probes searched in a gallery with distractors."""
