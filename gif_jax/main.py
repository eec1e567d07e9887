"""Trains a model: python -m gif_jax.main --config=configs/quickstart.py --workdir=runs/quickstart

Makes the identity-code table first where it is missing, continues from the newest checkpoint, evaluates at the end.
"""

from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from gif_jax.command_line import define_processes, make_writable, parse_flags, quiet_libraries, read_flag
from gif_jax.config import ConfigError, validate

_CONFIG = config_flags.DEFINE_config_file('config', None, 'The experiment, a file in configs/.')
_WORKDIR = flags.DEFINE_string('workdir', '', 'Where everything is written; default: runs/<name of the config>.')
flags.mark_flag_as_required('config')
define_processes()


def run(config, workdir: Path) -> dict | None:
  """Table, training, evaluation. Returns the summary, or None if a signal stopped the run with its state saved."""
  from gif_jax import tokenize
  from gif_jax.data.sources import open_faces
  from gif_jax.evaluation.files import write_json
  from gif_jax.training import processes
  from gif_jax.training.loop import check_table, train
  from gif_jax.training.softmax import Identities

  processes.check_same({'config': config.to_dict()})
  _check_apart(config.data, workdir)
  make_writable('workdir', workdir)
  processes.check_shared(workdir)
  config = tokenize.with_own_identities(config)
  validate(config)
  faces = processes.after_first(lambda: open_faces(config, workdir / 'cache'))
  processes.check_same({'people': faces.label_space, 'training images': len(faces.train)})
  if config.softmax.enabled:
    table = Identities(faces.m, faces.label_space)
  else:
    table = tokenize.ensure_table(config, faces, workdir)
    check_table(table, config, faces)  # before people.json, which must say whose table and checkpoints lie beside it
  if faces.people is not None and processes.first():
    write_json(workdir / 'people.json', faces.people)
  return train(config, workdir, faces, table)


def _check_apart(data, workdir):
  if data.source != 'folder':
    return
  for key, folder in (('path', data.path), *(('newcomers', folder) for folder in data.newcomers.split(','))):
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
  """Command line: errors that a user can cure are printed without a traceback, exit status 1."""
  # Imported here so that worker processes, which import this file again, start fast.
  from gif_jax.codes.table import TableError
  from gif_jax.data.images import DataError
  from gif_jax.evaluation.report import summary_table
  from gif_jax.evaluation.resume import ExtractError
  from gif_jax.tokenize import TokenizeError
  from gif_jax.training import processes
  from gif_jax.training.checkpoint import CheckpointError
  from gif_jax.training.metrics import NonFiniteLossError

  quiet_libraries()
  workdir = Path(_WORKDIR.value or Path('runs') / _name(config_flags.get_config_filename(flags.FLAGS['config'])))
  curable = (DataError, TokenizeError, TableError, ExtractError, CheckpointError, NonFiniteLossError)
  with processes.together(*curable):
    summary = run(read_flag(_CONFIG), workdir)
    if summary is not None and processes.first():
      print(summary_table(summary))
      print(f'Everything is in {workdir}: {", ".join(sorted(path.name for path in workdir.iterdir()))}.')


if __name__ == '__main__':
  app.run(main, flags_parser=parse_flags)
