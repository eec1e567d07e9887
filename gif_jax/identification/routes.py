"""Routes to a training identity: from what a network says of images to who is on them."""

from collections.abc import Callable, Iterable
from functools import cached_property

import numpy as np

from gif_jax.codes.identities import LabelSpace
from gif_jax.identification import rerank, vector_tree
from gif_jax.identification.beam_search import DecodeIndex, build_index, decode
from gif_jax.identification.nearest import nearest

FIRST = 5  # people a route names
TREES = 2  # whoever lies at the edge of a node in one does not in the other; better than a beam twice as wide


class ClosedSet:
  """What a network says of n images of training identities. Every route gives int [n, 5]: who it is, best first.

  All but `nearest` cost O(log m) an image. What they have in common is made when it is first asked for.
  """

  def __init__(
    self,
    embedding: np.ndarray,
    log_probs: np.ndarray | None,
    labels: np.ndarray,
    table: LabelSpace,
    vectors: np.ndarray,
    beam: int,
    trees_up_to: int,
    sequence: Callable[[DecodeIndex], np.ndarray] | None = None,
  ):
    """embedding float32 [n, d]; log_probs float32 [n, l, v], of `table`'s codes, None for a softmax; labels int64 [n];
    vectors float [m, d], code vectors or a softmax's centres; beam: width of every search; trees_up_to: people, at
    most, whose vectors are clustered for the tree, which takes minutes for millions; sequence(index) -> int [n, 5]:
    who a sequence decoder reads among the codes of a `DecodeIndex`."""
    self.embedding, self.labels = embedding, np.asarray(labels)
    self.log_probs = np.zeros((len(embedding), 0, 0), np.float32) if log_probs is None else log_probs
    self.table, self.vectors, self.beam, self.in_order = table, vectors, beam, sequence
    self.clusters = len(vectors) <= trees_up_to

  def routes(self) -> dict[str, Callable[[], np.ndarray]]:
    """Name -> route, of all that there are. Those of codes read digits; brute force is named after what it compares."""
    routes = {'tree': self.tree} if self.clusters or self.table.l else {}
    if not self.table.l:
      return routes | {'centre': self.nearest}
    in_order = {'sequence': self.sequence} if self.in_order else {}
    digits = {'decode': self.decode} | in_order | {'rerank': self.rerank, 'fused': self.fused}
    return digits | routes | {'vector': self.nearest}

  def nearest(self) -> np.ndarray:
    """Brute force, which the others are measured by: the largest z . h of all m."""
    return nearest(self.embedding, self.vectors, FIRST)

  def decode(self) -> np.ndarray:
    """The most likely codes, by digits alone."""
    return self._by_digits[:, :FIRST]

  def sequence(self) -> np.ndarray:
    """The most likely codes, each digit given those before it."""
    if self.in_order is None:
      raise ValueError('there is no sequence decoder: give `sequence`')
    return self.in_order(self._index)

  def rerank(self) -> np.ndarray:
    """The `beam` most likely codes, by z . h."""
    return self._best(self._by_digits, rerank.cosines(self.embedding, self._by_digits, self.vectors))

  def tree(self) -> np.ndarray:
    """Those below the `beam` nearest nodes of each of two trees over the vectors, by z . h.

    Where there are too many people for clustering, below those of the codes' trie, of which a softmax has none.
    """
    return self._best(self._by_tree, rerank.cosines(self.embedding, self._by_tree, self.vectors))

  def fused(self) -> np.ndarray:
    """The candidates of digits and of the trees together, by log p + weight z . h.

    The weight is chosen on the other half of the images, so no image has a say in the weight it is judged with.
    """
    candidates, log_p, cosine = self._by_both
    weight = np.array(self.weights[::-1])[np.arange(len(candidates)) % 2]
    return self._best(candidates, log_p + weight[:, None] * cosine)

  @cached_property
  def weights(self) -> list[float]:
    """The weight of z . h beside log p that is best on the images of even numbers, and that on those of odd ones."""
    return [rerank.choose_weight(*(part[i::2] for part in (*self._by_both, self.labels))) for i in (0, 1)]

  @cached_property
  def _index(self) -> DecodeIndex:
    return build_index(np.asarray(self.table.codes), self.table.v)

  @cached_property
  def _by_digits(self) -> np.ndarray:
    return np.asarray(decode(self._index, self.log_probs, self.beam, max(self.beam, FIRST))[0])

  @cached_property
  def _by_tree(self) -> np.ndarray:
    trees: Iterable[vector_tree.Tree]
    if self.clusters:
      trees = (vector_tree.grow(self.vectors, seed) for seed in range(TREES))
    else:
      trees = (vector_tree.plant(np.asarray(self.table.codes), self.vectors, self.table.v),)
    return rerank.together(*(np.asarray(vector_tree.candidates(one, self.embedding, self.beam)) for one in trees))

  @cached_property
  def _by_both(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    candidates = rerank.together(self._by_digits, self._by_tree)
    log_p = rerank.code_scores(self.log_probs, candidates, self.table.codes)
    return candidates, log_p, rerank.cosines(self.embedding, candidates, self.vectors)

  def _best(self, candidates: np.ndarray, score: np.ndarray) -> np.ndarray:
    return np.asarray(rerank.best(candidates, score, FIRST))
