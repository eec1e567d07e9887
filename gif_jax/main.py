"""Trains a model: python -m gif_jax.main --config=configs/quickstart.py --workdir=runs/quickstart

Makes the identity-code table first where it is missing, continues from the newest checkpoint, evaluates at the end.
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from gif_jax.command_line import define_config, define_processes, launch, read_flag
from gif_jax.config import validate
from gif_jax.core import interrupts
from gif_jax.core.errors import ConfigError
from gif_jax.core.lists import parts

_CONFIG = define_config('The experiment, a file in configs/.')
_WORKDIR = flags.DEFINE_string('workdir', '', 'Where everything is written; default: runs/<name of the config>.')
_ACCEPT = flags.DEFINE_bool('accept_changes', False, 'Go on with settings other than those the run began with.')
flags.mark_flag_as_required('config')
define_processes()


def run(config, workdir: Path, accept: bool = False) -> dict | None:
  """Table, training, evaluation. Returns the summary, or None if a signal stopped the run with its state saved.

  accept: whether settings that change results may be others than those the run in `workdir` began with.
  """
  with interrupts.held():
    from gif_jax.codes import make
    from gif_jax.core import locks, processes
    from gif_jax.core.files import make_writable, write_json
    from gif_jax.data.seen import note_trained, warn_of_targets
    from gif_jax.data.sources import open_faces, open_unrendered
    from gif_jax.training import outlook, record
    from gif_jax.training.loop import check_table, train
    from gif_jax.training.softmax import Identities

  processes.check_same({'config': config.to_dict()})
  _check_apart(config.data, workdir)
  make_writable('workdir', workdir)
  processes.check_shared(workdir)
  config = make.with_own_identities(config)
  validate(config)
  with processes.locked(locks.inside(workdir), f'--workdir={workdir}'):
    record.check(workdir, config, accept)
    unrendered = open_unrendered(config)
    if unrendered:
      outlook.warn_of_hours(config, unrendered, workdir)
    faces = processes.after_first(lambda: open_faces(config, workdir / 'cache'))
    if not unrendered:
      outlook.warn_of_hours(config, faces, workdir)
    processes.check_same({'people': faces.label_space, 'training images': len(faces.train)})
    if config.softmax.enabled:
      table = Identities(faces.m, faces.label_space)
    else:
      table = make.ensure_table(config, faces, workdir)
      check_table(table, config, faces)  # before people.json, which must say whose table and checkpoints lie beside it
    if faces.people is not None and processes.first():
      write_json(workdir / 'people.json', faces.people)
    if processes.first():
      note_trained(workdir, faces)
      warn_of_targets(workdir, faces)
    processes.wait()
    return train(config, workdir, faces, table, accept)


def _check_apart(data, workdir):
  if data.source != 'folder':
    return
  for key, folder in (('path', data.path), *(('newcomers', folder) for folder in parts(data.newcomers))):
    if folder and workdir.resolve().is_relative_to(Path(folder).resolve()):
      raise ConfigError(
        f'--workdir={workdir} lies inside config.data.{key}={folder}, where its pictures would be taken for those of a '
        'person; name a folder elsewhere.'
      )


def _name(config_file):
  """What a run is called: ms1mv3_r100 for configs/ms1mv3.py:r100."""
  path, _, argument = config_file.partition('.py:')
  return '_'.join(filter(None, (Path(path).stem, argument.replace(',', '_'))))


def main(_) -> None:
  # Imported here so that --help, and worker processes, which import this file again, start fast.
  with interrupts.held():
    from gif_jax.core import processes
    from gif_jax.evaluation.report import summary_table

  workdir = Path(_WORKDIR.value or Path('runs') / _name(config_flags.get_config_filename(flags.FLAGS['config'])))
  with processes.together():
    summary = run(read_flag(_CONFIG), workdir, _ACCEPT.value)
    if summary is not None and processes.first():
      print(summary_table(summary))
      shown = sorted(path.name for path in workdir.iterdir() if not path.name.startswith('.'))
      print(f'Everything is in {workdir}: {", ".join(shown)}.')


if __name__ == '__main__':
  launch(main)
