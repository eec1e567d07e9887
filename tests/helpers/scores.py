"""Embeddings that have given scores."""

import numpy as np


def unit(rows):
  return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def with_scores(score):
  """Vectors of templates, the gallery's first, so that probe i and gallery template j have the cosine score[i][j]."""
  score = np.array(score, float)
  known = np.eye(score.shape[1], score.shape[1] + 1)
  return np.concatenate([known, np.c_[score, np.sqrt(1 - (score**2).sum(1))]])
