"""From one vector per identity to one code per identity: a sum of one book entry per digit, and no code twice."""

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix

from gif_jax.codes.assign import assign
from gif_jax.codes.kmeans import kmeans

ROUNDS = 32  # of fitting the books and exchanging codes
BLOCK = 256  # identities that exchange codes at a time, at a cost of BLOCK**3
LEARN_FROM = 2048  # times v: identities that the first books are learnt from
RIDGE = 1e-3  # times the identities per entry: one entry may move by any vector that another digit's entries move back


def build_codes(vectors, l, v, *, seed=0, rounds=ROUNDS, block=BLOCK, earlier=None):
  mean = vectors.mean(0)
  rng = np.random.default_rng(seed)
  codes = _begin(vectors, mean, l, v, rng) if earlier is None else earlier.astype(np.int64)
  for r in range(rounds):
    books = _books(vectors, mean, codes, v)
    _exchange(vectors, mean, codes, books, r % l, rng, block)
  return codes.astype(np.uint8)


def _begin(vectors, mean, l, v, rng):
  """Product quantisation, each digit with room for only so many that codes come out unique."""
  m = len(vectors)
  part = np.sort(rng.permutation(m)[: LEARN_FROM * v])
  sample = vectors[part] - mean
  spread, axes = eigh(sample.T @ sample)
  codes, node = np.empty((m, l), np.int64), np.zeros(m, np.int64)
  everyone = np.ones((1, len(part)), bool)
  for j, own in enumerate(_deal(spread, l)):
    view = axes[:, own].astype(np.float32)
    points = sample @ view
    digit = kmeans(points[None], everyone, v, -(-len(part) // v), 10, rng)[0]
    member = (digit == np.arange(v)[:, None]).astype(np.float32)
    centres = member @ points / np.maximum(member.sum(1, keepdims=True), 1)
    cost = np.einsum('vd,vd->v', centres, centres) - 2 * ((vectors - mean) @ view) @ centres.T
    codes[:, j] = assign(cost, node, min(v ** (l - j - 1), m))
    node = np.unique(node * v + codes[:, j], return_inverse=True)[1]
  return codes


def _deal(spread, l):
  """Axes in l groups of about the same spread, the widest axes first."""
  groups, load = [[] for _ in range(l)], np.zeros(l)
  for axis in np.argsort(-spread):
    group = load.argmin()
    groups[group].append(axis)
    load[group] += max(spread[axis], 0)
  return groups


def _books(vectors, mean, codes, v):
  """Books [l, v, d] of least squares."""
  m, l = codes.shape
  entry = (codes + v * np.arange(l)).ravel()
  one = csr_matrix((np.ones(m * l, np.float32), entry, np.arange(0, m * l + 1, l)), (m, l * v))
  gram = (one.T @ one).toarray().astype(np.float64) + RIDGE * m / v * np.eye(l * v)
  total = one.T @ vectors - np.bincount(entry, minlength=l * v)[:, None] * mean
  return np.linalg.solve(gram, total).astype(np.float32).reshape(l, v, -1)


def _words(codes, books):
  return sum(book[digit] for book, digit in zip(books, codes.T))


def _exchange(vectors, mean, codes, books, j, rng, block):
  """Exchanges codes, in place, among people whose codes lie near each other in a random direction."""
  direction = books @ rng.standard_normal(books.shape[2]).astype(np.float32)
  key = sum(value[digit] for value, digit in zip(direction, codes.T))
  order = np.argsort(key, kind='stable')
  free, near = _free(vectors, mean, codes, books, j)
  place = np.empty(len(codes), np.int64)
  place[order] = np.arange(len(codes)) // block
  free = free[np.argsort(place[near], kind='stable')]
  ends = np.searchsorted(np.sort(place[near]), np.arange(len(codes) // block + 2))
  for k, start in enumerate(range(0, len(codes), block)):
    own = order[start : start + block]
    offer = np.concatenate([codes[own], free[ends[k] : ends[k + 1]]])
    words = _words(offer, books)
    cost = np.einsum('nd,nd->n', words, words) - 2 * ((vectors[own] - mean) @ words.T)
    codes[own] = offer[linear_sum_assignment(cost)[1]]


def _free(vectors, mean, codes, books, j):
  """Codes nobody has, that are someone's own with a better digit j; and whose."""
  m, l = codes.shape
  v = books.shape[1]
  if v**l == m:
    return codes[:0], np.zeros(0, np.int64)
  rest = sum(books[k][codes[:, k]] for k in range(l) if k != j)
  cost = np.einsum('vd,vd->v', books[j], books[j]) - 2 * ((vectors - mean - rest) @ books[j].T)
  better = codes.copy()
  better[:, j] = cost.argmin(1)
  power = v ** np.arange(l - 1, -1, -1)
  number, near = np.unique(better @ power, return_index=True)
  new = ~np.isin(number, codes @ power)
  return better[near[new]], near[new]
