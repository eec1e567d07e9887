"""What two processes together must make as one alone does: python -m tests.helpers.one_of_two ADDRESS RANK FOLDER"""

import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from gif_jax.codes import tokenizer
from gif_jax.core.distributed import gather
from gif_jax.core.distributed.mesh import batch_sharding, make_mesh
from gif_jax.data.sets.open import open_faces
from gif_jax.evaluation.all_pairs.exact_cosines import sorted_images
from gif_jax.evaluation.all_pairs.impostors import most_alike
from gif_jax.evaluation.predictions import predictions
from gif_jax.models.extraction.extract import extract
from gif_jax.models.extraction.identity_moments import identity_moments
from gif_jax.training.program import make_predictor
from gif_jax.training.state import TrainState
from tests.helpers import tiny

IMAGES = np.random.default_rng(0).integers(0, 256, (37, 4, 5, 3), np.uint8)
LABELS = np.random.default_rng(1).permutation(np.arange(37) % 6)
WEIGHTS = np.random.default_rng(2).normal(size=(60, 8)).astype(np.float32) / 60

ROWS = np.where(np.arange(320).reshape(40, 8) % 3, np.float32(-0.0), np.arange(320, dtype=np.float32).reshape(40, 8))


@jax.jit
def flat(images):
  x = images.reshape(len(images), -1)
  return {'z': x.astype(jnp.float32) / 7, 'rank': jnp.argsort(x, 1), 'first': x[:, 0]}


@jax.jit
def predict(variables, images):
  return {'embedding': flat(images)['z'] @ variables['params']}


def table(output: Path):
  """The tiny run's table."""
  config = tiny.get_config()
  return tokenizer.make_table(config, open_faces(config, None), output)


def results(state: Path | None = None) -> dict[str, np.ndarray]:
  """Whole sets through `extract`, alone and as training does it, with weights that lie on all devices."""
  found = extract(flat, IMAGES, 5, progress='', state=state)
  found |= {'one': extract(flat, IMAGES[:1], 5, progress='')['z']}  # fewer images than processes
  moments = identity_moments(lambda x: flat(x)['z'], IMAGES, LABELS, 6, 5, within=True, progress='', state=state)
  found |= {name: value for name, value in moments._asdict().items()}
  images = sorted_images(np.round(IMAGES[:, 0, :, 0] / 40), LABELS)  # coarse: cosines tie
  for k in (1, 50, 10**6):
    found |= {f'{name} {k}': value for name, value in most_alike(images, k, progress='')._asdict().items()}
  gather._BLOCK = 96  # three rows
  rows = jax.make_array_from_callback(ROWS.shape, batch_sharding(make_mesh()), lambda index: ROWS[index])
  blocks = list(gather.in_blocks(rows, 37))
  assert max(map(len, blocks)) == 3
  found |= {'rows': np.concatenate(blocks).view(np.uint32)}
  everywhere = NamedSharding(make_mesh(), PartitionSpec())
  weights = jax.make_array_from_callback(WEIGHTS.shape, everywhere, lambda index: WEIGHTS[index])
  trained = TrainState(step=weights, params=weights, batch_stats={}, opt_state=None)
  predictor = make_predictor(SimpleNamespace(predict=predict), trained)
  return found | predictions(predictor, IMAGES, 5, '', 'embedding')


if __name__ == '__main__':
  address, rank, folder = sys.argv[1:]
  jax.distributed.initialize(address, 2, int(rank))
  assert jax.process_count() == 2 and len(jax.devices()) == 8
  found = results(Path(folder) / 'state')
  again = results(Path(folder) / 'state')  # from what was saved
  for name, value in found.items():
    np.testing.assert_array_equal(again[name], value)
  np.savez(Path(folder) / f'{rank}.npz', **found)
  table(Path(folder) / 'table').verify()
