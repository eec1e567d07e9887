"""A small TinyFace: pictures and lists as its testing set is laid out."""

import numpy as np
from PIL import Image
from scipy.io import savemat

from gif_jax.evaluation.tinyface import dataset
from gif_jax.evaluation.tinyface.matlab import read_names
from tests.helpers.pictures import picture

SIZE = 24
PROBES = ['7_1.png', '3_2.png', '3_10.png']
MATCHES = ['3_1.png', '7_5.png', '3_4.png']
DISTRACTORS = ['10.png', '0_2.png', 'x.png', '3_9.png']


def cell_array(names):
  """A cell array [n, 1] of strings, as MATLAB writes it."""
  cells = np.empty((len(names), 1), object)
  cells[:, 0] = names
  return cells


def write_lists(folder, probes=PROBES, matches=MATCHES):
  for file, key, names in (('probe', 'probe', probes), ('gallery_match', 'gallery', matches)):
    ids = np.array([[int(name.split('_')[0])] for name in names])
    savemat(folder / f'{file}_img_ID_pairs.mat', {f'{key}_set': cell_array(names), f'{key}_ids': ids})


def read_lists_once(patch):
  """Lists of one content are read once: each reading takes a process of its own, half a second.

  patch: a MonkeyPatch, as long as whose changes last.
  """
  known = {}

  def read(path, variable):
    content = path.read_bytes()[128:], variable  # the head says when it was written
    if content not in known:
      known[content] = read_names(path, variable)
    return list(known[content])

  patch.setattr(dataset, 'read_names', read)


def write_tree(root, side=SIZE):
  """Testing_Set below `root`; pictures of a person are nearly alike."""
  folder = root / 'Testing_Set'
  for name, files in (('Probe', PROBES), ('Gallery_Match', MATCHES), ('Gallery_Distractor', DISTRACTORS)):
    (folder / name).mkdir(parents=True)
    for i, file in enumerate(files):
      seed = (1, i) if name == 'Gallery_Distractor' else (0, int(file.split('_')[0]))
      noise = np.random.default_rng((len(name), i)).integers(0, 8, (side, side, 3))
      Image.fromarray((picture(seed, side) // 2 + noise).astype(np.uint8)).save(folder / name / file)
  write_lists(folder)
  return root
