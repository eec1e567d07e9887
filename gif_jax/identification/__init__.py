"""From digit probabilities to identities."""
