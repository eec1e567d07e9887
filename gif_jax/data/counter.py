"""Counter-based random numbers: a value is a function of (seed, counters) alone, never of what was drawn before.

This is what lets any worker, host or batch size render the same face and draw the same augmentation (Steele, Lea and
Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014: the splitmix64 finaliser, chained over counters).
"""

import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: np.ndarray) -> np.ndarray:
  x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return x ^ (x >> np.uint64(31))


def bits(seed: int, *counters) -> np.ndarray:
  """64 random bits for every element of the broadcast `counters` (integers or integer arrays): uint64."""
  with np.errstate(over='ignore'):
    x = _mix(np.asarray(np.uint64(seed & 0xFFFFFFFFFFFFFFFF) + _GAMMA))
    for counter in counters:
      x = _mix(x * _GAMMA + np.asarray(counter).astype(np.uint64) + _GAMMA)
  return x


def uniform(seed: int, *counters) -> np.ndarray:
  """Uniform values in [0, 1) with 24 random bits for every element of the broadcast `counters`: float32."""
  return (bits(seed, *counters) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
