"""The quality of a table: python -m gif_jax inspect runs/quickstart/table --config=configs/quickstart.py

Prints metrics of TABLE, the folder named, with what they mean, and draws report.png and tree.png. Faces in tree.png
need --config, the experiment that the table was made for.
"""

from pathlib import Path

from absl import flags

from gif_jax.commands.flags import define_config, read_config
from gif_jax.core import interrupts

ARGUMENTS = ('TABLE',)


def define_flags() -> None:
  define_config('The experiment that the table was made for, for faces.')
  flags.DEFINE_string('output', '', 'Folder to draw to; default: TABLE_report.')


def _open_people(table):
  """The people of --config, for whom the table must be made; None without one."""
  with interrupts.held():
    from gif_jax.codes.tokenizer import check_people, with_own_identities
    from gif_jax.data.sets.open import open_faces
    from gif_jax.validation import validate

  if flags.FLAGS.config is None:
    return None
  config = with_own_identities(read_config())
  validate(config)
  faces = open_faces(config, cache=None)
  check_people(table, faces)
  return faces


def main(argv: list[str]) -> None:
  with interrupts.held():
    from gif_jax.codes.quality.plots import inspect
    from gif_jax.codes.table import CodeTable
    from gif_jax.core.storage import locks
    from gif_jax.core.storage.files import make_writable

  table = CodeTable.open(argv[1])
  output = Path(flags.FLAGS.output or f'{table.path}_report')
  make_writable('output', output)
  with locks.locked(locks.inside(output), f'--output={output}'):
    faces = _open_people(table)
    table.verify()
    text = inspect(table, faces, output)
  print(f'{table.path}\n\n{text}\n\nDrawn: {output / "report.png"}, {output / "tree.png"}')
  if faces is None:
    print('tree.png has no faces; to see them, give --config=CONFIG.py, the experiment the table was made for.')
