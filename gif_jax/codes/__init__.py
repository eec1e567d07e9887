"""The offline half: from one vector per identity to the identity-code table. Is handed arrays, knows no images."""
