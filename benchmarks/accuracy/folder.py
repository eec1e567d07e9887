"""A folder of photographs, one sub-folder per person: forms of the method beside raw pixels, over several splits.

python -m benchmarks.accuracy.folder --path=DIR --output=runs/folder

A seed deals people out anew and sets everything else that is random. Writes folder.md and folder.json.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.accuracy.report import table_of
from configs import folder
from gif_jax.commands.flags import quiet_libraries
from gif_jax.data.sets.open import open_faces
from gif_jax.evaluation.unseen import pixel_embedding
from gif_jax.identification.metrics import rank_rates
from gif_jax.identification.nearest import nearest
from gif_jax.models.extraction.extract import extract
from gif_jax.models.extraction.identity_moments import identity_moments
from gif_jax.training.run import run

# What folder.py has for `joint` alone is as `fixed` has it by default.
_FIXED = {'joint.enabled': False, 'loss.digits': 1.0, 'loss.digits_until': 0.0, 'loss.gamma': 1.0}
FORMS = {'fixed': _FIXED, 'joint': {}}
COLUMNS = {
  'verification': 'verification_accuracy',
  'TAR@1e-2': 'tar@far=1e-2',
  'decoded top 1': 'decode_top1',
  'z.h top 1': 'vector_top1',
}


def _config(path, seed, changes):
  config = folder.get_config()
  config.data.path = str(path)
  seeds = {'data.seed': seed, 'train.seed': seed, 'tokenizer.seed': seed}
  config.update_from_flattened_dict(seeds | changes)
  return config


def _pixels(config, cache):
  """Raw pixels instead of a network: held-out images against the mean training image of everyone (in place of z.h)."""
  faces = open_faces(config, cache)
  means = identity_moments(
    pixel_embedding, faces.train, faces.train.labels(), faces.m, config.eval.batch_size, within=False, progress=''
  ).means
  probes = extract(pixel_embedding, faces.held_out, config.eval.batch_size, progress='')
  return {'vector_top1': rank_rates(nearest(probes, means, 5), faces.held_out.labels())[1]}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--path', type=Path, required=True)
  parser.add_argument('--output', type=Path, default=Path('runs/folder'))
  parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
  options = parser.parse_args()
  quiet_libraries()
  rows = {name: [] for name in ('raw pixels', *FORMS)}
  for seed in options.seeds:
    for form, changes in FORMS.items():
      config, workdir = _config(options.path, seed, changes), options.output / f'{form}_{seed}'
      rows[form].append(run(config, workdir))
    pixels = {key: rows['fixed'][-1].get(f'pixel_{key}', np.nan) for key in COLUMNS.values()}
    rows['raw pixels'].append(pixels | _pixels(config, workdir / 'cache'))
  (options.output / 'folder.json').write_text(json.dumps(rows, indent=2))
  (options.output / 'folder.md').write_text(table_of(rows, COLUMNS))
  print(table_of(rows, COLUMNS))


if __name__ == '__main__':
  main()
