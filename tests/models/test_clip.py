"""CLIP's image encoder: the features of PyTorch, the pixels of Pillow, an error with a cure for every bad folder."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from gif_jax.codes.tokenizer import make_table
from gif_jax.models.clip import ImageEncoder, Spec, WeightsError, open_clip
from gif_jax.models.encoders import bicubic
from gif_jax.training import sharding
from tests.helpers import places

FOLDER = places.GOLDEN / 'clip'
GOLDEN = dict(np.load(FOLDER / 'golden.npz'))
SIZES = (13, 18, 41)  # made larger, as it is, made smaller


@pytest.fixture(scope='module')
def encoder():
  return open_clip(FOLDER)


@pytest.fixture
def folder(tmp_path):
  """The golden model, for tests to damage or to write in another form."""
  return shutil.copytree(FOLDER, tmp_path / 'clip')


def _change(folder, change=lambda tensors: None, **config):
  """Writes the model again with other weights or settings."""
  settings = json.loads((folder / 'config.json').read_text()) | config
  (folder / 'config.json').write_text(json.dumps(settings))
  tensors = load_file(folder / 'model.safetensors')
  change(tensors)
  save_file(tensors, folder / 'model.safetensors')


@pytest.mark.slow
@pytest.mark.parametrize(
  ('patch', 'width', 'layers', 'projection', 'count'),
  [(32, 768, 12, 512, 87_849_216), (16, 768, 12, 512, 86_192_640), (14, 1024, 24, 768, 303_966_208)],
)
def test_parameter_counts_are_those_of_the_published_models(patch, width, layers, projection, count):
  spec = Spec(width, 4 * width, layers, width // 64, 224, patch, projection)
  shapes = jax.eval_shape(ImageEncoder(spec).init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


@pytest.mark.slow
@pytest.mark.parametrize('size', SIZES)
def test_features_are_those_of_pytorch(encoder, size):
  features = encoder.encode(GOLDEN[f'images_{size}'])
  assert features.dtype == jnp.float32
  np.testing.assert_allclose(features, GOLDEN[f'quick_gelu_{size}'], atol=1e-5)


def test_the_other_activation(folder):
  _change(folder, hidden_act='gelu')
  np.testing.assert_allclose(open_clip(folder).encode(GOLDEN['images_41']), GOLDEN['gelu_41'], atol=1e-5)


def test_a_whole_model_is_read_without_its_text_half(folder, encoder):
  def add_text(tensors):
    tensors['text_model.embeddings.token_embedding.weight'] = np.zeros((7, 5), np.float32)
    tensors['text_projection.weight'] = tensors['logit_scale'] = np.zeros((1, 1), np.float32)
    tensors['vision_model.embeddings.position_ids'] = np.arange(10)[None]  # older files have it

  vision = json.loads((folder / 'config.json').read_text())
  (folder / 'config.json').write_text('{}')
  # What the image half says of the projection does not count in a whole model.
  _change(folder, add_text, model_type='clip', projection_dim=12, vision_config=vision | {'projection_dim': 512})
  again = open_clip(folder)
  assert again.name == encoder.name
  np.testing.assert_array_equal(again.encode(GOLDEN['images_18']), encoder.encode(GOLDEN['images_18']))


def test_weights_in_several_files(folder, encoder):
  tensors = load_file(folder / 'model.safetensors')
  names = sorted(tensors)
  parts = {'a.safetensors': names[:9], 'b.safetensors': names[9:]}
  for part, keys in parts.items():
    save_file({key: tensors[key] for key in keys}, folder / part)
  (folder / 'model.safetensors').unlink()
  index = {'weight_map': {key: part for part, keys in parts.items() for key in keys}}
  (folder / 'model.safetensors.index.json').write_text(json.dumps(index))
  assert open_clip(folder).name == encoder.name
  (folder / 'b.safetensors').rename(folder.parent / 'b.safetensors')
  with pytest.raises(WeightsError, match=r'b\.safetensors is missing'):
    open_clip(folder)
  index = {'weight_map': {key: part.replace('b.', '../b.') for key, part in index['weight_map'].items()}}
  (folder / 'model.safetensors.index.json').write_text(json.dumps(index))
  with pytest.raises(WeightsError, match=r"index\.json names '\.\./b\.safetensors', which is no file in .*: download"):
    open_clip(folder)


@pytest.mark.parametrize('dtype', [np.float16, jnp.bfloat16, np.float64])
def test_weights_of_other_precision_become_float32(folder, dtype):
  def store(kind):
    _change(folder, lambda tensors: tensors.update({key: array.astype(kind) for key, array in tensors.items()}))
    return open_clip(folder).name

  assert store(dtype) == store(np.float32)


def test_the_name_tells_weights_apart_and_not_folders(folder, encoder):
  assert encoder.name.startswith('clip ViT 16x2 patch 6 at 18 pixels, quick_gelu, weights ')
  assert open_clip(folder).name == encoder.name
  _change(folder, lambda tensors: _set(tensors, 0))
  assert open_clip(folder).name != encoder.name


def test_normalisation_that_comes_with_the_model(folder, encoder):
  file = folder / 'preprocessor_config.json'
  file.write_text(json.dumps({'image_mean': [0.5, 0.5, 0.5], 'image_std': [0.5, 0.5, 0.5]}))
  other = open_clip(folder)
  assert other.name != encoder.name
  assert np.abs(other.encode(GOLDEN['images_18']) - encoder.encode(GOLDEN['images_18'])).max() > 0.01
  file.write_text(json.dumps({'image_mean': [0.5, 0.5]}))
  with pytest.raises(WeightsError, match=r'preprocessor_config\.json: image_mean and image_std must be three'):
    open_clip(folder)


@pytest.mark.slow
def test_a_batch_over_eight_devices_stays_there(encoder):
  images = np.concatenate([GOLDEN['images_41']] * 3)[:8]
  rows = sharding.batch_sharding(sharding.make_mesh())
  features = encoder.encode(jax.device_put(images, rows))
  assert features.sharding.is_equivalent_to(rows, 2)
  alone = encoder.encode(images)
  np.testing.assert_allclose(features, alone, atol=1e-5)
  np.testing.assert_allclose(encoder.encode(jax.device_put(images, jax.devices()[3])), alone, atol=1e-5)
  np.testing.assert_allclose(jax.jit(encoder.encode)(images), alone, atol=1e-5)


def test_crops_must_be_square(encoder):
  with pytest.raises(ValueError, match='images are 18x12: crops must be square'):
    encoder.encode(np.zeros((1, 18, 12, 3), np.uint8))


@pytest.mark.parametrize(('s', 'size'), [(112, 224), (250, 224), (512, 224), (112, 56), (13, 18), (224, 224)])
def test_bicubic_is_pillows(s, size):
  images = np.random.default_rng(0).integers(0, 256, (3, s, s, 3), np.uint8)
  wanted = [np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)) for image in images]
  off = np.abs(np.asarray(bicubic(images, size)) - np.stack(wanted).astype(np.float32))
  assert off.max() <= 1 and np.mean(off > 0) < 2e-4


def _cut(folder):
  file = folder / 'model.safetensors'
  file.write_bytes(file.read_bytes()[:-100])


def _only_pickle(folder):
  (folder / 'model.safetensors').rename(folder / 'pytorch_model.bin')


def _quantise(tensors):
  tensors[PROJECTION] = tensors[PROJECTION].astype(np.int8)


def _set(tensors, value):
  tensors[PROJECTION][1, 2] = value


POSITION, PROJECTION = 'vision_model.embeddings.position_embedding.weight', 'visual_projection.weight'
DAMAGES = {
  'no folder': (shutil.rmtree, r'clip: no such folder: make it and download config\.json'),
  'no config': (lambda f: (f / 'config.json').unlink(), r'config\.json is missing: download'),
  'config cut short': (lambda f: (f / 'config.json').write_text('{"a":'), r'config\.json is damaged .*: download'),
  'another model': (lambda f: _change(f, model_type='siglip'), r"config\.json: model_type is 'siglip', CLIP has"),
  'no image half': (lambda f: _change(f, model_type='clip'), r'config\.json lacks vision_config'),
  'unknown activation': (lambda f: _change(f, hidden_act='relu'), r"hidden_act='relu' is not known here"),
  'not a number': (lambda f: _change(f, hidden_size='16'), r"config\.json: hidden_size='16' is no positive int"),
  'a number too large': (lambda f: _change(f, hidden_size=1 << 40), r'hidden_size=1099511627776 is no positive int'),
  'heads': (lambda f: _change(f, num_attention_heads=3), r'3 heads must divide hidden_size=16'),
  'patches': (lambda f: _change(f, image_size=20), r'patch_size=6 image_size=20'),
  'other image size': (lambda f: _change(f, image_size=24), rf'{POSITION} has shape \[10, 16\], .* \[17, 16\]'),
  'no weights': (lambda f: (f / 'model.safetensors').unlink(), r'model\.safetensors is missing: download'),
  'pickle alone': (_only_pickle, r'pytorch_model\.bin alone.*\.save_pretrained'),
  'weights cut short': (_cut, r'model\.safetensors cannot be read as safetensors .*cut short.*download both'),
  'too few layers': (lambda f: _change(f, num_hidden_layers=3), r'lack vision_model\.encoder\.layers\.2\.'),
  'too many layers': (lambda f: _change(f, num_hidden_layers=1), r'holds vision_model\.encoder\.layers\.1\.'),
  'no projection': (lambda f: _change(f, lambda t: t.pop(PROJECTION)), rf'lack {PROJECTION}.*projection: download'),
  'other projection': (lambda f: _change(f, projection_dim=8), rf'{PROJECTION} has shape \[12, 16\]'),
  'quantised': (lambda f: _change(f, _quantise), rf'{PROJECTION} holds I8, not F64, F32'),
  'not finite': (lambda f: _change(f, lambda t: _set(t, np.nan)), rf'{PROJECTION} has values that are not finite'),
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_folder_that_cannot_be_used(folder, damage):
  do, message = DAMAGES[damage]
  do(folder)
  with pytest.raises(WeightsError, match=message) as error:
    open_clip(folder)
  assert str(folder) in str(error.value)


@pytest.mark.slow
def test_a_table_from_clip(tiny_config, tiny_faces, encoder, tmp_path):
  config = tiny_config.copy_and_resolve_references()
  config.tokenizer.encoder, config.tokenizer.encoder_path = 'clip', str(FOLDER)
  config.model.d = 8
  table = make_table(config, tiny_faces, tmp_path / 'table')
  assert table.meta['encoder'] == encoder.name
  assert table.transform.components.shape == (8, 12)
