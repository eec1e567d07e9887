"""`published`: the paper's tokenisation to the letter, on the data, network and budget of quickstart.py.

python -m gif_jax.main --config=configs/quickstart_published.py

The paper's: code vectors = mean features; homogenisation with lr 0.1, 1000 epochs, subsets of 2048 and the loss as
written; a plain k-means tree over the homogenised vectors; fixed vectors; parallel heads; gamma = lambda = 1; SGD with
lr 0.1 and cosine decay. Not the paper's: its features are CLIP's, these are `pixels`; a cell of the tree has a
capacity, so that codes are unique; scale and margin of the heads, which it does not state.
"""

from gif_jax.configs import quickstart


def get_config():
  c = quickstart.get_config()
  c.tokenizer.whiten = False
  c.tokenizer.cluster = 'homogenized'
  c.tokenizer.codes = 'tree'
  c.tokenizer.homogenize_epochs = 1000
  c.tokenizer.homogenize_lr = 0.1
  c.tokenizer.homogenize_scaled = False
  c.tokenizer.homogenize_subset = 2048
  c.loss.scale = 16.0
  c.optim.lr = 0.1
  return c
