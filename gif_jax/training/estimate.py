"""What a training is going to be, said before it begins: images, people, steps, epochs, and about how long."""

import logging
from pathlib import Path

import jax

from gif_jax.config import train_steps
from gif_jax.core.distributed import processes
from gif_jax.core.texts import duration
from gif_jax.data.sets.base import FaceSets
from gif_jax.data.sets.synthetic import rendering_seconds
from gif_jax.models import gif
from gif_jax.models.checkpoint.reader import steps as saved_steps
from gif_jax.training.flops import matrix_peak, training_flops

_LOG = logging.getLogger(__name__)

_USED = 0.35  # of what matrix products reach, by a training step: 27 to 53 % on CPUs, 45 % wanted on a GPU
_LONG = 3600.0  # seconds from which on a CPU may be the wrong device


def image_flops(config, l: int, v: int, m: int) -> float:
  """Model FLOPs of a training image, with heads for l digits of v values, or a softmax over m identities."""
  flops = training_flops(gif.build(config.model, l, v), config.data.size)
  if config.softmax.enabled:
    flops += 6 * config.model.d * m * config.softmax.sample_rate  # the product with centres and its two gradients
  if config.joint.enabled:
    flops += 6 * config.model.d * (config.joint.negatives + config.train.batch_size)  # and with code vectors
  return flops


def devices_peak(config) -> float:
  """FLOP/s of matrix products in the network's type on all devices."""
  return matrix_peak(tuple(jax.local_devices()), config.model.dtype) * jax.process_count()


def training_seconds(config, faces: FaceSets, steps: int, flops: float, peak: float) -> float:
  """About how long `steps` steps take, without evaluations; right to a factor of two or so.

  flops, peak: of `image_flops` and `devices_peak`. Faces that are rendered again in every step take the cores of a CPU
  from the network; with other devices the slower of the two counts.
  """
  images = steps * config.train.batch_size
  computing = images * flops / (_USED * peak)
  workers = max(1, config.data.workers) * jax.process_count()
  rendering = rendering_seconds(faces.train, shuffled=True) / len(faces.train) * images / workers
  return computing + rendering if jax.default_backend() == 'cpu' else max(computing, rendering)


def warn_of_hours(config, faces: FaceSets, workdir: Path) -> None:
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


def describe(config, faces: FaceSets, start: int, total: int, seconds: float) -> str:
  """What is about to be trained, in one line."""
  images, batch = len(faces.train), config.train.batch_size
  where = f'steps {start + 1} to {total}' if start else f'{total} steps'
  return (
    f'training on {images} images of {faces.m} people: {where} of {batch} images, in all {total * batch / images:.3g} '
    f'epochs; {duration(seconds)} to go by the arithmetic, the bar will know better'
  )
