"""Who is most like an identity: a few of those near it in code order, picked by their code vectors."""

import threading

import numpy as np

_ROWS = 32  # identities looked at together; their candidates' vectors are in memory


class Alike:
  """The k identities that are most like one, by cosine of code vectors, among those near it in code order.

  Near are `reach` places to either side in each of l orders: that of the codes, and those that begin with each other
  digit, so that every digit once matters least and codes that differ in any one of them lie together (a table that is
  sorted in several ways: Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002). With a
  reach of v - 1 these are at least all who share all digits but one.

  Opening sorts m codes l times and keeps 8 m l bytes; answers are computed when first asked for, each at a cost of
  2 l reach d whatever m is, and kept, 4 m k bytes. Several threads may ask at once. An answer is a function of codes
  and vectors alone, the same on every machine: products of float16 are exact in float64, and so are their sums.
  """

  def __init__(self, codes: np.ndarray, vectors: np.ndarray, k: int, reach: int):
    """codes: uint8 [m, l], unique rows; vectors: float16 [m, d], unit rows, memory-mapped or not; 1 <= k < m."""
    m, l = codes.shape
    self.vectors, self.k = vectors, k
    reach = max(reach, -(-k // 2))
    self.window = np.append(np.arange(-reach, 0), np.arange(1, reach + 1))
    self.order, self.place = np.empty((2, l, m), np.int32)
    for j in range(l):
      self.order[j] = np.lexsort(np.roll(codes, -j, axis=1).T[::-1])
      self.place[j, self.order[j]] = np.arange(m)
    self.answers = np.full((m, k), -1, np.int32)
    self.lock = threading.Lock()

  def __getstate__(self) -> dict:
    return self.__dict__ | {'lock': None}

  def __setstate__(self, state: dict) -> None:
    self.__dict__ |= state | {'lock': threading.Lock()}

  def of(self, labels: np.ndarray) -> np.ndarray:
    """labels y, int64 [n] -> int32 [n, k]: distinct others, most like first, equals in the order of labels."""
    with self.lock:
      new = np.unique(labels[self.answers[labels, 0] < 0])
      for start in range(0, len(new), _ROWS):
        part = new[start : start + _ROWS]
        self.answers[part] = self._search(part)
      return self.answers[labels]

  def _search(self, labels: np.ndarray) -> np.ndarray:
    l, m = self.order.shape
    around = (self.place[:, labels, None] + self.window) % m
    near = self.order[np.arange(l)[:, None, None], around]
    near = np.sort(np.moveaxis(near, 0, 1).reshape(len(labels), -1), axis=1)
    own = self.vectors[labels].astype(np.float64)
    cosine = np.einsum('bd,bnd->bn', own, self.vectors[near].astype(np.float64))
    cosine[near == labels[:, None]] = -np.inf
    cosine[:, 1:][near[:, 1:] == near[:, :-1]] = -np.inf  # met in several orders
    best = np.argsort(-cosine, axis=1, kind='stable')[:, : self.k]
    return np.take_along_axis(near, best, axis=1)
