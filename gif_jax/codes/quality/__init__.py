"""How good the codes of a table are."""
