"""Embedding whole sets: nothing dropped, nothing doubled, order kept, whatever the source and the devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gif_jax.core.distributed.mesh import make_mesh
from gif_jax.evaluation.unseen import pixel_embedding
from gif_jax.models.extraction import batches
from gif_jax.models.extraction.extract import extract
from gif_jax.models.extraction.identity_moments import ExtractError, identity_moments

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
  assert z.dtype == np.float32 and shapes == {(batch_size + -batch_size % 8, 4, 5, 3)}  # a multiple of the devices


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
  assert source.asked == [slice(0, 8), slice(8, 11)]


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


def _bytes(result):
  return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(result)]


@jax.jit
def convolved(images):
  rng = np.random.default_rng(0)
  kernel, out = (rng.normal(size=size).astype(np.float32) / size[-2] ** 0.5 for size in ((3, 3, 3, 16), (320, 8)))
  x = (images.astype(jnp.float32) - 127.5) / 127.5
  x = jax.lax.conv_general_dilated(x, kernel / 3, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
  return jax.nn.relu(x).reshape(len(x), -1) @ out


def test_one_device_equals_eight(monkeypatch):
  labels = np.arange(11) % 4

  def results():
    exact = extract(lambda x: (flat(x), x), IMAGES, 8), identity_moments(flat, IMAGES, labels, 4, 8, within=True)
    return exact, extract(convolved, IMAGES, 8)

  seen = set()
  monkeypatch.setattr(batches, 'make_mesh', lambda devices: seen.add(len(devices)) or make_mesh(devices))
  exact, close = results()
  monkeypatch.setattr(batches, 'make_mesh', lambda devices: make_mesh(devices[:1]))
  alone_exact, alone_close = results()
  assert seen == {8} and _bytes(exact) == _bytes(alone_exact)
  np.testing.assert_allclose(close, alone_close, rtol=0, atol=1e-6)


def test_every_device_has_its_share_of_a_batch():
  def embed(images):
    assert [shard.data.shape[0] for shard in images.addressable_shards] == [2] * 8
    return flat(images)

  extract(embed, IMAGES, 10)


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_name_the_image(value):
  labels = np.array([2, 0, 1, 2, 2, 0, 3, 1, 3, 3, 3])

  def encode(images):
    bad = (images == IMAGES[9:10]).all((1, 2, 3))
    return flat(images).at[:, 7].set(jnp.where(bad, value, 0))

  with pytest.raises(ExtractError, match=r'image 9, of identity 3, are not finite \(1 such.*look at this'):
    identity_moments(encode, IMAGES, labels, 4, 8, within=False)
  assert np.flatnonzero(~np.isfinite(extract(encode, IMAGES, 8)).all(1)).tolist() == [9]  # the caller's to judge


@pytest.mark.slow
def test_means_of_many_images_stay_accurate():
  features = np.random.default_rng(1).random((6000, 1, 1, 3), np.float32)
  labels = np.arange(6000) % 2  # 3000 images each, never two neighbours: as many additions as there can be
  means, _, within = identity_moments(flat, features, labels, 2, 8, within=True, progress='')
  exact = features.reshape(-1, 2, 3).mean(0, dtype=np.float64)
  np.testing.assert_allclose(means, exact, rtol=1e-5)
  around = features[:, 0, 0] - exact[labels]
  np.testing.assert_allclose(within, around.T @ around / 6000, rtol=0, atol=1e-5 * within.max())


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
