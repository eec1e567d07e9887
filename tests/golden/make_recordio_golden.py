"""Writes recordio/: .rec files by MXNet's own writer (dmlc-core's C++), verification sets by NumPy 1 and OpenCV 4.

Not part of the tests, which read the files alone: Python 3.11, pip install mxnet==1.9.1 'numpy<1.24'
'opencv-python-headless<4.8' && python tests/golden/make_recordio_golden.py
"""

import json
import pickle
import struct
from itertools import pairwise
from pathlib import Path

import cv2
import mxnet
import numpy as np
from mxnet.recordio import IRHeader, MXIndexedRecordIO, pack

FOLDER = Path(__file__).with_name('recordio')
MAGIC = struct.pack('<I', 0xCED7230A)
# Where the magic lies decides how a record is split: at multiples of 4 and beside them, one, several, first and last.
SPLIT = [
  MAGIC,
  MAGIC * 2,
  MAGIC * 3 + b'x',
  b'abcd' + MAGIC,
  MAGIC + b'abcd',
  b'a' + MAGIC,
  b'abc' + MAGIC + b'abcde',
  b'abcd' + MAGIC + b'efgh' + MAGIC + b'ijklm',
  MAGIC[:3],
  b'abcd' + MAGIC[:3],
  b'\0\0' + MAGIC + b'\0\0' + MAGIC,
]


def images():
  """Small JPEGs, then bytes that are no images but hold the magic."""
  rng = np.random.default_rng(0)
  faces = [cv2.imencode('.jpg', rng.integers(0, 256, (8, 8, 3), np.uint8))[1].tobytes() for _ in range(9)]
  return faces + SPLIT


def header(label, key):
  return IRHeader(0, label, key, 0)


def insightface(path, found):
  """As InsightFace's tools do: record 0, images label by label, identity records. Labels are 3, 7 and 100000."""
  labels = sorted([3, 7, 100000][i % 3] for i in range(len(found)))
  first = 1 + len(found)
  writer = MXIndexedRecordIO(str(path.with_suffix('.idx')), str(path), 'w')
  writer.write_idx(0, pack(header([first, first + 3], 0), b''))
  for key, (label, image) in enumerate(zip(labels, found), 1):
    writer.write_idx(key, pack(header([label, 0] if key % 4 == 0 else label, key), image))
  edges = np.append(1 + np.unique(labels, return_index=True)[1], first).tolist()
  for key, (a, b) in enumerate(pairwise(edges), first):
    writer.write_idx(key, pack(header([a, b], key), b''))
  writer.close()
  path.with_name('property').write_text('3,8,8\n')
  return labels


def plain(path, found):
  """As im2rec and shuffling do: images alone, with keys and labels in any order, some with several labels."""
  order = np.random.default_rng(1).permutation(len(found)).tolist()
  writer = MXIndexedRecordIO(str(path.with_suffix('.idx')), str(path), 'w')
  for key in order:
    label = [key % 5, 0.5, -1] if key % 3 == 0 else key % 5
    writer.write_idx(key, pack(header(label, key), found[key]))
  writer.close()
  return order


def ours(path, found):
  """What gif_jax should write for images of the people 0, 1 and 2, byte for byte."""
  labels = [i % 3 for i in range(len(found))]
  writer = MXIndexedRecordIO(str(path.with_suffix('.idx')), str(path), 'w')
  edges = [1, *(1 + sum(label < j for label in labels) for j in (1, 2, 3))]
  writer.write_idx(0, pack(header([edges[-1], edges[-1] + 3], 0), b''))
  for key, i in enumerate(sorted(range(len(found)), key=lambda i: (labels[i], i)), 1):
    writer.write_idx(key, pack(header(labels[i], key), found[i]))
  for key, (a, b) in enumerate(pairwise(edges), edges[-1]):
    writer.write_idx(key, pack(header([a, b], key), b''))
  writer.close()
  path.with_name('property').write_text('3,8,8\n')


def pairs(protocol):
  """As InsightFace's tools do, which take what cv2.imencode gives: an array, a row or a column."""
  arrays = [np.frombuffer(image, np.uint8).copy() for image in images()[:4]]
  arrays[3] = arrays[3][:, None]
  with (FOLDER / f'protocol{protocol}.bin').open('wb') as file:
    pickle.dump((arrays, [True, np.bool_(False)]), file, protocol=protocol)


if __name__ == '__main__':
  for name in ('insightface', 'plain', 'ours'):
    (FOLDER / name).mkdir(parents=True, exist_ok=True)
  found = images()
  expected = {'images': [image.hex() for image in found], 'mxnet': mxnet.__version__}
  expected['labels'] = insightface(FOLDER / 'insightface' / 'train.rec', found)
  expected['order'] = plain(FOLDER / 'plain' / 'train.rec', found)
  ours(FOLDER / 'ours' / 'train.rec', SPLIT)
  for protocol in (0, 2, 4, 5):
    pairs(protocol)
  (FOLDER / 'expected.json').write_text(json.dumps(expected) + '\n')
