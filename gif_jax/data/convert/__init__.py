"""Data sets made of others."""
