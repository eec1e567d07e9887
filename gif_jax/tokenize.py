"""Makes an identity-code table: python -m gif_jax.tokenize --config=configs/quickstart.py --output=my_table

Images -> features -> one vector per identity -> homogenised vectors and codes -> table (docs/method.md, section 1).
With --extend=runs/quickstart/table: a table of its people, unchanged, and those of the config after them.
"""

from pathlib import Path

from absl import flags

from gif_jax.command_line import define_config, define_processes, launch, read_flag
from gif_jax.core import interrupts


def main(_) -> None:
  # Imported here so that --help, and worker processes, which import this file again, start fast.
  with interrupts.held():
    from gif_jax.codes import make
    from gif_jax.codes.table import CodeTable
    from gif_jax.config import validate
    from gif_jax.core import processes
    from gif_jax.data.sources import open_faces, open_newcomers

  with processes.together():
    config, output = read_flag(_CONFIG), Path(_OUTPUT.value)
    processes.check_same({'config': config.to_dict()})
    config = config if _EXTEND.value else make.with_own_identities(config)
    validate(config)
    if _EXTEND.value:
      table = make.extend_table(config, open_newcomers(config), CodeTable.open(_EXTEND.value), output)
    else:
      faces = None if config.tokenizer.vectors else open_faces(config, cache=None)
      table = make.make_table(config, faces, output)
    if processes.first():
      print(f'{table.path}: m={table.m}, l={table.l}, v={table.v}, d={table.d}')


if __name__ == '__main__':
  _CONFIG = define_config('The experiment, a file in configs/.')
  _OUTPUT = flags.DEFINE_string('output', None, 'Directory to write the table to.')
  _EXTEND = flags.DEFINE_string('extend', '', 'A table to add the people of the config to, as they are in --output.')
  flags.mark_flags_as_required(['config', 'output'])
  define_processes()
  launch(main)
