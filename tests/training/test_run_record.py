"""What a run was started with is kept, and a start with other settings says what changed, or is refused."""

import json
import logging

import optax
import pytest

from gif_jax.config import default
from gif_jax.core.errors import ConfigError
from gif_jax.core.storage.json_lines import read_json_lines
from gif_jax.training import run_record

FAR = optax.constant_schedule(0.5)


def _config(**changes):
  config = default()
  for key, value in changes.items():
    section, _, name = key.partition('__')
    config[section][name] = value
  return config


@pytest.fixture
def run(tmp_path):
  """A working directory with a checkpoint of step 4 of 10, started with the defaults."""
  run_record.note_start(tmp_path, _config(), 0, 10, {}, FAR)
  (tmp_path / 'checkpoints' / '4').mkdir(parents=True)
  return tmp_path


def _start(run, config, accept=False, step=4, total=10):
  changed = run_record.check(run, config, accept)
  run_record.check_length(run, total)
  run_record.note_start(run, config, step, total, changed, FAR)


def _starts(run):
  return [json.loads(line) for line in (run / 'starts.jsonl').read_text().splitlines()]


def test_the_same_again(run, caplog):
  with caplog.at_level(logging.INFO, 'gif_jax'):
    _start(run, _config())
  assert not caplog.text and [row['step'] for row in _starts(run)] == [0, 4]
  assert {'time', 'host', 'process', 'command', 'gif_jax', 'jax', 'devices', 'processes'} <= _starts(run)[1].keys()


# A key of every section that decides what is trained: all that is not known to be harmless is refused.
CHANGES = [
  ('data__seed', 1),
  ('data__identities', 9),
  ('data__path', 'elsewhere'),
  ('data__size', 64),
  ('data__label_noise', 0.1),
  ('data__held_out', 0),
  ('augment__flip', 0.0),
  ('augment__erase', 0.1),
  ('tokenizer__seed', 1),
  ('model__d', 64),
  ('loss__margin', 0.3),
  ('loss__gamma', 0.0),
  ('joint__lr', 1.0),
  ('joint__negatives', 3),
  ('softmax__scale', 32.0),
  ('softmax__combined', (1.0, 0.3, 0.2)),
  ('optim__lr', 0.2),
  ('optim__name', 'adamw'),
  ('optim__warmup', 0.0),
  ('train__batch_size', 64),
  ('train__seed', 1),
  ('train__accumulate', 2),
  ('train__ema', 0.9),
  ('train__neighbours', 2),
]


@pytest.mark.parametrize(('key', 'value'), CHANGES)
def test_what_changes_results_is_refused(run, key, value):
  section, _, name = key.partition('__')
  before = run_record.nested(default())[section][name]
  now = list(value) if isinstance(value, tuple) else value
  with pytest.raises(ConfigError) as refused:
    _start(run, _config(**{key: value}))
  for part in (f'config.{section}.{name}={now!r} (was {before!r})', '--accept_changes', '--workdir', 'config.json'):
    assert part in str(refused.value)
  assert len(_starts(run)) == 1
  assert run_record.check(run, _config(), False) == {}  # nothing was written


def test_all_of_them_are_listed(run):
  with pytest.raises(ConfigError, match=r'config\.data\.seed=2 \(was 0\), config\.optim\.lr=0\.3 \(was 0\.1\)'):
    _start(run, _config(optim__lr=0.3, data__seed=2))


def test_accepted_changes_are_on_record_and_count_from_then_on(run, caplog):
  with caplog.at_level(logging.WARNING, 'gif_jax'):
    _start(run, _config(optim__lr=0.3), accept=True)
  assert 'config.optim.lr=0.3 (was 0.1)' in caplog.text and 'starts.jsonl' in caplog.text
  assert _starts(run)[1]['changed'] == {'optim.lr': [0.1, 0.3]}
  _start(run, _config(optim__lr=0.3))
  with pytest.raises(ConfigError, match=r'optim\.lr=0\.1 \(was 0\.3\)'):
    _start(run, _config())


@pytest.mark.parametrize(
  ('key', 'value'),
  [
    ('log__every_steps', 7),
    ('data__workers', 2),
    ('data__cache', True),
    ('eval__every_steps', 9),
    ('eval__targets', 'a'),
    ('checkpoint__keep', 5),
    ('model__remat', True),
    ('train__fsdp', 2),
    ('tokenizer__table', 'moved'),
  ],
)
def test_what_changes_no_result_goes_on_with_a_word(run, key, value, caplog):
  with caplog.at_level(logging.INFO, 'gif_jax'):
    _start(run, _config(**{key: value}))
  assert f'config.{key.replace("__", ".")}={value!r}' in caplog.text and 'no result depends on it' in caplog.text
  assert len(_starts(run)) == 2


def test_every_setting_is_of_one_kind_or_the_other():
  """Whoever adds a section decides: what is not listed as harmless is refused."""
  sections = {key.split('.')[0] for key in run_record.flat(default())}
  assert {key.split('.')[0] for key in run_record._HARMLESS} <= sections
  for prefix in run_record._HARMLESS:
    assert any(key.startswith(prefix) for key in run_record.flat(default())), prefix


def test_more_steps_say_what_becomes_of_the_schedule(run, caplog):
  with caplog.at_level(logging.INFO, 'gif_jax'):
    _start(run, _config(train__steps=20), total=20)
  assert '20 steps now, it had 10: from step 4 on the learning rate follows the schedule of 20 steps' in caplog.text
  assert '0.5 there' in caplog.text


def test_fewer_steps_than_the_checkpoint_has(run):
  with pytest.raises(ConfigError, match=r'checkpoint of step 4, the run is to have 3 steps.*config\.train\.steps'):
    _start(run, _config(), total=3)


def test_without_a_checkpoint_nothing_depends_on_the_settings_yet(run):
  (run / 'checkpoints' / '4').rmdir()
  _start(run, _config(optim__lr=0.3), step=0)
  assert _starts(run)[1]['changed'] == {'optim.lr': [0.1, 0.3]}


def test_runs_of_earlier_versions_have_no_record(run):
  (run / 'config.json').unlink()
  (run / 'starts.jsonl').unlink()
  _start(run, _config(optim__lr=0.3))
  with pytest.raises(ConfigError):
    _start(run, _config())


def test_keys_that_an_earlier_version_did_not_have_count_with_their_defaults(run):
  content = json.loads((run / 'config.json').read_text())
  del content['optim']['power'], content['checksum']
  content['optim']['gone'] = 3
  (run / 'config.json').write_text(json.dumps(content))
  _start(run, _config())
  with pytest.raises(ConfigError, match=r'optim\.power=2\.0 \(was 1\.0\)'):
    _start(run, _config(optim__power=2.0))


def _without_groups(run):
  """The record as it was before there was a choice of BatchNorm's groups."""
  settings = json.loads((run / 'config.json').read_text())
  del settings['model']['batch_norm_group'], settings['checksum']
  (run / 'config.json').write_text(json.dumps(settings))


def test_a_run_of_before_there_were_groups_goes_on_as_it_began(run):
  _without_groups(run)
  _start(run, _config(train__accumulate=1))  # 128 images, one group then and now
  _without_groups(run)
  with pytest.raises(ConfigError, match=r'config\.model\.batch_norm_group=64 \(was 0\)'):
    _start(run, _config(model__batch_norm_group=64))
  _start(run, _config(model__batch_norm_group=0))


def test_a_damaged_record_is_set_aside(run, caplog):
  path = run / 'config.json'
  path.write_text(path.read_text().replace('0.1', '0.2'))
  with caplog.at_level(logging.WARNING, 'gif_jax'):
    _start(run, _config())
  assert 'config.json is damaged' in caplog.text and (run / 'config.json.damaged').exists()
  assert run_record.check(run, _config(), False) == {}


@pytest.mark.parametrize(
  'harm',
  [
    lambda line: line[:-9],
    lambda line: line.replace(b'"step": 0', b'"step": 9'),
    lambda line: b'7\n',
    lambda line: b'"x"\n',
    lambda line: b'',
  ],
)
def test_a_damaged_start_leaves_the_next_one_whole(run, harm):
  path = run / 'starts.jsonl'
  path.write_bytes(harm(path.read_bytes()))
  _start(run, _config(), total=12)
  assert json.loads(path.read_bytes().splitlines()[-1])['step'] == 4
  assert [row['step'] for row in read_json_lines(path, 'step')] == [4]
