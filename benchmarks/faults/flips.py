"""Every kind of file that a command reads back, damaged: a bit, its end, all of it, or gone.

A damaged file keeps its time, as a disk that forgets a bit keeps it.
"""

import functools
import os
import random
from pathlib import Path
from typing import NamedTuple

from benchmarks.faults.commands import COMMANDS, TEMPLATES, after, kill_while, prepare_tfds, while_making
from benchmarks.faults.judge import Run, judge, telling
from benchmarks.faults.lab import Lab
from benchmarks.faults.results import differences, left_over, result

FAULTS = {'bit': 6, 'cut': 2, 'empty': 1, 'gone': 2}  # how often each, in parts


class Target(NamedTuple):
  """Files of a place, as patterns, with what is in folders; call: the command that reads them.

  given: whether they are none of what that command makes, and stay as they are.
  """

  template: str
  files: tuple[str, ...]
  call: str
  given: bool = False


def _call(name, more=''):
  return f'{COMMANDS[name].call} {more}'.strip()


_RUN = 'out/run/'
_TFDS = _call('train, RecordIO').replace('in/rec', 'tfds:./in/tfds/portraits/1.0.0')
TARGETS = {
  'checkpoints, half a run': Target('half a run', (f'{_RUN}checkpoints/*/**',), _call('train, fixed')),
  'checkpoints, softmax': Target('half a softmax run', (f'{_RUN}checkpoints/*/**',), _call('train, softmax')),
  'checkpoints, joint': Target('half a joint run', (f'{_RUN}checkpoints/*/**',), _call('train, joint')),
  'checkpoints, finished': Target('run', (f'{_RUN}checkpoints/*/**',), _call('train, fixed')),
  'checkpoints, evaluated': Target('run', (f'{_RUN}checkpoints/*/**',), COMMANDS['evaluate'].call),
  'table, half a run': Target('half a run', (f'{_RUN}table/*',), _call('train, fixed')),
  'table, joint': Target('half a joint run', (f'{_RUN}table/*',), _call('train, joint')),
  'table, extended': Target('inputs', ('in/table/*',), COMMANDS['tokenize, extend'].call),
  'table, inspected': Target('inputs', ('in/table/*',), COMMANDS['inspect'].call),
  'trained_table, inspected': Target(
    'joint run', (f'{_RUN}trained_table/*',), 'inspect out/run/trained_table --output=out/report', given=True
  ),
  'next_table, trained with': Target(
    'joint run',
    (f'{_RUN}next_table/*',),
    _call('train, fixed', '--config.tokenizer.table=out/run/next_table').replace('out/run ', 'out/next '),
    given=True,
  ),
  'config.json, starts.jsonl': Target(
    'half a run', (f'{_RUN}config.json', f'{_RUN}starts.jsonl'), _call('train, fixed')
  ),
  'config.json, evaluated': Target('run', (f'{_RUN}config.json',), COMMANDS['evaluate'].call, given=True),
  'config.json, encoder': Target('inputs', ('in/run/config.json', 'in/run/table/*'), COMMANDS['audit'].call),
  'metrics.jsonl': Target('half a run', (f'{_RUN}metrics.jsonl',), _call('train, fixed')),
  'cache, rendered': Target('half a cached run', (f'{_RUN}cache/*',), _call('train, cache')),
  'cache, photographs': Target('half a run on photographs', (f'{_RUN}cache/*',), _call('train, photographs')),
  'cache, in the making': Target('half a cache', (f'{_RUN}cache/.*', f'{_RUN}cache/*'), _call('train, cache')),
  'cache, index of RecordIO': Target('half a run on RecordIO', (f'{_RUN}cache/*',), _call('train, RecordIO')),
  'cache, labels of tfds': Target('half a run on tfds', (f'{_RUN}cache/*',), _TFDS),
  'packed, converted': Target('inputs', ('in/packed/*',), COMMANDS['convert, RecordIO'].call),
  'packed, trained on': Target('inputs', ('in/packed/*',), COMMANDS['train, packed'].call),
  'packed, evaluated on': Target('run', ('in/packed/*',), COMMANDS['evaluate'].call),
  'packed, audited': Target('inputs', ('in/packed/*',), COMMANDS['audit'].call),
  'draft of a table': Target('half a table', ('out/.table.draft/**',), COMMANDS['tokenize'].call),
  'draft of a conversion': Target('half a conversion', ('out/.packed.draft/**',), COMMANDS['convert, folder'].call),
  'draft of embeddings': Target('half an evaluation', (f'{_RUN}embeddings/**',), COMMANDS['evaluate'].call),
  'embeddings': Target('evaluated', (f'{_RUN}embeddings/**',), COMMANDS['evaluate'].call),
  'thresholds.json': Target(  # which keeps those of benchmarks that are not measured again
    'evaluated', (f'{_RUN}thresholds.json',), 'evaluate --workdir=out/run --benchmarks=in/p.bin'
  ),
  'align.json': Target('half aligned', ('out/aligned/align.json', 'out/aligned/skipped.tsv'), COMMANDS['align'].call),
  'aligned faces': Target('half aligned', ('out/aligned/*/*',), COMMANDS['align'].call),
}


HALVES = {
  'half a cached run': while_making('train, cache', f'{_RUN}checkpoints/6'),
  'half a run on photographs': while_making('train, photographs', f'{_RUN}checkpoints/6'),
  'half a run on RecordIO': while_making('train, RecordIO', f'{_RUN}checkpoints/6'),
  'tfds': prepare_tfds,
  'half a run on tfds': functools.partial(kill_while, template='tfds', call=_TFDS, pattern=f'{_RUN}checkpoints/6'),
  'half a cache': while_making('train, cache', f'{_RUN}cache/.*.npz'),
  'half a table': while_making('tokenize', 'out/.table.draft/*.npy'),
  'half a conversion': while_making('convert, folder', 'out/.packed.draft/images.*.npy'),
  'half an evaluation': while_making('evaluate', f'{_RUN}embeddings/.*/progress/*.npz'),
  'evaluated': functools.partial(after, 'evaluate'),
  'half aligned': while_making('align', 'out/aligned/p10/*.png'),
}


def files_of(place: Path, patterns: tuple[str, ...]) -> list[Path]:
  """The files that the patterns name, hidden ones too, but for locks."""
  paths = {path for pattern in patterns for path in place.glob(pattern)}
  paths |= {inner for path in paths if path.is_dir() for inner in path.rglob('*')}
  return sorted(path for path in paths if path.is_file() and not path.name.endswith('.lock'))


def damage(path: Path, fault: str, rng: random.Random) -> str:
  """Does it to the file, which keeps its time; says what exactly was done. An empty file loses itself."""
  content, times = bytearray(path.read_bytes()), path.stat()
  if fault == 'gone' or not content:
    path.unlink()
    return 'deleted'
  if fault == 'bit':
    at, bit = rng.randrange(len(content)), rng.randrange(8)
    content[at] ^= 1 << bit
    done = f'byte {at} of {len(content)}, bit {bit}'
  else:
    length = 0 if fault == 'empty' else rng.randrange(len(content))
    content, done = content[:length], f'cut to {length} of {len(content)} bytes'
  with path.open('r+b') as file:  # in place, as a disk would
    file.write(content)
    file.truncate(len(content))
  os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
  return done


def named(path: Path, run: Run, usual: Run) -> bool:
  """Whether what is said names the file, or a folder it lies in that nothing else does."""
  lines = ' '.join(telling(run, usual))
  folders = [part for part in path.parent.parts[-4:] if len(part) > 3 and part not in ('out', 'run')]
  return any(name in lines for name in (path.name, *folders))


def flips(lab: Lab, rounds: int, only: str) -> None:
  """Damages one file of each target, time and again, and has it read."""
  lab.templates = TEMPLATES | HALVES
  expected = {}
  for what, _ in (bar := lab.jobs(TARGETS, only, range(rounds))):
    target = TARGETS[what]
    bar.set_postfix_str(what)
    if (key := (target.template, target.call)) not in expected:
      expected[key] = lab.peaceful(target.call, target.template, runs=1)
    _flip(lab, what, target, *expected[key])


def _flip(lab, what, target, wanted, peace):
  place = lab.lay(target.template)
  path = lab.rng.choice(files_of(place, target.files))
  fault = lab.rng.choices(list(FAULTS), FAULTS.values())[0]
  done = damage(path, fault, lab.rng)
  run = lab.run(target.call)
  file = str(path.relative_to(place))
  unequal = differences(wanted, result(place / 'out'))
  unequal = [name for name in unequal if not (target.given and name.lstrip('-') == file.removeprefix('out'))]
  outcome = judge(run, not unequal, peace)
  said = named(Path(file), run, peace) if outcome in ('noticed', 'refused', 'told') else None
  details = {'unequal': unequal[:10], 'left_over': left_over(place / 'out'), 'named': said}
  lab.note(what, outcome, run, call=target.call, file=file, fault=fault, done=done, **details)
