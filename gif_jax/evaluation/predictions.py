"""What a network in training says of a set of images."""

import logging
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from gif_jax.models.extraction.extract import extract

_LOG = logging.getLogger(__name__)

Predict = Callable[[jax.Array], dict[str, jax.Array]]  # images uint8 [B, size, size, 3]; see `train_step.make_predict`


def predictions(predict: Predict, images: Any, batch_size: int, name: str, *parts: str) -> dict[str, np.ndarray]:
  """Parts of the predictions for n images, `embedding` among them; the others never leave the devices.

  Where the network overflows, z is 0 and every digit equally likely, with a warning. A deep network does that in its
  first steps, while the running statistics are still far from those of a batch. name: of the images.
  """

  def some(batch: jax.Array) -> dict[str, jax.Array]:
    out = predict(batch)
    return {part: out[part] for part in parts}

  out = extract(some, images, batch_size, progress=name)
  bad = ~np.isfinite(out['embedding']).all(1)
  if bad.any():
    _LOG.warning(
      '%s: %d of %d embeddings are not finite and count as unknown faces; after the first few hundred steps this means '
      'the network has diverged',
      name,
      bad.sum(),
      len(bad),
    )
    for part, values in out.items():
      values[bad] = -np.log(values.shape[2]) if part == 'log_probs' else 0
  return out
