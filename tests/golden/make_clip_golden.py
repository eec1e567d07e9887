"""Writes clip/: a tiny CLIP image encoder with random weights, as published ones are laid out, and what it computes.

Features are those of Hugging Face's PyTorch implementation, pixels those of Pillow; neither is used by the tests, which
read the files alone: pip install torch==2.13.0 transformers==5.23.0 pillow && python tests/golden/make_clip_golden.py
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

FOLDER = Path(__file__).with_name('clip')
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SHAPE = {
  'hidden_size': 16,
  'intermediate_size': 24,
  'num_hidden_layers': 2,
  'num_attention_heads': 4,
  'image_size': 18,
  'patch_size': 6,
  'projection_dim': 12,
}


def model(act):
  """Every weight random and large enough to matter: fresh biases and norms (0 and 1) would hide mistakes."""
  net = CLIPVisionModelWithProjection(CLIPVisionConfig(**SHAPE, hidden_act=act, attn_implementation='eager')).eval()
  generator = torch.Generator().manual_seed(0)
  for name, tensor in net.state_dict().items():
    if tensor.dtype.is_floating_point:
      noise = torch.randn(tensor.shape, generator=generator)
      tensor.copy_(0.5 + noise.abs() if 'norm' in name and name.endswith('weight') else 0.3 * noise)
  return net


def pixels(images):
  """What the published pipeline makes of square crops uint8 [n, s, s, 3]: float32 [n, 3, image_size, image_size]."""
  size = (SHAPE['image_size'],) * 2
  resized = np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)) for image in images])
  x = (resized.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
  return torch.from_numpy(x.transpose(0, 3, 1, 2).copy())


if __name__ == '__main__':
  rng = np.random.default_rng(0)
  golden = {f'images_{s}': rng.integers(0, 256, (3, s, s, 3), np.uint8) for s in (13, 18, 41)}
  for act in ('gelu', 'quick_gelu'):
    with torch.no_grad():
      net = model(act)
      golden |= {f'{act}_{s}': net(pixels(golden[f'images_{s}'])).image_embeds.numpy() for s in (13, 18, 41)}
  net.save_pretrained(FOLDER)  # the weights are the same for both activations, config.json says quick_gelu
  np.savez_compressed(FOLDER / 'golden.npz', **golden)
