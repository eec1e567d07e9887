"""Makes an identity-code table: python -m gif_jax tokenize --config=configs/quickstart.py --output=my_table

Images -> features -> one vector per identity -> homogenised vectors and codes -> table (docs/method.md, section 1).
With --extend=runs/quickstart/table: a table of its people, unchanged, and those of the config after them.
"""

from pathlib import Path

from absl import flags

from gif_jax.commands.flags import define_config, define_processes, read_config
from gif_jax.core import interrupts


def define_flags() -> None:
  define_config('The experiment, a file in configs/.')
  flags.DEFINE_string('output', None, 'Directory to write the table to.')
  flags.DEFINE_string('extend', '', 'A table to add the people of the config to, as they are in --output.')
  flags.mark_flags_as_required(['config', 'output'])
  define_processes()


def main(_: list[str]) -> None:
  # Imported here so that --help, and worker processes, which import this file again, start fast.
  with interrupts.held():
    from gif_jax.codes import tokenizer
    from gif_jax.codes.table import CodeTable
    from gif_jax.core.distributed import processes
    from gif_jax.data.sets.open import open_faces, open_newcomers
    from gif_jax.validation import validate

  with processes.together():
    config, output = read_config(), Path(flags.FLAGS.output)
    processes.check_same({'config': config.to_dict()})
    config = config if flags.FLAGS.extend else tokenizer.with_own_identities(config)
    validate(config)
    if flags.FLAGS.extend:
      table = tokenizer.extend_table(config, open_newcomers(config), CodeTable.open(flags.FLAGS.extend), output)
    else:
      faces = None if config.tokenizer.vectors else open_faces(config, cache=None)
      table = tokenizer.make_table(config, faces, output)
    if processes.first():
      print(f'{table.path}: m={table.m}, l={table.l}, v={table.v}, d={table.d}')
