"""The door that trains: python -m gif_jax.main --config=configs/r100.py, which is python -m gif_jax train."""

import sys

from gif_jax.commands import train
from gif_jax.commands.flags import launch

if __name__ == '__main__':
  launch(train, sys.argv)
