"""Face crops: where they come from and how they reach the training step."""
