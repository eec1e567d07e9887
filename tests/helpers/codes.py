"""Codes of every size, for tests of searches."""

import numpy as np
from hypothesis import strategies as st


def random_codes(rng, m, l, v):
  """m different codes in random order: uint8 [m, l]."""
  flat = rng.choice(v**l, m, replace=False)
  return np.stack([flat // v ** (l - 1 - j) % v for j in range(l)], axis=1).astype(np.uint8)


@st.composite
def problems(draw):
  l, v = draw(st.integers(1, 4)), draw(st.integers(2, 5))
  return draw(st.integers(1, min(v**l, 60))), l, v, draw(st.integers(0, 2**32 - 1))
