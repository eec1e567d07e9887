"""From one vector per identity to one code per identity: product quantisation in which no code is given twice."""

import itertools

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix
from tqdm import tqdm

from gif_jax.codes.assign import assign
from gif_jax.codes.blocks import blocks
from gif_jax.codes.kmeans import kmeans
from gif_jax.codes.size import check_countable, check_vectors
from gif_jax.core.storage.resume import Draft

ROUNDS = 32  # of exchanging codes
SETTLE = 8  # rounds before the books follow the codes: the first codes are too far from what was to be coded
BLOCK = 256  # identities that exchange codes among themselves, at a cost of BLOCK**3
LEARN_FROM = 65536  # identities that the first books are learnt from, at most
CHOICES = 12  # nearest centres of a digit that newcomers look at
SWEEPS = 3  # over all pairs of digits, for newcomers
LLOYD = 10  # iterations of k-means for the first books
ROWS = 16384  # vectors in float32 at a time


def build_codes(
  vectors: np.ndarray,
  l: int,
  v: int,
  *,
  seed: int = 0,
  progress: bool = True,
  earlier: np.ndarray | None = None,
  draft: Draft | None = None,
) -> np.ndarray:
  """Every digit names the nearest of v centres in a subspace of its own (docs/method.md, 1.3).

  The subspaces are orthogonal, so that digits say different things, each of which one small head can read whatever the
  other digits are (Jegou et al., "Product quantization for nearest neighbor search", PAMI 2011; turned subspaces: Ge et
  al., "Optimized product quantization", CVPR 2013). Nearest centres would give many identities one code; so codes start
  unique and are then only exchanged, in rounds: identities in blocks of `BLOCK` share the block's codes out anew such
  that the distance to their centres has the smallest sum. Time grows as m, memory as m * l * v beside the vectors.

  Args:
    vectors: float16 or float32 [m, d], finite: the code vectors h, or whatever the codes shall describe. Read a block
      at a time, so they may be memory-mapped.
    l, v: digits in a code, values of a digit (2..256), m <= v**l <= 2**62.
    seed: the codes are a function of the arguments.
    progress: show a bar over identities times rounds.
    earlier: uint8 [m, l], codes of earlier vectors of the same identities, to begin with: digits keep their meaning.
    draft: where a run that is killed finds the rounds that were done.

  Returns uint8 [m, l], unique rows, digits 0..v-1. Raises ValueError for sizes that do not fit, naming `tokenizer.l`
  and `tokenizer.v`, and for vectors that are not finite, naming the row.
  """
  vectors = np.asarray(vectors)
  check_vectors(vectors)
  check_countable(len(vectors), l, v)
  m, mean = len(vectors), _mean(vectors)
  done, codes = (draft and draft.load('codes')) or (0, earlier)
  settled = 0 if earlier is not None else SETTLE
  if done < settled:
    books = _first_books(vectors, mean, l, v, np.random.default_rng(seed))
    cost = _cost(vectors, mean, books)
    codes = _first_codes(cost) if codes is None else codes
  codes = np.array(codes, np.int64)
  with tqdm(desc='codes', total=m * ROUNDS, initial=m * done, unit='id', unit_scale=True, disable=not progress) as bar:
    for i in range(done, ROUNDS):
      if i >= settled:
        books = _books(*_centres(vectors, mean, codes, v))
        cost = _cost(vectors, mean, books)
      exchange(codes, cost, books, i % l if v**l > m else None, np.random.default_rng([seed, i]))
      bar.update(m)
      if draft:
        draft.save('codes', i + 1, codes.astype(np.uint8))
  return codes.astype(np.uint8)


def _mean(vectors: np.ndarray) -> np.ndarray:
  total = np.zeros(vectors.shape[1])
  for _, block in blocks(vectors, ROWS):
    total += block.sum(0, dtype=np.float64)
  return (total / len(vectors)).astype(np.float32)


def _first_books(vectors: np.ndarray, mean: np.ndarray, l: int, v: int, rng: np.random.Generator) -> np.ndarray:
  """Books [l, v, d]: the principal axes are dealt out to the digits, k-means in each digit's axes gives its centres."""
  sample = vectors[np.sort(rng.permutation(len(vectors))[:LEARN_FROM])].astype(np.float32) - mean
  n = len(sample)
  spread, axes = eigh(sample.T @ sample)
  books = np.zeros((l, v, vectors.shape[1]), np.float32)
  for book, own in zip(books, _deal(spread, l)):
    points = sample @ axes[:, own]
    value = kmeans(points[None], np.ones((1, n), bool), v, -(-n // v), LLOYD, rng)[0]
    member = (value == np.arange(v)[:, None]).astype(np.float32)
    book[:] = member @ points / np.maximum(member.sum(1, keepdims=True), 1) @ axes[:, own].T
  return books


def _deal(spread: np.ndarray, l: int) -> list[list[int]]:
  """Axes in l groups of about the same spread, the widest axes first."""
  groups: list[list[int]] = [[] for _ in range(l)]
  load = np.zeros(l)
  for axis in np.argsort(-spread):
    least = load.argmin()
    groups[least].append(axis)
    load[least] += max(spread[axis], 0)
  return groups


def _cost(vectors: np.ndarray, mean: np.ndarray, books: np.ndarray) -> np.ndarray:
  """Squared distance of every identity to every centre in the subspace of its digit, less what is the same for all
  centres of a digit: float32 [m, l, v]."""
  l, v, d = books.shape
  flat = books.reshape(l * v, d)
  offset = np.einsum('kd,kd->k', flat, flat) + 2 * flat @ mean
  cost = np.empty((len(vectors), l * v), np.float32)
  for part, block in blocks(vectors, ROWS):
    np.matmul(block, -2 * flat.T, out=cost[part])
    cost[part] += offset
  return cost.reshape(-1, l, v)


def _first_codes(cost: np.ndarray) -> np.ndarray:
  """Digit by digit the nearest centre, each with room for so many identities that the codes come out unique."""
  m, l, v = cost.shape
  codes, node = np.empty((m, l), np.int64), np.zeros(m, np.int64)
  for j in range(l):
    codes[:, j] = assign(cost[:, j], node, min(v ** (l - j - 1), m))
    node = np.unique(node * v + codes[:, j], return_inverse=True)[1]
  return codes


def _centres(vectors: np.ndarray, mean: np.ndarray, codes: np.ndarray, v: int) -> tuple[np.ndarray, np.ndarray]:
  """Mean vectors of the identities with each value of each digit, less the mean of all: [l, v, d], and their number."""
  l = codes.shape[1]
  entry = codes + v * np.arange(l)
  count = np.bincount(entry.ravel(), minlength=l * v)
  total = -count[:, None].astype(np.float32) * mean
  for part, block in blocks(vectors, ROWS):
    own = entry[part].ravel()
    member = csr_matrix((np.ones(len(own), np.float32), own, np.arange(0, len(own) + 1, l)), (len(block), l * v))
    total += member.T @ block
  return (total / np.maximum(count, 1)[:, None].astype(np.float32)).reshape(l, v, -1), count.reshape(l, v)


def _books(centres: np.ndarray, count: np.ndarray) -> np.ndarray:
  """Centres [l, v, d] confined to orthogonal subspaces: the rotation nearest to what each digit would choose alone."""
  l, v, d = centres.shape
  width = max(1, min(v - 1, d // l))
  _, size, axes = np.linalg.svd(np.sqrt(count)[..., None] * centres, full_matrices=False)
  wanted = (size[:, :width, None] ** 2 * axes[:, :width]).reshape(-1, d)
  left, _, right = np.linalg.svd(wanted, full_matrices=False)
  own = (left @ right).reshape(l, -1, d).astype(np.float32)
  return (centres @ own.swapaxes(1, 2) @ own).astype(np.float32)


def exchange(codes: np.ndarray, cost: np.ndarray, books: np.ndarray, j: int | None, rng: np.random.Generator) -> None:
  """One round, in place: those whose codes lie near each other in a random direction share their codes out anew.

  Args:
    codes: int64 [m, l], unique rows; still unique afterwards, and the sum of costs is no higher.
    cost: float32 [m, l, v], of every value of every digit.
    books: float32 [l, v, d], the centres, which tell what codes are near.
    j: the digit for which everyone proposes a better value, if nobody has that code; None: no new codes.
    rng: for the direction.
  """
  m, l = codes.shape
  direction = books @ rng.standard_normal(books.shape[2:]).astype(np.float32)
  order = np.argsort(sum(value[digit] for value, digit in zip(direction, codes.T)), kind='stable')
  better, proposes = (codes, np.zeros(m, bool)) if j is None else _proposals(codes, cost, j)
  for start in range(0, m, BLOCK):
    own = order[start : start + BLOCK]
    offer = np.concatenate([codes[own], better[own[proposes[own]]]])
    total = sum(cost[own, k][:, offer[:, k]] for k in range(l))
    codes[own] = offer[linear_sum_assignment(total)[1]]


def _proposals(codes: np.ndarray, cost: np.ndarray, j: int) -> tuple[np.ndarray, np.ndarray]:
  """Everyone's code with the best value of digit j: int64 [m, l]; and whose is to be offered: one that nobody has."""
  better = codes.copy()
  better[:, j] = cost[:, j].argmin(1)
  v = cost.shape[2]
  number, first = np.unique(_numbers(better, v), return_index=True)
  proposes = np.zeros(len(codes), bool)
  proposes[first] = ~np.isin(number, _numbers(codes, v))
  return better, proposes


def _numbers(codes: np.ndarray, v: int) -> np.ndarray:
  """Codes as numbers in base v: int64 [m]."""
  number = np.zeros(len(codes), np.int64)
  for digit in codes.T:
    number = number * v + digit
  return number


def settle_newcomers(
  codes: np.ndarray, vectors: np.ndarray, v: int, newcomers: np.ndarray, new_codes: np.ndarray
) -> None:
  """Changes the codes `new_codes` of newcomers, in place, to free ones with nearer centres, two digits at a time.

  Args:
    codes: uint8 [m, l], product codes of `vectors` float [m, d]; they stay as they are.
    v: values of a digit, v**l <= 2**62.
    newcomers: float32 [k, d], in the space of `vectors`.
    new_codes: uint8 [k, l], unique, and distinct from all of `codes`; so they are afterwards.
  """
  l, mean = codes.shape[1], _mean(vectors)
  cost = _cost(newcomers, mean, _books(*_centres(vectors, mean, codes, v)))
  taken = np.sort(_numbers(codes, v))
  best = np.argsort(cost, 2)[:, :, :CHOICES]
  everyone = np.arange(len(new_codes))
  for _ in range(SWEEPS):
    for i, j in itertools.combinations(range(l), 2):
      offer = np.repeat(new_codes.astype(np.int64)[:, None], best.shape[2] ** 2, 1)
      offer[:, :, i] = np.repeat(best[:, i], best.shape[2], 1)
      offer[:, :, j] = np.tile(best[:, j], best.shape[2])
      total = sum(cost[everyone[:, None], a, offer[:, :, a]] for a in (i, j))
      number = _numbers(offer.reshape(-1, l), v).reshape(total.shape)
      total[np.isin(number, taken) | np.isin(number, _numbers(new_codes, v))] = np.inf
      choice = total.argmin(1)
      gain = cost[everyone, i, new_codes[:, i]] + cost[everyone, j, new_codes[:, j]] - total[everyone, choice]
      order = np.argsort(-gain, kind='stable')
      order = order[gain[order] > 0]
      first = np.unique(number[order, choice[order]], return_index=True)[1]  # of those who want one code, one gets it
      moved = order[first]
      new_codes[moved] = offer[moved, choice[moved]]
