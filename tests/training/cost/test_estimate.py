"""What is said before a training begins: how much there is to do, about how long it takes, and at once if hours."""

import logging
import re

import numpy as np
import pytest

from gif_jax.core.texts import duration
from gif_jax.core.workers import cores
from gif_jax.data.sets import synthetic
from gif_jax.data.sets.label_noise import Mislabelled
from gif_jax.data.sets.open import open_faces, open_unrendered
from gif_jax.data.sets.synthetic import SyntheticFaces, rendering_seconds
from gif_jax.training.cost import estimate
from tests.helpers import tiny


@pytest.fixture
def config():
  return tiny.get_config()


def test_time_is_the_arithmetic_over_what_devices_do(config, tiny_faces):
  stored = tiny_faces._replace(train=range(80))  # nothing is rendered
  config.train.batch_size = 16
  seconds = estimate.training_seconds(config, stored, steps=1000, flops=2e9, peak=1e11)
  assert seconds == pytest.approx(1000 * 16 * 2e9 / (0.35 * 1e11))
  assert estimate.training_seconds(config, stored, steps=500, flops=2e9, peak=1e11) == pytest.approx(seconds / 2)


def test_faces_that_are_rendered_in_every_step_take_their_time(config, tiny_faces, monkeypatch):
  monkeypatch.setattr(estimate, 'rendering_seconds', lambda faces, shuffled: 8.0)  # .1 s a face
  both = [estimate.training_seconds(config, tiny_faces, 100, flops=0, peak=1) for config.data.workers in (0, 1, 4)]
  assert both == pytest.approx([160, 160, 40])


@pytest.mark.slow
def test_many_faces_are_not_rendered_without_a_word(config, tmp_path, monkeypatch, caplog):
  monkeypatch.setattr(synthetic, '_MANY', 80)
  monkeypatch.setattr(synthetic, 'rendering_seconds', lambda faces: 3600.0 * len(faces))
  config.data.cache = True
  with caplog.at_level(logging.INFO):
    open_faces(config, tmp_path)
  (said,) = [record.message for record in caplog.records if 'rendering' in record.message]  # not of the smaller sets
  hours = duration(3600 * 80 / cores())
  assert said == f'rendering 80 training faces once, into {tmp_path}: {hours}'


class Slow:
  """Pictures of a second each, 16 of a person, who takes 8 seconds more."""

  in_processes, now = True, 0.0

  def __len__(self):
    return 16_000

  def __getitem__(self, index):
    index = np.arange(*index.indices(len(self))) if isinstance(index, slice) else index
    self.now += len(index) + 8 * len(np.unique(index // 16))


def test_rendering_is_timed_and_reading_is_not(tiny_faces, monkeypatch):
  faces = Slow()
  monkeypatch.setattr(synthetic.time, 'perf_counter', lambda: faces.now)
  assert rendering_seconds(faces) in (24_000, 28_000)  # 32 pictures of two people, or three
  assert rendering_seconds(faces, shuffled=True) == 16_000 * 9  # a person is made for every picture
  monkeypatch.undo()
  assert rendering_seconds(Mislabelled(tiny_faces.train, 20, 0.1, 0)) > 0
  assert rendering_seconds(range(100)) == 0


def test_synthetic_people_are_counted_before_one_is_rendered(config, tmp_path, monkeypatch):
  monkeypatch.setattr(SyntheticFaces, '__getitem__', None)
  config.data.cache = True
  faces = open_unrendered(config)
  assert (faces.m, len(faces.train)) == (20, 80)
  config.data.source, config.data.path = 'folder', str(tmp_path)
  assert open_unrendered(config) is None


@pytest.mark.slow
@pytest.mark.parametrize(
  ('short', 'cure'), [('', 'lower config.train.steps'), ('configs/r100.py:short', 'try --config=configs/r100.py:short')]
)
def test_hours_are_a_warning_with_the_cure(config, tmp_path, monkeypatch, caplog, short, cure):
  faces = open_faces(config, cache=None)
  config.train.steps, config.log.short = 10**8, short
  with caplog.at_level(logging.INFO):
    estimate.warn_of_hours(config, faces, tmp_path)
  (record,) = caplog.records
  assert record.levelno == logging.WARNING and cure in record.message and 'use a GPU' in record.message
  begins = r'100000000 steps of 16 images \(tiny, 32 pixels\) are about \d+ (hours|days|years) on this CPU'
  assert re.match(begins, record.message)
  caplog.clear()
  (tmp_path / 'checkpoints' / str(10**8 - 10)).mkdir(parents=True)  # ten steps are left
  estimate.warn_of_hours(config, faces, tmp_path)
  config.train.steps = 12
  estimate.warn_of_hours(config, faces, tmp_path / 'another')
  monkeypatch.setattr(estimate.jax, 'default_backend', lambda: 'gpu')
  config.train.steps = 10**8
  estimate.warn_of_hours(config, faces, tmp_path / 'another')
  assert not caplog.records


def test_one_line_says_what_is_trained(config, tiny_faces):
  assert estimate.describe(config, tiny_faces, 0, 12, 7200) == (
    'training on 80 images of 20 people: 12 steps of 16 images, in all 2.4 epochs; about 2 hours to go by the '
    'arithmetic, the bar will know better'
  )
  assert 'steps 9 to 12 of 16 images, in all 2.4 epochs; less than' in estimate.describe(config, tiny_faces, 8, 12, 1)


def test_the_products_of_a_softmax_count(config):
  config.softmax.enabled, config.model.d = True, 16
  few, many = (estimate.image_flops(config, 0, 0, m) for m in (1000, 3000))
  assert many - few == 6 * 16 * 2000


@pytest.mark.slow
def test_a_run_says_it_before_it_begins(command, tmp_path):
  flags = [f'--workdir={tmp_path}', '--config.train.steps=100000000', '--config.data.cache=True']
  # The table that is missing ends it after the warning and before the first step.
  done = command('train', '--config=tests/helpers/tiny.py', *flags, '--config.tokenizer.table=nowhere')
  assert done.returncode == 1 and done.stdout.splitlines()[-1].startswith('TableError: '), done.stdout
  hours = re.search(r'W\d+ .*100000000 steps of 16 images .* on this CPU: use a GPU', done.stdout)
  assert hours and hours.start() < done.stdout.index('rendering training faces:   0%')
  flags[1] = '--config.train.steps=2'
  done = command('train', '--config=tests/helpers/tiny.py', *flags[:2])
  assert done.returncode == 0 and 'on this CPU' not in done.stdout, done.stdout
  said = [
    done.stdout.index(text)
    for text in (
      'rendering 80 faces, which the codes are made of: less than a minute',
      'encoding faces',
      'training on 80 images of 20 people: 2 steps of 16 images, in all 0.4 epochs; less than a minute to go',
      'training:   0%',
      'compiling the training step',
    )
  ]
  assert said == sorted(said)
