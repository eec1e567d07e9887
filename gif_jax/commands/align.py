"""Aligned faces from photographs: python -m gif_jax align --input=photographs --output=faces

--input has one sub-folder per person. --output gets the same folders, with a square crop for every photograph: eyes,
nose and mouth lie where the field has them (gif_jax/data/alignment). Those points come from --detector or a file,
--landmarks.
"""

from pathlib import Path

from absl import flags

from gif_jax.core import interrupts
from gif_jax.core.errors import ConfigError


def define_flags() -> None:
  flags.DEFINE_string('input', None, 'Photographs, one sub-folder per person.')
  flags.DEFINE_string('output', None, 'Folder to write the crops to, in the same sub-folders.')
  flags.DEFINE_string('landmarks', '', 'File of known points: PATH x1 y1 .. x5 y5 in every line.')
  flags.DEFINE_enum('detector', 'mtcnn', ['mtcnn', 'yunet'], 'What finds faces and their points.')
  flags.DEFINE_string('detector_path', '', 'Its weights: for yunet, the ONNX file.')
  flags.DEFINE_integer('size', 112, 'Pixels a side of the crops.', 16, 1024)
  flags.mark_flags_as_required(['input', 'output'])


def main(_: list[str]) -> None:
  if flags.FLAGS.landmarks and (flags.FLAGS['detector'].present or flags.FLAGS.detector_path):
    raise ConfigError('--landmarks says where the points are; leave --detector and --detector_path out.')
  if flags.FLAGS.detector_path and flags.FLAGS.detector != 'yunet':
    raise ConfigError('--detector_path is for --detector=yunet; mtcnn has its weights with it.')
  with interrupts.held():
    from gif_jax.data.alignment.photographs import Source, align_people, described

  output = Path(flags.FLAGS.output)
  source = Source(flags.FLAGS.landmarks, flags.FLAGS.detector, flags.FLAGS.detector_path)
  print(described(output, align_people(Path(flags.FLAGS.input), output, flags.FLAGS.size, source)))
