"""The figures of a state: what it says of unseen people, and of training identities by their codes."""

import numpy as np

from gif_jax.evaluation.extract import extract
from gif_jax.evaluation.identification import digit_accuracy, nearest, rank_rates
from gif_jax.evaluation.verification import balanced_pairs, pixel_embedding, tar_at_far, verify
from gif_jax.identification.decode import build_index, decode

FARS = (1e-1, 1e-2, 1e-3, 1e-4)


def embed(predict, faces, settings, name) -> np.ndarray:
  """Embeddings z of a set of faces: float32 [n, d]. settings: `config.eval`; predict: see training.steps."""
  return extract(lambda images: predict(images)['embedding'], faces, settings.batch_size, progress=name)


def verification_figures(embedding, identity, settings) -> dict:
  """10-fold verification accuracy on balanced pairs and TAR at fixed FARs over all pairs, all 0..1."""
  left, right, same = balanced_pairs(identity, settings.pairs)
  result = verify(embedding, left, right, same)
  tars = tar_at_far(embedding, identity, FARS)
  return {
    'verification_accuracy': result.accuracy,
    'verification_std': result.std,
    **{f'tar@far=1e-{i}': tars[far] for i, far in enumerate(FARS, 1)},
  }


def pixel_figures(faces, settings) -> tuple[np.ndarray, dict]:
  """The baseline: cosine of grey, mean-subtracted pixels. Returns the 'embedding' and its verification accuracy."""
  embedding = extract(pixel_embedding, faces, settings.batch_size, progress='pixel baseline')
  left, right, same = balanced_pairs(faces.labels(), settings.pairs)
  return embedding, {'pixel_verification_accuracy': verify(embedding, left, right, same).accuracy}


def closed_set_figures(predict, held_out, table, settings) -> dict:
  """Which training identity is on a held-out image: by decoded digits, and by the nearest code vector (z . h), 0..1."""
  if not len(held_out):
    return {}
  labels = held_out.labels()
  out = extract(predict, held_out, settings.batch_size, progress='closed set')
  index = build_index(np.asarray(table.codes), table.v)
  decoded, _ = decode(index, out['log_probs'], settings.beam, 5)
  by_code = rank_rates(np.asarray(decoded), labels)
  by_vector = rank_rates(nearest(out['embedding'], table.vectors, 5), labels)
  return {
    'digit_accuracy': digit_accuracy(out['log_probs'], table.codes[labels]),
    **{f'decode_top{rank}': by_code[rank] for rank in (1, 5)},
    **{f'vector_top{rank}': by_vector[rank] for rank in (1, 5)},
  }
