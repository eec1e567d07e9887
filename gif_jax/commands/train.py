"""Trains a network: python -m gif_jax.main --config=configs/quickstart.py --workdir=runs/quickstart

Makes the identity-code table first where it is missing, continues from the newest checkpoint, evaluates at the end.
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from gif_jax.commands.flags import define_config, define_processes, read_config
from gif_jax.core import interrupts


def define_flags() -> None:
  define_config('The experiment, a file in configs/.')
  flags.DEFINE_string('workdir', '', 'Where everything is written; default: runs/<name of the config>.')
  flags.DEFINE_bool('accept_changes', False, 'Go on with settings other than those the run began with.')
  flags.mark_flag_as_required('config')
  define_processes()


def main(_: list[str]) -> None:
  # Imported here so that --help is fast.
  with interrupts.held():
    from gif_jax.core.distributed import processes
    from gif_jax.training.run import run
    from gif_jax.training.summary import summary_table

  FLAGS = flags.FLAGS
  workdir = Path(FLAGS.workdir or Path('runs') / _name(config_flags.get_config_filename(FLAGS['config'])))
  with processes.together():
    summary = run(read_config(), workdir, FLAGS.accept_changes)
    if summary is not None and processes.first():
      print(summary_table(summary))
      shown = sorted(path.name for path in workdir.iterdir() if not path.name.startswith('.'))
      print(f'Everything is in {workdir}: {", ".join(shown)}.')


def _name(config_file):
  """What a run is called: ms1mv3_r100 for configs/ms1mv3.py:r100."""
  path, _, argument = config_file.partition('.py:')
  return '_'.join(filter(None, (Path(path).stem, argument.replace(',', '_'))))
