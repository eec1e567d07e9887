"""Writes throughput_torch.json: names and shapes of the network in benchmarks/throughput/torch_step.py.

Not part of the tests, which read the file alone: pip install torch==2.13.0, then in the project's root
PYTHONPATH=. python tests/golden/make_throughput_golden.py
"""

import json
from pathlib import Path
from types import SimpleNamespace

import torch

from benchmarks.throughput.torch_step import Network, names

COMMON = {'size': 112, 'd': 512, 'l': 5, 'v': 13, 'projection': 128, 'dtype': 'float32'}
NETWORKS = {
  'small': {'blocks': (1, 1, 1), 'widths': (32, 64, 128), 'strides': (1, 2, 2), 'patch': 4},
  'r18': {'blocks': (2, 2, 2, 2), 'widths': (64, 128, 256, 512), 'strides': (2, 2, 2, 2), 'patch': 1},
}


def main():
  with torch.device('meta'):
    shapes_of = {name: names(Network(SimpleNamespace(**COMMON, **shape))) for name, shape in NETWORKS.items()}
  lines = [json.dumps(name) + ': ' + json.dumps(shapes) for name, shapes in shapes_of.items()]
  Path(__file__).with_name('throughput_torch.json').write_text('{' + ',\n'.join(lines) + '}\n')


if __name__ == '__main__':
  main()
