"""Makes a data set to train on: python -m gif_jax convert --input=faces --output=data/faces

--input is a folder of people, InsightFace's RecordIO or any other form that gif_jax reads; several, commas between, are
put together. --output is a folder in the training format, NAME.rec (InsightFace's RecordIO) or NAME.bin
(verification pairs). A command that was killed is given again and goes on.
"""

from pathlib import Path
from typing import Any

from absl import flags

from gif_jax.core import interrupts


def define_flags() -> None:
  flags.DEFINE_string('input', None, 'What to convert; several with commas between are put together.')
  flags.DEFINE_string('output', None, 'A folder to make; NAME.rec for RecordIO, NAME.bin for verification pairs.')
  flags.DEFINE_integer('min_images', 1, 'Images that a person must have, after bad ones were left out.', 1)
  flags.DEFINE_string('people', '', 'A file of names, one a line: only these.')
  flags.DEFINE_string('without', '', 'A file of names, one a line: all but these.')
  flags.DEFINE_string('without_images', '', 'A list of images to leave out: odd_sizes.tsv of python -m gif_jax audit.')
  flags.DEFINE_string('same', '', 'A CSV file (same,similarity,first,second) of people who are one where same is 1.')
  flags.DEFINE_integer(
    'size', 0, 'Pixels a side, 16 or more; 0: those of the input, or 112 where they differ.', 0, 1024
  )
  flags.DEFINE_enum('bad_images', 'skip', ['skip', 'error'], 'What to do with images that cannot be read.')
  flags.DEFINE_string('pairs', '6000', 'For .bin: how many pairs to draw, or a file with them.')
  flags.mark_flags_as_required(['input', 'output'])


def main(_: list[str]) -> None:
  with interrupts.held():
    from gif_jax.data.convert.convert import Settings, convert

  given: dict[str, Any] = {name: flags.FLAGS[name].value for name in Settings._fields}
  print(convert(Settings(**given | {'output': Path(given['output'])})))
