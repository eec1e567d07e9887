"""How often the right person, or the right digit, is named."""

from collections.abc import Sequence

import numpy as np


def digit_accuracy(log_probs: np.ndarray, codes: np.ndarray) -> list[float]:
  """Share of examples whose digit j is read right, for j = 0..l-1.

  The full code is read right in about the product of these: digit accuracy is what bounds decoding.

  Args:
    log_probs: float32 [n, l, v].
    codes: uint8 [n, l], the true code of every example.
  """
  return np.mean(np.argmax(log_probs, axis=-1) == np.asarray(codes), axis=0).tolist()


def rank_rates(candidates: np.ndarray, label: np.ndarray, ranks: Sequence[int] = (1, 5)) -> dict[int, float]:
  """Share of examples whose identity is among the first `rank` candidates, for each rank.

  Args:
    candidates: int [n, K], identities, best first; -1 fills places without a candidate.
    label: int64 [n], the true identity.
    ranks: each at most K.

  Raises:
    ValueError: a rank above K.
  """
  candidates, label = np.asarray(candidates), np.asarray(label)
  if max(ranks) > candidates.shape[1]:
    raise ValueError(f'rank {max(ranks)} needs as many candidates, got {candidates.shape[1]}: search with a larger k')
  hit = candidates == label[:, None]
  return {rank: float(hit[:, :rank].any(axis=1).mean()) for rank in ranks}
