"""Aligned faces from photographs: python -m gif_jax.align --input=photographs --output=faces

--input has one sub-folder per person. --output gets the same folders, with a square crop for every photograph: eyes,
nose and mouth lie where the field has them (data/align.py). Those points come from --detector or a file, --landmarks.
"""

from pathlib import Path

from absl import flags

from gif_jax.command_line import launch
from gif_jax.core import interrupts
from gif_jax.core.errors import ConfigError


def main(_) -> None:
  if _LANDMARKS.value and (flags.FLAGS['detector'].present or _PATH.value):
    raise ConfigError('--landmarks says where the points are; leave --detector and --detector_path out.')
  if _PATH.value and _DETECTOR.value != 'yunet':
    raise ConfigError('--detector_path is for --detector=yunet; mtcnn has its weights with it.')
  with interrupts.held():
    from gif_jax.data.align_people import Source, align_people, described

  output = Path(_OUTPUT.value)
  source = Source(_LANDMARKS.value, _DETECTOR.value, _PATH.value)
  print(described(output, align_people(Path(_INPUT.value), output, _SIZE.value, source)))


if __name__ == '__main__':
  _INPUT = flags.DEFINE_string('input', None, 'Photographs, one sub-folder per person.')
  _OUTPUT = flags.DEFINE_string('output', None, 'Folder to write the crops to, in the same sub-folders.')
  _LANDMARKS = flags.DEFINE_string('landmarks', '', 'File of known points: PATH x1 y1 .. x5 y5 in every line.')
  _DETECTOR = flags.DEFINE_enum('detector', 'mtcnn', ['mtcnn', 'yunet'], 'What finds faces and their points.')
  _PATH = flags.DEFINE_string('detector_path', '', 'Its weights: for yunet, the ONNX file.')
  _SIZE = flags.DEFINE_integer('size', 112, 'Pixels a side of the crops.', 16, 1024)
  flags.mark_flags_as_required(['input', 'output'])
  launch(main)
