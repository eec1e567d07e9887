"""Figures and tables of a run."""

import matplotlib.image
import numpy as np
import pytest

from gif_jax.core import plots
from gif_jax.evaluation.result import Curve
from gif_jax.training import summary

SUMMARY = {
  'verification_accuracy': 0.8741,
  'pixel_verification_accuracy': 0.62,
  'tar@far=1e-1': 0.9,
  'tar@far=1e-2': float('nan'),
  'digit_accuracy': [0.61, 0.325],
  'decode_top1': None,
  'vector_top5': 1.0,
  'centre_top1': 0.5,
  'images_per_second': 312.4,
  'steps': 800,
}


def picture(path):
  """Pixels of an image file, float32 [h, w, 4]; it must be the only file in its folder."""
  assert [entry.name for entry in path.parent.iterdir()] == [path.name]
  pixels = matplotlib.image.imread(path)
  assert pixels.std() > 0
  return pixels


@pytest.mark.slow
def test_roc_plot(tmp_path):
  fpr = np.linspace(0, 1, 200_001)
  curves = {'this model': Curve(fpr, np.sqrt(fpr)), 'raw pixels': Curve(fpr, fpr)}
  summary.plot_roc(curves, tmp_path / 'plots' / 'roc.png')
  picture(tmp_path / 'plots' / 'roc.png')


@pytest.mark.slow
def test_training_plot_tolerates_missing_and_null_values(tmp_path):
  rows = [
    {'step': 10, 'loss': 9.5, 'code_loss': 9.0, 'learning_rate': 0.1},
    {'step': 20, 'loss': None, 'digit_accuracy': [0.1, 0.2], 'images_per_second': 300.0, 'note': 'text'},
    {'step': 30, 'loss': 8.5, 'code_loss': float('nan'), 'digit_accuracy': [0.3, 0.25]},
    {'step': 40},
  ]
  summary.plot_training(rows, tmp_path / 'training.png')
  assert picture(tmp_path / 'training.png').shape[0] > 600
  assert summary._lines(rows, 'loss') == {'loss': [(10, 9.5), (30, 8.5)], 'code_loss': [(10, 9.0)]}
  assert summary._lines(rows, 'digit') == {
    'digit_accuracy 1': [(20, 0.1), (30, 0.3)],
    'digit_accuracy 2': [(20, 0.2), (30, 0.25)],
  }


@pytest.mark.parametrize('labels', [None, ['one', 'two']])
def test_contact_sheet(tmp_path, labels):
  images = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 24, 3), np.uint8)
  plots.contact_sheet(images, tmp_path / 'faces.png', labels)
  height, width, _ = picture(tmp_path / 'faces.png').shape
  assert width > height and height >= 66


def test_summary_table():
  assert summary.summary_table(SUMMARY).splitlines() == [
    'verification accuracy               87.4 %',
    'verification accuracy, raw pixels   62.0 %',
    'TAR @ FAR 1e-1                      90.0 %',
    'TAR @ FAR 1e-2                           -',
    'digit accuracy                      61.0 %   32.5 %',
    'closed set, decoded, top 1               -',
    'closed set, code vectors, top 5    100.0 %',
    'closed set, centres, top 1          50.0 %',
    'images/s                               312',
  ]
  assert summary.summary_table({}) == ''
