"""How well digits can be read from a face by a network that learnt no digits, for codes made in different ways.

python -m benchmarks.codes --network=runs/accuracy/thousand/in-batch_softmax_alone_0
python -m benchmarks.codes --network=runs/accuracy/thousand/in-batch_softmax_alone_0 --people=8000 --images=6 --world=1

The network is a run of `python -m benchmarks.accuracy thousand --rows "in-batch softmax alone"`. A linear probe is
trained from its embeddings to the digits of all people: `seen` is measured on further images of the same people,
`unseen` on people whom the probe was not trained on. Prints a table, and adds the metrics to
OUTPUT/codes-PEOPLE-L-V.jsonl.
"""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs import quickstart, quickstart_joint, quickstart_published
from gif_jax.codes import product, tree, vectors
from gif_jax.codes.homogenise import homogenise
from gif_jax.codes.size import choose_size
from gif_jax.codes.table import CodeTable
from gif_jax.data.sets.open import open_faces
from gif_jax.identification.beam_search import build_index, decode
from gif_jax.identification.metrics import digit_accuracy, rank_rates
from gif_jax.models.encoders import pixels
from gif_jax.models.extraction.extract import extract
from gif_jax.models.extraction.identity_moments import identity_moments
from gif_jax.models.heads import unit
from gif_jax.training.program import open_trained

STEPS = 60  # of L-BFGS: more change no digit accuracy by more than half a point
DECAY = 1e-3
FOLDS = 5
BEAM = 100


# Name -> codes [m, l] of vectors [m, d], l, v, seed.
CODES = {
  'random': lambda h, l, v, seed: tree.random_codes(len(h), l, v, seed),
  'tree': lambda h, l, v, seed: tree.build_codes(h, l, v, seed=seed, progress=False),
  'product': lambda h, l, v, seed: product.build_codes(h, l, v, seed=seed, progress=False),
}
# Name -> the settings the vectors are homogenised with.
VECTORS = {
  'initial': None,
  'homogenised': quickstart.get_config().tokenizer,
  'homogenised to the letter': quickstart_published.get_config().tokenizer,
}


class Set(NamedTuple):
  """Features of images, float32 [n, D], and their labels, int64 [n]."""

  features: jax.Array
  labels: np.ndarray


def _features(options):
  """Features of the tokeniser's encoder and embeddings z of the network, of training and held-out images, by name."""
  path = options.output / f'features-{options.people}-{options.images}-{options.world}.npz'
  if path.exists():
    return dict(np.load(path))
  config = quickstart.get_config()
  config.data.update(identities=options.people, images=options.images, seed=options.world, cache=False)
  faces = open_faces(config, None)
  table = CodeTable.open(options.network / 'table')
  predict = open_trained(quickstart_joint.get_config(), options.network, table).predict

  def both(images):
    return {'pixels': pixels(images), 'z': unit(predict(images)['embedding'])}

  features = {}
  for part in ('train', 'held_out'):
    embedded = extract(both, getattr(faces, part), config.eval.batch_size, progress=part)
    features |= {f'{part}_{name}': values for name, values in embedded.items()}
    features[f'{part}_labels'] = getattr(faces, part).labels()
  partial_path = path.with_suffix('.partial.npz')
  np.savez(partial_path, **features)
  partial_path.rename(path)
  return features


@partial(jax.jit, static_argnames='v')
def _fit(x, y, v):
  """Softmax regression from x [n, D] to y int32 [n, l]: weights [D, l * v] and offsets [l * v]."""
  tx, wanted = optax.lbfgs(), jax.nn.one_hot(y, v)

  def loss(params):
    logits = (x @ params[0] + params[1]).reshape(*y.shape, v)
    entropy = optax.softmax_cross_entropy(logits, wanted).mean(0).sum()
    return entropy + DECAY * jnp.sum(params[0] ** 2)

  def step(_, carry):
    params, state = carry
    value, grad = optax.value_and_grad_from_state(loss)(params, state=state)
    updates, state = tx.update(grad, state, params, value=value, grad=grad, value_fn=loss)
    return optax.apply_updates(params, updates), state

  params = (jnp.zeros((x.shape[1], y.shape[1] * v)), jnp.zeros(y.shape[1] * v))
  return jax.lax.fori_loop(0, STEPS, step, (params, tx.init(params)))[0]


def _log_probs(x, y, v, other):
  """Trains on x, y; log-probabilities float32 [n, l, v] for the features `other` [n, D]."""
  weights, offsets = _fit(x, jnp.asarray(y, jnp.int32), v)
  return np.asarray(jax.nn.log_softmax((other @ weights + offsets).reshape(len(other), y.shape[1], v)))


def _bits(log_probs, y, codes, v):
  """What is learnt of the code from one face: entropy of the digits less cross-entropy, summed over the digits."""
  share = np.stack([np.bincount(digit, minlength=v) for digit in codes.T]) / len(codes)
  entropy = -(share * np.log2(np.maximum(share, 1e-12))).sum()
  return float(entropy + np.take_along_axis(log_probs, y[..., None], 2).mean(0).sum() / np.log(2))


def seen(train: Set, held_out: Set, codes: np.ndarray, v: int) -> dict:
  """Digits of other images of the people that the probe was trained on, and the people decoded from them."""
  y = codes[held_out.labels].astype(np.int64)
  log_probs = _log_probs(train.features, codes[train.labels], v, held_out.features)
  candidates = decode(build_index(codes, v), jnp.asarray(log_probs), BEAM, 5)[0]
  rates = rank_rates(candidates, held_out.labels)
  return {
    'digits': digit_accuracy(log_probs, y),
    'bits': _bits(log_probs, y, codes, v),
    'top1': rates[1],
    'top5': rates[5],
  }


def unseen(train: Set, codes: np.ndarray, v: int, folds: int) -> dict:
  """Digits of people that the probe was not trained on."""
  part = np.random.default_rng(0).permutation(len(codes)) % FOLDS
  rows = []
  for fold in range(folds):
    out = part[train.labels] == fold
    y = codes[train.labels[out]].astype(np.int64)
    log_probs = _log_probs(train.features[~out], codes[train.labels[~out]], v, train.features[out])
    rows.append([*digit_accuracy(log_probs, y), _bits(log_probs, y, codes, v)])
  *digits, bits = np.mean(rows, 0).tolist()
  return {'digits': digits, 'bits': bits}


def _sets(saved):
  """Training and held-out embeddings, centred and of unit spread."""
  x = saved['train_z']
  mean, scale = x.mean(0), np.sqrt(x.var(0).mean())
  return [
    Set(jnp.asarray((saved[f'{part}_z'] - mean) / scale), saved[f'{part}_labels']) for part in ('train', 'held_out')
  ]


def _initial(saved, m):
  moments = identity_moments(
    lambda x: x, saved['train_pixels'], saved['train_labels'], m, 1000, within=True, progress=''
  )
  return vectors.initialise(moments.means, quickstart.get_config().model.d, moments.within, moments.counts)[0]


def _homogenised(initial, settings, seed):
  if settings is None:
    return initial
  return homogenise(
    initial,
    epochs=settings.homogenize_epochs,
    lr=settings.homogenize_lr,
    subset=settings.homogenize_subset,
    scaled=settings.homogenize_scaled,
    seed=seed,
    progress=False,
  )[0]


def _cell(values, digits=1):
  spread = f' ± {np.std(values, ddof=1):.{digits}f}' if len(values) > 1 else ''
  return f'{np.mean(values):.{digits}f}{spread}'


def _cells(metrics):
  """The metrics of one kind of codes, one dict per seed, as cells of a table: percent and bits."""
  for part in ('seen', 'unseen'):
    yield ' '.join(f'{100 * share:.0f}' for share in np.mean([m[part]['digits'] for m in metrics], 0))
    yield _cell([m[part]['bits'] for m in metrics], 2)
  yield from (_cell([100 * m['seen'][key] for m in metrics]) for key in ('top1', 'top5'))


COLUMNS = ('codes', 'of vectors', 'l, v', 'seen: digits', 'bits', 'unseen: digits', 'bits', 'decoded top 1', 'top 5')


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--output', type=Path, default=Path('runs/codes'))
  parser.add_argument('--network', type=Path, required=True)
  parser.add_argument('--people', type=int, default=1000)
  parser.add_argument('--images', type=int, default=14)
  parser.add_argument('--world', type=int, default=0, help='data.seed: which people')
  parser.add_argument('--sizes', type=int, nargs=2, default=[0, 0], metavar=('L', 'V'), help='0: chosen')
  parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
  parser.add_argument('--codes', nargs='+', choices=CODES, default=list(CODES))
  parser.add_argument('--vectors', nargs='+', choices=VECTORS, default=list(VECTORS))
  parser.add_argument('--folds', type=int, default=FOLDS, help=f'of the {FOLDS} parts, how many are tested as unseen')
  options = parser.parse_args()
  options.output.mkdir(parents=True, exist_ok=True)
  saved = _features(options)
  initial = _initial(saved, options.people)
  train, held_out = _sets(saved)
  l, v = choose_size(options.people, *options.sizes)
  report = options.output / f'codes-{options.people}-{l}-{v}.jsonl'
  print('| ' + ' | '.join(COLUMNS) + ' |\n' + '| --- ' * len(COLUMNS) + '|', flush=True)
  for kind in options.codes:
    for name in options.vectors if kind != 'random' else ['initial']:
      metrics = []
      for seed in options.seeds:
        h = _homogenised(initial, VECTORS[name], seed)
        codes = CODES[kind](h, l, v, seed)
        metrics.append({'seen': seen(train, held_out, codes, v), 'unseen': unseen(train, codes, v, options.folds)})
      with report.open('a') as file:
        file.write(json.dumps({'codes': kind, 'vectors': name, 'metrics': metrics}) + '\n')
      print('| ' + ' | '.join([kind, name, f'{l}, {v}', *_cells(metrics)]) + ' |', flush=True)


if __name__ == '__main__':
  main()
