"""Looks for what is wrong with data sets: python -m gif_jax audit --input=faces --against=lfw.bin --output=report

Counts, images that cannot be used, pictures that occur twice, people who are evaluated on too, swapped colours;
with --encoder people who may be the same. Several inputs have commas between. Nothing is changed; the report (audit.md,
audit.png, lists) says what to do about each finding.
"""

from pathlib import Path
from typing import Any

from absl import flags

from gif_jax.core import interrupts


def define_flags() -> None:
  flags.DEFINE_string('input', None, 'What to look at, in any form that is read; several with commas between.')
  flags.DEFINE_string('output', None, 'Folder to write the report to.')
  flags.DEFINE_string('against', '', 'Verification sets (.bin) whose people should not be in --input; commas between.')
  flags.DEFINE_enum(
    'encoder', '', ['', 'pixels', 'clip', 'backbone'], 'Tells whether people look alike; nothing is compared without.'
  )
  flags.DEFINE_string('encoder_path', '', "Folder with CLIP's weights, or --workdir of a run (backbone).")
  flags.DEFINE_float('similarity', 0.0, 'Cosine from which people are listed; 0: 0.7 for backbone, 0.9 for clip.', 0, 1)
  flags.mark_flags_as_required(['input', 'output'])


def main(_: list[str]) -> None:
  with interrupts.held():
    from gif_jax.audit.audit import Settings, audit
    from gif_jax.audit.text import faults

  given: dict[str, Any] = {name: flags.FLAGS[name].value for name in Settings._fields}
  report = audit(Settings(**given | {'output': Path(given['output'])}))
  print('\n'.join([*faults(report), f'Report: {Path(given["output"]) / "audit.md"}']))
