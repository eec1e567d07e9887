"""Whole scenes and thumbnails among face crops: which are odd, the alarm before training, and leaving them out."""

import logging

import numpy as np
import pytest
from PIL import Image

from gif_jax.audit.audit import Settings as AuditSettings
from gif_jax.audit.audit import audit
from gif_jax.core.errors import DataError
from gif_jax.data.convert.convert import Settings, convert
from gif_jax.data.formats.folder import Photos
from gif_jax.data.formats.packed import Packed
from gif_jax.data.formats.recordio import write_insightface
from gif_jax.data.odd_sizes import odd_sizes
from gif_jax.data.sets.open import open_faces
from tests.helpers.photographs import folder_config
from tests.helpers.pictures import picture


def sizes(*groups):
  """Sides int [n, 2] of groups of (how many, width, height)."""
  return np.concatenate([np.tile((width, height), (many, 1)) for many, width, height in groups])


@pytest.mark.parametrize(
  ('groups', 'odd'),
  [
    (((100, 112, 112),), 0),
    (((100, 112, 112), (3, 1920, 1080)), 3),
    (((60, 112, 112), (40, 640, 480)), 40),
    (((100, 112, 112), (2, 16, 16)), 2),  # thumbnails
    (((100, 112, 112), (2, 112, 250)), 2),  # one side alone
    (((100, 112, 112), (5, 112, 115)), 0),  # cut a little differently
    (((100, 112, 112), (5, 128, 128)), 5),  # nine in ten are of one size
    (((60, 112, 112), (40, 128, 128)), 0),  # and here they are not
    (((30, 80, 90), (30, 100, 110), (30, 120, 125), (2, 4000, 3000)), 2),  # crops as a detector cuts them
    (((30, 400, 300), (30, 800, 600), (30, 1600, 1200), (30, 4000, 3000)), 0),  # photographs as they come
    (((100, 112, 112), (5, 0, 0)), 0),  # unreadable
    (((5, 112, 112), (2, 1920, 1080)), 0),  # too few to tell
    (((0, 112, 112),), 0),
  ],
)
def test_which_sizes_are_odd(groups, odd):
  sides = sizes(*groups)
  found = odd_sizes(sides)
  assert found.sum() == odd and found[len(found) - odd :].all()


@pytest.fixture
def crops(tmp_path):
  """Thirty-two crops of eight people, and a scene and a thumbnail among those of p3."""
  root = tmp_path / 'crops'
  for k in range(8):
    (root / f'p{k}').mkdir(parents=True)
    for i in range(4):
      Image.fromarray(picture((k, i))).save(root / f'p{k}' / f'{i}.png')
  Image.fromarray(picture(100, 96)[:54]).save(root / 'p3' / 'scene.png')
  Image.fromarray(picture(101, 8)).save(root / 'p3' / 'thumbnail.png')
  return root


def warnings(caplog):
  return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


ALARM = '2 of 34 pictures are of an odd size among those of 24x24: '


@pytest.mark.parametrize('cache', [False, True])
def test_an_alarm_before_training_on_a_folder(crops, tmp_path, caplog, cache):
  for _ in range(2):  # also where pixels of before are used
    caplog.clear()
    faces = open_faces(folder_config(crops, people=(0, 0), cache=cache), tmp_path / 'cache')
    (alarm,) = warnings(caplog)
    assert f'{ALARM}p3/scene.png (96x54), p3/thumbnail.png (8x8)' in alarm and '--without_images' in alarm
    assert faces.people['odd_sizes'] == [
      {'name': 'p3/scene.png', 'size': '96x54'},
      {'name': 'p3/thumbnail.png', 'size': '8x8'},
    ]


def test_an_alarm_before_training_on_recordio(crops, tmp_path, caplog):
  write_insightface(Photos(crops), tmp_path / 'train.rec')
  config = folder_config(tmp_path / 'train.rec', people=(0, 0))
  config.data.source = 'records'
  caplog.clear()
  open_faces(config, None)
  assert any(ALARM in line and '(96x54)' in line for line in warnings(caplog))


def test_no_alarm_where_all_are_crops(crops, caplog):
  for name in ('scene', 'thumbnail'):
    (crops / 'p3' / f'{name}.png').unlink()
  faces = open_faces(folder_config(crops, people=(0, 0)), None)
  assert not warnings(caplog) and not faces.people['odd_sizes']


def test_what_the_audit_lists_is_left_out(crops, tmp_path):
  report = audit(AuditSettings(str(crops), tmp_path / 'report'))
  assert report['inputs']['crops']['odd_sizes'] == 2
  listed = (tmp_path / 'report' / 'odd_sizes.tsv').read_text().splitlines()
  assert listed == [f'{crops}/p3/scene.png\t96x54', f'{crops}/p3/thumbnail.png\t8x8']
  assert ALARM in convert(Settings(str(crops), tmp_path / 'all', size=24))
  without = str(tmp_path / 'report' / 'odd_sizes.tsv')
  text = convert(Settings(str(crops), tmp_path / 'crops_only', size=24, without_images=without))
  assert 'odd size' not in text and '32 images of 8 people' in text
  chosen, whole = Packed(tmp_path / 'crops_only'), Packed(tmp_path / 'all')
  scenes = {whole[i] for i in np.flatnonzero(whole.labels() == 3)} - {chosen[i] for i in range(32)}
  assert len(scenes) == 2 and np.bincount(chosen.labels()).tolist() == [4] * 8


def test_lists_of_images_that_do_not_fit(crops, tmp_path, caplog):
  path = tmp_path / 'list.tsv'
  path.write_text(f'{crops}/p9/scene.png\t96x54\n')
  with pytest.raises(DataError, match=r'list\.tsv names no image of --input'):
    convert(Settings(str(crops), tmp_path / 'out', without_images=str(path)))
  path.write_text(f'{crops}//p3/./scene.png\t96x54\n\n{crops}/p0\tno images in it\n')
  text = convert(Settings(str(crops), tmp_path / 'out', without_images=str(path)))
  assert '33 images' in text and any('line 3: no image is called' in line for line in warnings(caplog))
