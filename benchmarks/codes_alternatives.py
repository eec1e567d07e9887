"""Ways to make codes that were compared with what the package has: (vectors [m, d], l, v, seed) -> codes [m, l]."""

from functools import partial

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import linear_sum_assignment

from benchmarks import codes_additive
from gif_jax.codes.assign import assign
from gif_jax.codes.kmeans import kmeans
from gif_jax.codes.tree import build_codes, random_codes


def _balanced(points, v, seed):
  m = len(points)
  return kmeans(points[None], np.ones((1, m), bool), v, -(-m // v), 10, np.random.default_rng(seed))[0]


def _every_code(l, v):
  return np.indices((v,) * l).reshape(l, -1).T


def match(score):
  """Unique codes [m, l] with the largest sum of score [m, l, v], exact."""
  _, l, v = score.shape
  every = _every_code(l, v)
  total = sum(score[:, j, every[:, j]] for j in range(l))
  return every[linear_sum_assignment(total, maximize=True)[1]]


def nearest_unique(h, books):
  """Unique codes whose sums of book entries [l, v, d] are nearest, exact: [m, l]."""
  l, v, _ = books.shape
  every = _every_code(l, v)
  words = sum(books[j][every[:, j]] for j in range(l))
  cost = np.einsum('nd,nd->n', words, words) - 2 * (h @ words.T)
  return every[linear_sum_assignment(cost)[1]]


def nearest_tree(h, books):
  """Unique codes digit by digit under the capacities of a full tree: the nearest book entry that has room."""
  l, v, _ = books.shape
  left, node = h.copy(), np.zeros(len(h), np.int64)
  codes = np.empty((len(h), l), np.int64)
  for j in range(l):
    cost = np.einsum('vd,vd->v', books[j], books[j]) - 2 * (left @ books[j].T)
    codes[:, j] = place(cost, node, v ** (l - j - 1))
    left -= books[j][codes[:, j]]
    node = np.unique(node * v + codes[:, j], return_inverse=True)[1]
  return codes


def place(cost, node, capacity):
  """Child of every point: exact where each child takes one, else by bids."""
  if capacity > 1:
    return assign(cost.astype(np.float32), node, capacity)
  order = np.argsort(node, kind='stable')
  child = np.empty(len(node), np.int64)
  for part in np.split(order, np.flatnonzero(np.diff(node[order])) + 1):
    child[part] = linear_sum_assignment(cost[part])[1]
  return child


def _fit_books(h, codes, v):
  """Least squares: the books [l, v, d] whose sums are nearest to h."""
  m, l = codes.shape
  one = np.zeros((m, l * v), np.float32)
  np.put_along_axis(one, codes + v * np.arange(l), 1, 1)
  gram = one.T @ one + 1e-2 * np.eye(l * v, dtype=np.float32)
  return np.linalg.solve(gram, one.T @ h).reshape(l, v, -1).astype(np.float32)


def pq_books(h, l, v, seed):
  """Product quantisation: principal axes dealt to l groups of like variance, k-means in each."""
  centred = h - h.mean(0)
  spread, axes = eigh(centred.T @ centred)
  group, load = np.empty(len(spread), int), np.zeros(l)
  for i in np.argsort(-spread):
    group[i] = load.argmin()
    load[group[i]] += max(spread[i], 0)
  books = np.zeros((l, v, h.shape[1]), np.float32)
  for j in range(l):
    own = axes[:, group == j].astype(np.float32)
    digit = _balanced(centred @ own, v, [seed, j])
    for k in range(v):
      books[j, k] = own @ (centred[digit == k] @ own).mean(0)
  return books


def rq_books(h, l, v, seed):
  left = h - h.mean(0)
  books = np.zeros((l, v, h.shape[1]), np.float32)
  for j in range(l):
    digit = _balanced(left, v, [seed, j])
    for k in range(v):
      books[j, k] = left[digit == k].mean(0)
    left = left - books[j][digit]
  return books


def additive(h, l, v, seed, start, unique=nearest_unique, rounds=0):
  h = h - h.mean(0)
  books = start(h, l, v, seed)
  codes = unique(h, books)
  for _ in range(rounds):
    books = _fit_books(h, codes, v)
    codes = unique(h, books)
  return codes


def shared_tree(h, l, v, seed, against='parent', rounds=10):
  """A tree whose levels share v residual prototypes: Lloyd over all nodes at once, under the tree's capacities."""
  h = h - h.mean(0)
  node, left = np.zeros(len(h), np.int64), h.copy()
  codes = np.empty((len(h), l), np.int64)
  for j in range(l):
    digit = _balanced(left, v, [seed, j])
    for _ in range(rounds):
      books = np.stack([left[digit == k].mean(0) if (digit == k).any() else np.zeros_like(left[0]) for k in range(v)])
      cost = np.einsum('vd,vd->v', books, books) - 2 * (left @ books.T)
      digit = place(cost, node, v ** (l - j - 1))
    codes[:, j] = digit
    node = np.unique(node * v + digit, return_inverse=True)[1]
    if against == 'parent':
      total = np.zeros((node.max() + 1, h.shape[1]), np.float32)
      np.add.at(total, node, h)
      left = h - (total / np.bincount(node)[:, None])[node]
    else:
      left = left - books[digit]
  return codes


def discriminant(h, codes, v, shrink=1e-3):
  """Linear discriminant analysis from h to every digit: log-probabilities [m, l, v]."""
  out = []
  for digit in codes.T:
    one = np.eye(v, dtype=np.float32)[digit]
    means = (one.T @ h) / np.maximum(one.sum(0), 1)[:, None]
    left = h - means[digit]
    within = left.T @ left / len(h)
    within += shrink * np.trace(within) / len(within) * np.eye(len(within)) * 100
    w = np.linalg.solve(within, means.T)
    logits = h @ w - 0.5 * np.einsum('vd,dv->v', means, w)
    out.append(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
  return np.stack(out, 1)


def readable(h, l, v, seed, start, rounds=10):
  """Codes re-assigned to what a linear reader reads, uniquely and exactly."""
  codes = np.asarray(start(h, l, v, seed), np.int64)
  for _ in range(rounds):
    codes = match(discriminant(h, codes, v))
  return codes


def tree(h, l, v, seed, align=True):
  return build_codes(h, l, v, align=align, seed=seed, progress=False).codes


VARIANTS = {
  'shared tree, parent': shared_tree,
  'shared tree, sum': partial(shared_tree, against='sum'),
  'PQ in tree': partial(additive, start=pq_books, unique=nearest_tree),
  'RQ in tree': partial(additive, start=rq_books, unique=nearest_tree),
  'PQ matched': partial(additive, start=pq_books),
  'RQ matched': partial(additive, start=rq_books),
  'AQ matched, from PQ': partial(additive, start=pq_books, rounds=10),
  'AQ matched, from RQ': partial(additive, start=rq_books, rounds=10),
  'AQ in tree, from PQ': partial(additive, start=pq_books, unique=nearest_tree, rounds=10),
  'AQ in tree, from RQ': partial(additive, start=rq_books, unique=nearest_tree, rounds=10),
  'AQ in blocks': lambda h, l, v, seed: codes_additive.build_codes(h, l, v, seed=seed),
  'AQ in blocks, from tree': lambda h, l, v, seed: codes_additive.build_codes(
    h, l, v, seed=seed, earlier=tree(h, l, v, seed)),
  'AQ in blocks, from random': lambda h, l, v, seed: codes_additive.build_codes(
    h, l, v, seed=seed, earlier=random_codes(len(h), l, v, seed)),
  'readable, from PQ': partial(readable, start=partial(additive, start=pq_books)),
  'readable, from tree': partial(readable, start=tree),
}
