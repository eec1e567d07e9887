"""How the faults benchmark compares, judges and damages. The attacks themselves take hours and are not here."""

import os
import random
import time
from pathlib import Path

import pytest

from benchmarks.faults import __main__ as faults
from benchmarks.faults import commands, disk, flips, kills, report
from benchmarks.faults import lab as lab_module
from benchmarks.faults.judge import COLUMNS, Run, judge, spoken, telling, warned
from benchmarks.faults.lab import ROOT, Lab, Started
from benchmarks.faults.results import differences, left_over, result

BAR = 'training:   8%|▊         | 1/12 [00:00<00:09,  1.13step/s, loss 11.563, waiting for data 0%]'
LOG = 'I1130 00:38:21.899197 139701491235712 make.py:150] codes: m=20 identities'
WARNING = 'W1130 00:38:21.899197 139701491235712 checkpoint.py:9] checkpoints/9 is damaged: it is set aside'
ERROR = 'DiskError: out/run cannot be written (No space left on device): make room.'


def ended(said='', status=0, output=''):
  return Run(status, output, said, 1.0)


# ---- What is said


def test_bars_and_log_are_not_spoken():
  said = f'\r{BAR}\x1b[A\r{BAR}\n{LOG}\n{WARNING}\n\rreading: 12it [00:00, 3.1it/s]\n'
  assert spoken(said) == [] and warned(said) == ['checkpoint.py:9] checkpoints/9 is damaged: it is set aside']


def test_what_follows_a_bar_is_spoken():
  assert spoken(f'\r{BAR}{ERROR}\n') == spoken(f'\r{BAR}\n{ERROR}\n') == [ERROR]
  assert spoken('E0000 00:00:1.2 3 file.cc:1] failed\n') == ['E0000 00:00:1.2 3 file.cc:1] failed']


def test_what_is_said_in_peace_tells_nothing():
  later = WARNING.replace('899197', '123456').replace('/9', '/8')
  assert telling(ended(WARNING), ended(later)) == [] and telling(ended(WARNING), ended(LOG))
  assert telling(ended(output='left out: 1 unreadable')) and not telling(ended(LOG, output='accuracy 67.5 %'))


# ---- What an attack came to


@pytest.mark.parametrize(
  ('run', 'equal', 'outcome'),
  [
    (ended(LOG), True, 'equal'),
    (ended(WARNING), True, 'noticed'),
    (ended(LOG), False, 'silent'),
    (ended(WARNING), False, 'told'),
    (ended(f'{LOG}\n{ERROR}\n', 1), False, 'refused'),
    (ended(f'{ERROR}\n{ERROR}\n', 1), False, 'otherwise'),
    (ended('', 1), False, 'otherwise'),
    (ended(ERROR, 2), False, 'otherwise'),
    (ended('', None), True, 'otherwise'),
    (ended('', -7), True, 'traceback'),
    (ended(f'Traceback (most recent call last):\n{ERROR}', 1), False, 'traceback'),
    (ended('Exception in thread 1:\nTraceback (most recent call last):\n'), True, 'traceback'),
  ],
)
def test_judge(run, equal, outcome):
  assert judge(run, equal) == outcome


def test_both_that_run_and_both_that_are_refused_are_wrong():
  lab = Kept()
  kills._note_both(lab, 'finished', {}, ended(), [ended(), ended()], 0.1)
  kills._note_both(lab, 'finished', {}, ended(), [ended(ERROR, 1), ended(ERROR, 1)], 0.1)
  kills._note_both(lab, 'finished', {}, ended(), [ended(), ended(ERROR, 1)], 0.1)
  assert lab.outcomes == ['otherwise'] * 4 + ['equal', 'refused']


class Kept:
  """A lab that keeps outcomes; its place has nothing in it."""

  place = ROOT / 'nothing is here'

  def __init__(self):
    self.outcomes = []

  def note(self, what, outcome, run, **details):
    self.outcomes.append(outcome)


# ---- What was made


@pytest.fixture
def out(tmp_path):
  run = tmp_path / 'out' / 'run'
  for name in ('checkpoints/9/state', 'tensorboard/events', 'table/codes.npy', 'config.json.damaged', '.lock'):
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).write_bytes(b'1')
  (run / 'summary.json').write_text('{"state_sha256": "ab", "images_per_second": 3.5, "targets": {"a": [1, 2]}}')
  (run / 'metrics.jsonl').write_text('{"step": 1, "loss": 2.5, "utilisation": 0.1}\n{"step": 2, "loss": 1.5}\n')
  (run / 'evaluation.md').write_text('measured on 2026-11-30')
  return tmp_path / 'out'


def test_time_is_no_part_of_a_result(out):
  before = result(out)
  assert sorted(before) == [
    f'/run/{name}' for name in ('evaluation.md', 'metrics.jsonl', 'summary.json', 'table/codes.npy')
  ]
  (out / 'run' / 'summary.json').write_text('{"state_sha256": "ab", "resumed_from_step": 9, "targets": {"a": [1, 2]}}')
  (out / 'run' / 'evaluation.md').write_text('measured on 2026-12-01')
  (out / 'run' / 'checkpoints' / '9' / 'state').write_bytes(b'2')
  assert differences(before, result(out)) == []


@pytest.mark.parametrize(
  ('name', 'content'),
  [
    ('summary.json', '{"state_sha256": "ac", "targets": {"a": [1, 2]}}'),
    ('summary.json', '{"state_sha256": "ab"'),
    ('metrics.jsonl', '{"step": 1, "loss": 2.5}\n'),
    ('table/codes.npy', '2'),
    ('evaluation.md', 'measured today'),
  ],
)
def test_another_content_is_another_result(out, name, content):
  before = result(out)
  (out / 'run' / name).write_text(content)
  assert differences(before, result(out)) == [f'/run/{name}']


def test_files_that_are_missing_or_too_many(out):
  before = result(out)
  (out / 'run' / 'summary.json').rename(out / 'run' / 'other.json')
  assert differences(before, result(out)) == ['-/run/summary.json', '+/run/other.json']


def test_left_over_files(out):
  (out / '.table.12.partial').mkdir()
  (out / 'run' / '.a.json.9.partial').touch()
  assert left_over(out) == ['.table.12.partial', 'run/.a.json.9.partial']


# ---- Damage


def test_a_bit_is_flipped_and_the_time_stays(tmp_path):
  path, rng = tmp_path / 'file', random.Random(0)
  for _ in range(20):
    path.write_bytes(content := rng.randbytes(50))
    os.utime(path, ns=(5, 7))
    done = flips.damage(path, 'bit', rng)
    damaged = path.read_bytes()
    wrong = int.from_bytes(content) ^ int.from_bytes(damaged)
    at = next(i for i in range(50) if content[i] != damaged[i])
    assert wrong.bit_count() == 1 and len(damaged) == 50 and path.stat().st_mtime_ns == 7
    assert done == f'byte {at} of 50, bit {(content[at] ^ damaged[at]).bit_length() - 1}'


def test_other_damage(tmp_path):
  path, rng = tmp_path / 'file', random.Random(1)
  path.write_bytes(content := bytes(range(100)))
  assert flips.damage(path, 'cut', rng) == f'cut to {path.stat().st_size} of 100 bytes'
  assert content.startswith(path.read_bytes()) and path.stat().st_size < 100
  flips.damage(path, 'empty', rng)
  assert path.read_bytes() == b''
  for fault in ('bit', 'gone'):  # there is no bit in an empty file
    path.write_bytes(b'')
    assert flips.damage(path, fault, rng) == 'deleted' and not path.exists()


def test_files_of_patterns(out):
  names = [str(path.relative_to(out)) for path in flips.files_of(out, ('run/checkpoints/**', 'run/.*'))]
  assert names == ['run/checkpoints/9/state']  # a lock is nothing to be damaged


def test_what_names_the_file(tmp_path):
  path = Path('out/run/checkpoints/9/state/manifest.ocdbt')
  assert flips.named(path, ended(WARNING), ended()) and not flips.named(path, ended(ERROR), ended())


# ---- The lab


def test_templates_are_copied_with_their_times(tmp_path):
  made = []

  def inputs(lab):
    made.append(lab.place)
    (lab.place / 'out' / 'run').mkdir(parents=True)
    (lab.place / 'in').write_text('1')
    os.utime(lab.place / 'in', ns=(5, 7))
    lab.lay_compiled()

  lab = Lab('kills', tmp_path, 0, {'inputs': inputs})
  (lab.compiled / 'program').write_text('1')
  for out in (True, False):
    place = lab.lay('inputs', out=out)
    assert (place / 'in').stat().st_mtime_ns == 7 and (place / 'out' / 'run').exists() == out
    assert (place / 'compiled' / 'program').exists()
    (place / 'in').write_text('2')
    (place / 'compiled' / 'new').write_text('2')
  assert len(made) == 1 and not (lab.compiled / 'new').exists()
  lab.keep_compiled()
  assert (lab.compiled / 'new').read_text() == '2'


def test_records_are_kept_and_counted(tmp_path):
  lab = Lab('flips', tmp_path, 0, {})
  lab.note('table', 'equal', ended())
  lab.note('table', 'silent', ended(LOG), file='codes.npy')
  lab.note('cache', 'refused', ended(ERROR, 1), named=False)
  rows = report.counted(lab.records)
  assert rows['table'] == dict.fromkeys(COLUMNS, 0) | {'attempts': 2, 'equal': 1, 'silent': 1}
  text = report.table(lab.records)
  assert '| table | 2 | 1 | 0 | 0 | 0 | 1 | 0 | 0 |\n| cache | 1 |' in text and '| all | 3 |' in text
  assert '\n001 {"what": "table"' in text and '\n002 ' in text and '\n000 ' not in text
  assert [path.name for path in (tmp_path / 'flips').iterdir()] == ['001.txt']
  assert (tmp_path / 'flips.json').exists()


def test_a_group_is_killed(tmp_path, monkeypatch):
  monkeypatch.setattr(lab_module.subprocess, 'Popen', with_shell(lab_module.subprocess.Popen))
  started = Started('sleep 60 & echo $!; wait', tmp_path, tmp_path / 'log')
  assert started.kill_when(lambda: (tmp_path / 'log.out').read_text().endswith('\n'))
  assert started.kill().status == -9
  worker = Path('/proc') / (tmp_path / 'log.out').read_text().strip() / 'stat'
  while worker.exists() and ' Z ' not in worker.read_text():  # dead, and perhaps not buried
    time.sleep(0.01)
  hangs = Started('sleep 60', tmp_path, tmp_path / 'log').end(seconds=0.1)
  assert hangs.status is None and judge(hangs, True) == 'otherwise'


def with_shell(popen):
  """Popen that gives what would be a module and its arguments to the shell."""

  def start(call, **options):
    text = ' '.join(call[3:])
    return popen(['/bin/sh', '-c', text], **options)

  return start


def test_rows_name_commands_that_there_are():
  modules = {command.call.split()[0] for command in commands.COMMANDS.values()}
  assert modules == {'train', 'convert', 'align', 'tokenize', 'evaluate', 'audit', 'inspect'}
  places = commands.TEMPLATES | flips.HALVES
  assert {target.template for target in flips.TARGETS.values()} <= places.keys()
  assert {command.template for command in commands.COMMANDS.values()} <= places.keys()
  assert {template for _, template in kills.STARTS.values()} <= places.keys()
  assert {kind for kind, _ in disk._kinds(10)} == disk.ATTACKS.keys()
  assert len(commands.COMMANDS) * faults.ROUNDS['kills'] >= 100
  assert len(flips.TARGETS) * faults.ROUNDS['flips'] >= 200
