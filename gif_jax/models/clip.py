"""CLIP's image encoder (Radford et al., ICML 2021), with published weights from a local folder.

The folder holds what Hugging Face publishes: config.json and model.safetensors, of a complete CLIP model (its text half
is not read) or of the image half with its projection.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open

from gif_jax.core.errors import UserError
from gif_jax.core.storage.files import read_json
from gif_jax.models.encoders import Encoder, bicubic, with_weights

_FETCH = 'download config.json and model.safetensors of one CLIP model from Hugging Face into this folder'
_AGAIN = 'download both files again, from the same place'
_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  'quick_gelu': lambda x: x * jax.nn.sigmoid(1.702 * x),
  'gelu': functools.partial(jax.nn.gelu, approximate=False),
}
_LARGEST = 1 << 16  # of any number in config.json; a damaged one must not take all memory
_FLOATS = ('F64', 'F32', 'F16', 'BF16')
_TO_TORCH = {2: (1, 0), 4: (3, 2, 0, 1)}  # the order that PyTorch has a kernel's axes in, by their number
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of OpenAI's training images


class WeightsError(UserError):
  """Weights that are missing, damaged or of another model; the message names the file and the cure."""


class Spec(NamedTuple):
  """Shape of an image encoder, in the words of config.json. What is left out there has these values: ViT-B/32."""

  hidden_size: int = 768
  intermediate_size: int = 3072
  num_hidden_layers: int = 12
  num_attention_heads: int = 12
  image_size: int = 224
  patch_size: int = 32
  projection_dim: int = 512
  hidden_act: str = 'quick_gelu'
  layer_norm_eps: float = 1e-5


class _Layer(nn.Module):
  """Attention and perceptron, each behind its normalisation: [B, T, hidden_size] -> the same."""

  spec: Spec

  @nn.compact
  def __call__(self, x):
    spec, width = self.spec, x.shape[-1]
    y = _norm(spec, 'layer_norm1')(x)
    heads = (*x.shape[:2], spec.num_attention_heads, width // spec.num_attention_heads)
    q, k, v = (nn.Dense(width, name=f'self_attn.{part}_proj')(y).reshape(heads) for part in 'qkv')
    y = jax.nn.dot_product_attention(q, k, v).reshape(x.shape)
    x = x + nn.Dense(width, name='self_attn.out_proj')(y)
    y = nn.Dense(spec.intermediate_size, name='mlp.fc1')(_norm(spec, 'layer_norm2')(x))
    return x + nn.Dense(width, name='mlp.fc2')(_ACTIVATIONS[spec.hidden_act](y))


class _Transformer(nn.Module):
  """Normalised images [B, image_size, image_size, 3] -> their class token [B, hidden_size]."""

  spec: Spec

  @nn.compact
  def __call__(self, x):
    spec, width = self.spec, self.spec.hidden_size
    p, tokens = spec.patch_size, 1 + (spec.image_size // spec.patch_size) ** 2
    first = self.param('embeddings.class_embedding', nn.initializers.normal(0.02), (width,))
    position = self.param('embeddings.position_embedding.weight', nn.initializers.normal(0.02), (tokens, width))
    patches = nn.Conv(width, (p, p), p, padding='VALID', use_bias=False, name='embeddings.patch_embedding')(x)
    first = jnp.broadcast_to(first, (len(x), 1, width))
    x = jnp.concatenate([first, patches.reshape(len(x), -1, width)], axis=1) + position[None]
    x = _norm(spec, 'pre_layrnorm')(x)
    for i in range(spec.num_hidden_layers):
      x = _Layer(spec, name=f'encoder.layers.{i}')(x)
    return _norm(spec, 'post_layernorm')(x[:, 0])


class ImageEncoder(nn.Module):
  """Normalised images float32 [B, image_size, image_size, 3] -> CLIP's image features float32 [B, projection_dim].

  Modules have the names that the published weights have.
  """

  spec: Spec

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = _Transformer(self.spec, name='vision_model')(x)
    return nn.Dense(self.spec.projection_dim, use_bias=False, name='visual_projection')(x)


def _norm(spec, name):
  # The fast variance, E[x^2] - E[x]^2, loses digits where the mean is large, as it is in trained transformers.
  return nn.LayerNorm(epsilon=spec.layer_norm_eps, use_fast_variance=False, name=name)


def open_clip(folder: str | Path) -> Encoder:
  """The encoder in `folder`, with CLIP's own preprocessing: uint8 [B, s, s, 3] square crops -> float32 [B, D].

  Crops are resized to the model's image_size as Pillow's bicubic does, and normalised by CLIP's mean and standard
  deviation, or those of preprocessor_config.json where the folder has one. Features are not normalised.
  Raises WeightsError for a folder that holds no CLIP weights, or damaged ones.
  """
  folder = Path(folder)
  spec = read_spec(folder)
  # With the normalisation among the weights, the checksum in the name tells of everything that makes the features.
  weights = {'params': read_weights(folder, spec), 'normalisation': _normalisation(folder)}
  model = ImageEncoder(spec)

  def encode(weights, images):
    mean, std = weights['normalisation']
    x = (bicubic(images, spec.image_size) / 255 - mean) / std
    return model.apply({'params': weights['params']}, x)

  shape = f'{spec.hidden_size}x{spec.num_hidden_layers} patch {spec.patch_size} at {spec.image_size} pixels'
  return with_weights(encode, weights, f'clip ViT {shape}, {spec.hidden_act}')


def read_spec(folder: Path) -> Spec:
  """What config.json says of the image encoder. Raises WeightsError."""
  file = folder / 'config.json'
  if not folder.is_dir():
    raise WeightsError(f'{folder}: no such folder: make it and {_FETCH}')
  config = _read_json(file)
  kind = config.get('model_type')
  if kind not in ('clip', 'clip_vision_model'):
    raise WeightsError(f'{file}: model_type is {kind!r}, CLIP has "clip" or "clip_vision_model": {_FETCH}')
  vision = config
  if kind == 'clip':
    if not isinstance(config.get('vision_config'), dict):
      raise WeightsError(f'{file} lacks vision_config, the image half of the model: {_AGAIN}')
    # The projection is a part of the complete model; what the image half says of it is not used there.
    vision = config['vision_config'] | {'projection_dim': config.get('projection_dim', Spec().projection_dim)}
  spec = Spec(**{key: vision.get(key, default) for key, default in Spec()._asdict().items()})
  _check_spec(spec, file)
  return spec


def _check_spec(spec, file):
  for key, value in spec._asdict().items():
    kind = type(getattr(Spec(), key))
    if type(value) is not kind or (kind is not str and not 0 < value <= _LARGEST):
      raise WeightsError(f'{file}: {key}={value!r} is no positive {kind.__name__}: {_AGAIN}')
  if spec.hidden_act not in _ACTIVATIONS:
    raise WeightsError(f'{file}: hidden_act={spec.hidden_act!r} is not known here, only {", ".join(_ACTIVATIONS)}')
  if spec.hidden_size % spec.num_attention_heads or spec.image_size % spec.patch_size:
    raise WeightsError(
      f'{file}: {spec.num_attention_heads} heads must divide hidden_size={spec.hidden_size}, and '
      f'patch_size={spec.patch_size} image_size={spec.image_size}: {_AGAIN}'
    )


def _read_json(file):
  if not file.exists():
    raise WeightsError(f'{file} is missing: {_FETCH}')
  return read_json(file, WeightsError, _AGAIN)


def _normalisation(folder):
  """Mean and standard deviation of colours in 0..1: float32 [2, 1, 1, 1, 3]."""
  file = folder / 'preprocessor_config.json'
  config = _read_json(file) if file.exists() else {}
  try:
    values = np.array([config.get('image_mean', _MEAN), config.get('image_std', _STD)], np.float32)
    if values.shape == (2, 3) and np.isfinite(values).all() and np.all(values[1] > 0):
      return values.reshape(2, 1, 1, 1, 3)
  except (TypeError, ValueError):
    pass
  raise WeightsError(f'{file}: image_mean and image_std must be three numbers each: download it again, or remove it')


class _Parameter(NamedTuple):
  """One parameter: where it is in our tree, and its shape and order of axes in the file."""

  path: tuple[str, ...]
  shape: list[int]
  axes: tuple[int, ...]


def read_weights(folder: Path, spec: Spec) -> dict:
  """Parameters of `ImageEncoder(spec)`, NumPy float32, from the safetensors in `folder`. Raises WeightsError."""
  wanted, weights = _parameters(spec), {}
  for file in _files(folder):
    try:
      with safe_open(file, 'np') as tensors:
        for key in _image_keys(tensors, wanted, file):
          weights[wanted[key].path] = _tensor(tensors, key, wanted[key], file)
    except FileNotFoundError:
      raise WeightsError(f'{file} is missing: {_FETCH}') from None
    except (OSError, SafetensorError) as error:
      raise WeightsError(
        f'{file} cannot be read as safetensors ({error}); it may be cut short, or what Git leaves in place of a large '
        f'file: {_AGAIN}'
      ) from None
  for key, parameter in wanted.items():
    if parameter.path not in weights:
      raise WeightsError(f"{folder}: the weights lack {key} of CLIP's image encoder with projection: {_FETCH}")
  return unflatten_dict(weights)


def _parameters(spec):
  """Name in the file -> parameter, for a model of this shape."""
  images = jax.ShapeDtypeStruct((1, spec.image_size, spec.image_size, 3), jnp.float32)
  tree = jax.eval_shape(ImageEncoder(spec).init, jax.random.key(0), images)['params']
  parameters = {}
  for path, leaf in flatten_dict(tree).items():
    *modules, name = path
    axes = _TO_TORCH[leaf.ndim] if name == 'kernel' else tuple(range(leaf.ndim))
    key = '.'.join([*modules, {'kernel': 'weight', 'scale': 'weight'}.get(name, name)])
    parameters[key] = _Parameter(path, [leaf.shape[axis] for axis in axes], axes)
  return parameters


def _files(folder):
  """The files with the weights: one, or those that an index names."""
  single, index = folder / 'model.safetensors', folder / 'model.safetensors.index.json'
  if single.exists():
    return [single]
  if index.exists():
    shards = _read_json(index).get('weight_map')
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
      raise WeightsError(f'{index} lacks weight_map, the names of the files with the weights: {_AGAIN}')
    if outside := [name for name in shards.values() if Path(name).name != name]:
      raise WeightsError(f'{index} names {outside[0]!r}, which is no file in {folder}: {_AGAIN}')
    return [folder / name for name in sorted(set(shards.values()))]
  if (folder / 'pytorch_model.bin').exists():
    raise WeightsError(
      f'{folder} has its weights as pytorch_model.bin alone, a format that can run programs and is not read here. '
      'Download model.safetensors, or make it where PyTorch and transformers are installed: python -c "from '
      f"transformers import CLIPModel; CLIPModel.from_pretrained('{folder}').save_pretrained('{folder}')\""
    )
  raise WeightsError(f'{single} is missing: {_FETCH}')


def _image_keys(tensors, wanted, file):
  """Names of the image half's tensors in a file. One too many (a layer, say) would be left out in silence: an error."""
  keys = [key for key in sorted(tensors.keys()) if key.startswith(('vision_model.', 'visual_projection.'))]
  keys = [key for key in keys if not key.endswith('.position_ids')]
  for key in keys:
    if key not in wanted:
      raise WeightsError(f'{file} holds {key}, for which a model as in config.json has no place: {_AGAIN}')
  return keys


def _tensor(tensors, key, parameter, file):
  tensor = tensors.get_slice(key)
  if tensor.get_shape() != parameter.shape:
    raise WeightsError(
      f'{file}: {key} has shape {tensor.get_shape()}, config.json makes it {parameter.shape}: {_AGAIN}'
    )
  if tensor.get_dtype() not in _FLOATS:
    raise WeightsError(f'{file}: {key} holds {tensor.get_dtype()}, not {", ".join(_FLOATS)}: take weights as published')
  array = tensors.get_tensor(key).astype(np.float32)
  if not np.isfinite(array).all():
    raise WeightsError(f'{file}: {key} has values that are not finite: {_AGAIN}')
  return array.transpose(np.argsort(parameter.axes))
