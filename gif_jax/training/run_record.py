"""What a run was started with: the config of a working directory, every start, and what may change between two.

WORKDIR/config.json has the settings of the last start, WORKDIR/starts.jsonl a line for every start: when, where, from
which step, with what versions, and which changes of settings were accepted.
"""

import json
import logging
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import optax
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

import gif_jax
from gif_jax.config import default
from gif_jax.core.distributed import processes
from gif_jax.core.errors import ConfigError, DataError
from gif_jax.core.storage.files import plain, read_json, set_aside, write_json, writing
from gif_jax.core.storage.json_lines import json_line, read_json_lines
from gif_jax.models.batch_norm import group_of
from gif_jax.models.checkpoint.reader import steps

_LOG = logging.getLogger(__name__)

_CONFIG, _STARTS = 'config.json', 'starts.jsonl'
_LENGTH = ('train.steps', 'train.epochs', 'train.steps_at_most')
# What changes no result: it says when and what is looked at, where things lie, or how the work is divided. Paths of
# tables and encoders are here because checkpoints and tables know what was in them by checksums.
_HARMLESS = (
  'log.',
  'checkpoint.',
  'eval.',
  'data.workers',
  'data.cache',
  'joint.rows',
  'joint.rows_folder',
  'data.check_colour',
  'data.bad_images',
  'model.remat',
  'train.fsdp',
  'tokenizer.table',
  'tokenizer.vectors',
  'tokenizer.encoder_path',
)

_GROUP = 'model.batch_norm_group'
_BEFORE = {_GROUP: 0}  # what a setting was worth before it was one, where that is not today's default


def check(workdir: Path, config: ConfigDict, accept: bool) -> dict[str, list]:
  """What differs between a config and the one that the run in `workdir` has so far: {key: [before, now]}.

  Settings that change no result may differ, and so may the length of the run. accept: whether the others may, too.
  Raises ConfigError, with all of them, where they may not and there is a checkpoint.
  """
  before = _recorded(workdir) if processes.first() else None
  changed = {} if before is None else differences(before, flat(config))
  if _GROUP in changed:
    seen = config.train.batch_size // config.train.accumulate
    if len({group_of(seen, group) for group in changed[_GROUP]}) == 1:
      del changed[_GROUP]  # of a batch that is one group by either
  if not accept and (listed := _told(changed)) and steps(workdir / 'checkpoints'):
    raise ConfigError(
      f'{workdir} was trained with other settings: {listed}. Give those of before ({workdir / _CONFIG} has them), or '
      'another --workdir; --accept_changes goes on from the checkpoint with the new ones, and notes it.'
    )
  return changed


def _told(changed: Mapping[str, list], *, harmless: bool = False) -> str:
  """Changes in words, those of results or the others; the length of the run is spoken of apart."""
  chosen = {key: pair for key, pair in changed.items() if key.startswith(_HARMLESS) == harmless and key not in _LENGTH}
  return ', '.join(f'config.{key}={new!r} (was {old!r})' for key, (old, new) in chosen.items())


def check_length(workdir: Path, total: int) -> None:
  """Raises ConfigError where a checkpoint has more steps than the run is to have."""
  saved = steps(workdir / 'checkpoints')
  if saved and saved[-1] > total:
    raise ConfigError(
      f'{workdir} has a checkpoint of step {saved[-1]}, the run is to have {total} steps: set config.train.steps (or '
      f'config.train.epochs) to at least {saved[-1]} steps, or name another --workdir.'
    )


def note_start(
  workdir: Path, config: ConfigDict, step: int, total: int, changed: Mapping[str, list], schedule: optax.Schedule
) -> None:
  """Records a start from `step` of `total`, and says what has changed since the one before.

  changed: of `check`, by now accepted. schedule: step -> learning rate.
  """
  if not processes.first():
    return
  if words := _told(changed, harmless=True):
    _LOG.info('%s goes on with %s: no result depends on it', workdir, words)
  if words := _told(changed):
    _LOG.warning('%s goes on with %s: accepted, and noted in %s', workdir, words, _STARTS)
  starts = read_json_lines(workdir / _STARTS, 'steps')
  if step and starts and (before := starts[-1]['steps']) != total:
    _LOG.info(
      'the run has %d steps now, it had %s: from step %d on the learning rate follows the schedule of %d '
      'steps, in which it is %.3g there',
      total,
      before,
      step,
      total,
      schedule(step),
    )
  write_json(workdir / _CONFIG, nested(config), checksum=True)
  row = {
    'time': time.strftime('%Y-%m-%d %H:%M:%S %z'),
    'host': socket.gethostname(),
    'process': os.getpid(),
    'command': ' '.join(sys.argv),
    'step': step,
    'steps': total,
    'changed': changed,
    'gif_jax': gif_jax.__version__,
    'jax': jax.__version__,
    'processes': jax.process_count(),
    'devices': f'{jax.device_count()} x {jax.devices()[0].device_kind}',
  }
  with writing(workdir / _STARTS), (workdir / _STARTS).open('a+b') as lines:
    lines.seek(max(0, lines.tell() - 1))
    intact = lines.read() in (b'', b'\n')  # else a full disk or a kill has cut the last one
    lines.write(('' if intact else '\n').encode() + json_line(plain(row)).encode())


def nested(config: ConfigDict) -> dict[str, dict[str, Any]]:
  """All settings as JSON has them: {section: {key: value}}."""
  return json.loads(json.dumps(plain(config.to_dict())))


def flat(config: ConfigDict) -> dict[str, Any]:
  """The same by their full names: {'section.key': value}."""
  return flatten_dict(nested(config), sep='.')


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list]:
  """{key: [before, now]} of what differs; keys of one side alone count with their defaults, or not where unknown."""
  known = flat(default())
  keys = sorted((before.keys() | now.keys()) & known.keys())
  pairs = {key: [before.get(key, known[key]), now.get(key, known[key])] for key in keys}
  return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _recorded(workdir: Path) -> dict[str, Any] | None:
  """The settings so far; None without any, or the file is damaged, which is set aside then."""
  path = workdir / _CONFIG
  if not path.exists():
    return None
  try:
    return _BEFORE | flatten_dict(read_json(path, DataError, 'it is written anew'), sep='.')
  except DataError as error:
    _LOG.warning('%s It is set aside as %s, and what has changed since is not known.', error, set_aside(path).name)
    return None
