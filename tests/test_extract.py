"""Embedding whole sets: nothing dropped, nothing doubled, order kept, whatever the source of the images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gif_jax.evaluation.extract import extract, identity_moments
from gif_jax.evaluation.verification import pixel_embedding

IMAGES = np.random.default_rng(0).integers(0, 256, (11, 4, 5, 3), np.uint8)


class Rendered:
  """Images that exist only when asked for; notes the slices."""

  def __init__(self):
    self.asked = []

  def __len__(self):
    return len(IMAGES)

  def __getitem__(self, key):
    self.asked.append(key)
    return IMAGES[key]


@jax.jit
def flat(images):
  return images.reshape(len(images), -1).astype(jnp.float32)


@pytest.mark.parametrize('batch_size', [1, 4, 11, 20])
def test_every_image_once_and_in_order(batch_size):
  shapes = set()

  def embed(images):
    shapes.add(images.shape)
    return flat(images)

  z = extract(embed, IMAGES, batch_size)
  np.testing.assert_array_equal(z, IMAGES.reshape(11, -1))
  assert z.dtype == np.float32 and shapes == {(batch_size, 4, 5, 3)}


def test_pytrees_and_dtypes_come_along():
  def embed(images):
    z = flat(images)
    return {'z': z.astype(jnp.bfloat16), 'heads': (z.reshape(len(z), 3, -1), jnp.argmax(z, axis=1))}

  result = extract(embed, IMAGES, 3, progress='')
  assert result['z'].dtype == np.float32
  np.testing.assert_array_equal(result['heads'][0], IMAGES.reshape(11, 3, -1))
  np.testing.assert_array_equal(result['heads'][1], IMAGES.reshape(11, -1).argmax(1))
  assert result['heads'][1].dtype == np.int32


def test_sources_are_read_one_slice_per_batch():
  source = Rendered()
  np.testing.assert_array_equal(extract(pixel_embedding, source, 4), pixel_embedding(IMAGES))
  assert source.asked == [slice(0, 4), slice(4, 8), slice(8, 11)]


def test_progress_bar_shows_name_and_rate(capsys):
  extract(flat, IMAGES, 4, progress='pixels')
  shown = capsys.readouterr().err
  assert 'pixels: 100%' in shown and '11/11' in shown and 'image/s' in shown
  extract(flat, IMAGES, 4, progress='')
  assert capsys.readouterr().err == ''


def test_nothing_to_embed():
  with pytest.raises(ValueError, match='0 images in batches of 4'):
    extract(flat, IMAGES[:0], 4)
  with pytest.raises(ValueError, match='in batches of 0'):
    extract(flat, IMAGES, 0)


@pytest.mark.parametrize('batch_size', [3, 20])
def test_identity_moments(batch_size):
  labels = np.array([2, 0, 1, 2, 2, 0, 3, 1, 3, 3, 3])
  means, counts, within = identity_moments(flat, Rendered(), labels, 4, batch_size, within=True)
  assert counts.tolist() == [2, 2, 3, 4] and counts.dtype == np.int64 and means.dtype == np.float32
  expected = np.stack([IMAGES[labels == y].reshape(-1, 60).mean(0) for y in range(4)])
  np.testing.assert_allclose(means, expected, rtol=1e-5)
  around = IMAGES.reshape(-1, 60) - expected[labels]
  np.testing.assert_allclose(within, around.T @ around / len(IMAGES), atol=1e-5 * within.max())
  assert identity_moments(flat, Rendered(), labels, 4, batch_size, within=False).within is None


@pytest.mark.parametrize(
  ('labels', 'message'),
  [
    ([0] * 6 + [2] * 5, r'identity 1 has no images \(2 of 4 have none\): renumber'),
    ([0, 1, 2, 3], r'need labels of shape \(11,\)'),
    ([4] * 11, r'0\.\.3, found 4\.\.4'),
  ],
)
def test_labels_are_checked_before_anything_is_encoded(labels, message):
  source = Rendered()
  with pytest.raises(ValueError, match=message):
    identity_moments(flat, source, np.array(labels), 4, 5, within=False)
  assert not source.asked
