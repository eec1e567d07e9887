"""What a training is going to be, said before it begins: images, people, steps, epochs, and about how long."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from gif_jax.codes.identities import LabelSpace
from gif_jax.config import train_steps
from gif_jax.core.distributed import processes
from gif_jax.core.texts import duration
from gif_jax.data.sets.base import FaceSets
from gif_jax.data.sets.synthetic import rendering_seconds
from gif_jax.models import gif
from gif_jax.models.checkpoint.reader import steps as saved_steps
from gif_jax.training.cost.flops import matrix_peak, training_flops
from gif_jax.training.sharding import batch_norm_groups
from gif_jax.training.state import TrainState

_LOG = logging.getLogger(__name__)

_USED = 0.35  # of what matrix products reach, by a training step: 27 to 53 % on CPUs, 45 % wanted on a GPU
_LONG = 3600.0  # seconds from which on a CPU may be the wrong device


def image_flops(config: ConfigDict, l: int, v: int, m: int) -> float:
  """Model FLOPs of a training image, with heads for l digits of v values, or a softmax over m identities."""
  flops = training_flops(gif.build(config.model, l, v), config.data.size)
  if config.softmax.enabled:
    flops += 6 * config.model.d * m * config.softmax.sample_rate  # the product with centres and its two gradients
  if config.joint.enabled:
    flops += 6 * config.model.d * (config.joint.negatives + config.train.batch_size)  # and with code vectors
  return flops


def devices_peak(config: ConfigDict) -> float:
  """FLOP/s of matrix products in the network's type on all devices."""
  return matrix_peak(tuple(jax.local_devices()), config.model.dtype) * jax.process_count()


def training_seconds(config: ConfigDict, faces: FaceSets, steps: int, flops: float, peak: float) -> float:
  """About how long `steps` steps take, without evaluations; right to a factor of two or so.

  flops, peak: of `image_flops` and `devices_peak`. Faces that are rendered again in every step take the cores of a CPU
  from the network; with other devices the slower of the two counts.
  """
  images = steps * config.train.batch_size
  computing = images * flops / (_USED * peak)
  workers = max(1, config.data.workers) * jax.process_count()
  rendering = rendering_seconds(faces.train, shuffled=True) / len(faces.train) * images / workers
  return computing + rendering if jax.default_backend() == 'cpu' else max(computing, rendering)


def warn_of_hours(config: ConfigDict, faces: FaceSets, workdir: Path) -> None:
  """A warning, with the cure, where what is left of a training would take a CPU hours.

  Is given before faces are rendered and codes are made, so l and v are not known yet; heads are a small part.
  """
  if jax.default_backend() != 'cpu' or not processes.first():
    return
  done = (saved_steps(workdir / 'checkpoints') or [0])[-1]
  steps = train_steps(config, len(faces.train)) - done
  seconds = training_seconds(config, faces, steps, image_flops(config, 1, 2, faces.m), devices_peak(config))
  if seconds < _LONG:
    return
  cure = f'try --config={config.log.short} first' if config.log.short else 'lower config.train.steps'
  _LOG.warning(
    '%d steps of %d images (%s, %d pixels) are %s on this CPU: use a GPU or a TPU, %s, or take a smaller '
    'network, such as config.model.backbone=small with config.data.size=56',
    steps,
    config.train.batch_size,
    config.model.backbone,
    config.data.size,
    duration(seconds),
    cure,
  )


def describe(config: ConfigDict, faces: FaceSets, start: int, total: int, seconds: float) -> str:
  """What is about to be trained, in one line."""
  images, batch = len(faces.train), config.train.batch_size
  where = f'steps {start + 1} to {total}' if start else f'{total} steps'
  return (
    f'training on {images} images of {faces.m} people: {where} of {batch} images, in all {total * batch / images:.3g} '
    f'epochs; {duration(seconds)} to go by the arithmetic, the bar will know better'
  )


class Cost(NamedTuple):
  """image_flops: model FLOPs of a training image; peak: FLOP/s of matrix products on all devices."""

  image_flops: float
  peak: float


def announce(config: ConfigDict, faces: FaceSets, table: LabelSpace, start: int, total: int) -> Cost:
  """Says in the log what an image costs and, unless nothing is left of it, how long the training will take."""
  cost = Cost(image_flops(config, table.l, table.v, table.m), devices_peak(config))
  _LOG.info(
    'a training image is %.3g GFLOP; matrix products reach %.3g TFLOP/s in %s on all devices',
    cost.image_flops / 1e9,
    cost.peak / 1e12,
    config.model.dtype,
  )
  if start < total:
    seconds = training_seconds(config, faces, total - start, *cost)
    _LOG.info('%s', describe(config, faces, start, total, seconds))
  return cost


def describe_network(config: ConfigDict, state: TrainState, table: LabelSpace, mesh: jax.sharding.Mesh) -> str:
  """The network in words: its parts and their sizes; state: shapes will do."""
  backbone = f'{config.model.backbone}: backbone {_millions(state.params["backbone"]):.1f} M parameters'
  return f'{backbone}, {_classifier(state, table)}, {mesh.size} device(s), BatchNorm over {_groups(config, mesh)}'


def _groups(config: ConfigDict, mesh: jax.sharding.Mesh) -> str:
  group, spread = batch_norm_groups(config, mesh.size)
  return f'{group} images' + (f', which lie on {spread} devices' if spread > 1 else '')


def _classifier(state: TrainState, table: LabelSpace) -> str:
  if state.softmax:
    return f'a softmax over {table.m} identities, {_millions(state.softmax.centres):.2f} M parameters'
  read_by = {'code heads': 'heads', 'sequence decoder': 'sequence'}
  sizes = {name: _millions(state.params.get(part)) for name, part in read_by.items()}
  listed = ', '.join(f'{name} {size:.2f} M' for name, size in sizes.items() if size)
  return f'{listed} (l={table.l}, v={table.v}, m={table.m})'


def _millions(arrays: Any) -> float:
  return sum(array.size for array in jax.tree.leaves(arrays)) / 1e6
