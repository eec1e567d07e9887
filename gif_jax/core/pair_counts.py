"""How many verification pairs people with so many images give."""

from collections.abc import Sequence

from gif_jax.core.errors import ConfigError


def usable_pairs(images: Sequence[int], wanted: int) -> int:
  """Verification pairs that can be drawn, half genuine, in 10 folds, from people with so many images each.

  The largest multiple of 20 that exists and is not above `wanted`, itself a multiple of 20; 0 if there is none.
  """
  total = sum(images)
  genuine = sum(count * (count - 1) // 2 for count in images)
  impostor = total * (total - 1) // 2 - genuine
  return min(wanted, 20 * (min(genuine, impostor) // 10))


def too_few_pairs(images: Sequence[int], key: str) -> ConfigError:
  """What is wrong with config.eval.KEY people who have so many images each."""
  return ConfigError(
    f'config.eval.{key}={len(images)} with {sum(images)} images of these people gives fewer than the 10 genuine and 10 '
    f'impostor pairs that verification needs: raise config.eval.{key} or config.eval.images (now at most {max(images)} '
    f'of each), or set config.eval.{key}=0.'
  )
