"""What all ways of making codes from vectors have in common."""

import numpy as np
import pytest

from gif_jax.codes import product, tree

WAYS = pytest.mark.parametrize('build', [product.build_codes, tree.build_codes])


@WAYS
def test_codes_are_a_function_of_the_seed(build):
  vectors = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)
  first, again, other = (build(vectors, 3, 6, seed=seed, progress=False) for seed in (1, 1, 2))
  assert np.array_equal(first, again)
  assert not np.array_equal(first, other)


@WAYS
@pytest.mark.parametrize(
  ('vectors', 'l', 'v', 'names'),
  [
    (np.ones((28, 2)), 3, 3, r'tokenizer\.l=3 and tokenizer\.v=3 give 27 codes for 28'),
    (np.ones((4, 2)), 0, 5, r'tokenizer\.l=0'),
    (np.ones((4, 2)), 1, 257, r'tokenizer\.v=257'),
    (np.array([[1, 0], [np.nan, 0]]), 1, 5, 'identity 1 is not finite'),
    (np.ones(4), 1, 5, 'must be'),
    (np.ones((0, 2)), 1, 5, 'must be'),
  ],
)
def test_errors_name_the_setting(build, vectors, l, v, names):
  with pytest.raises(ValueError, match=names):
    build(vectors, l, v, progress=False)
