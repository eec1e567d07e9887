"""thresholds.json: what is written is read, and what cannot be trusted is refused with a cure."""

import json
import math

import pytest

from gif_jax.core.storage.files import write_json
from gif_jax.evaluation.report.thresholds import read_thresholds, write_thresholds
from gif_jax.evaluation.result import EvaluationError, Overlap, Result
from tests.helpers import results

MODEL = results.ABOUT['fingerprint']


@pytest.fixture
def path(tmp_path):
  assert write_thresholds(tmp_path / 'thresholds.json', results.everything(), results.ABOUT)
  return tmp_path / 'thresholds.json'


def test_round_trip(path):
  found = read_thresholds(path, MODEL)
  assert found == read_thresholds(path)
  assert list(found) == ['lfw', 'cfp_fp', 'agedb_30', 'ijbc', 'mfr']  # tinyface has none
  for result in (results.templates()[0], results.all_pairs()):
    one = found[result.benchmark]
    assert (one['protocol'], one['mode']) == (result.protocol, result.mode)  # the first mode is the one to quote
    assert {far: at['cosine'] for far, at in one['fars'].items()} == result.thresholds
    for far, at in one['fars'].items():
      assert at['tar'] == result.metrics[f'tar@far={far}']
      assert tuple(at['interval']) == result.intervals[f'tar@far={far}']
  assert [entry.name for entry in path.parent.iterdir()] == ['thresholds.json']


def test_a_threshold_accepts_the_share_that_stands_beside_it(path):
  cosine, same = results.scores(200, 20_000, 0.55, 0)  # of the first mode of ijbc
  for far, at in read_thresholds(path)['ijbc']['fars'].items():
    accepted = cosine >= at['cosine']
    assert accepted[same].mean() == at['tar'] and accepted[~same].mean() <= float(far)


def test_a_tar_that_was_not_measured_is_null(tmp_path):
  result = Result('x', '1:1', '', '', {}, {'tar@far=1e-2': math.nan}, thresholds={'1e-2': 0.3, '1e-3': 0.4})
  assert write_thresholds(tmp_path / 'a.json', [result], results.ABOUT)
  fars = read_thresholds(tmp_path / 'a.json')['x']['fars']
  assert fars == {far: {'cosine': cosine, 'tar': None, 'interval': None} for far, cosine in result.thresholds.items()}


def test_no_thresholds_no_file(tmp_path):
  assert not write_thresholds(tmp_path / 'a.json', results.galleries(), results.ABOUT)
  assert not list(tmp_path.iterdir())


def _with(key, value):
  def change(content):
    at = content
    for part in key[:-1]:
      at = at[part]
    at[key[-1]] = value

  return change


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda content: content.pop('model'), "no 'model'"),
    (lambda content: content.pop('metric'), "no 'metric'"),
    (lambda content: content.pop('benchmarks'), "no 'benchmarks'"),
    (_with(['format'], 2), 'format 2'),
    (_with(['metric'], 'L2'), "metric 'L2'"),
    (_with(['benchmarks'], []), 'no object'),
    (_with(['benchmarks', 'lfw'], 3), "'protocol' of 'lfw'"),
    (lambda content: content['benchmarks']['lfw'].pop('fars'), "'fars' of 'lfw'"),
    (_with(['benchmarks', 'lfw', 'mode'], None), "'mode' of 'lfw'"),
    (_with(['benchmarks', 'lfw', 'fars', '1e-2', 'cosine'], None), "'lfw' has no cosine at FAR '1e-2'"),
    (_with(['benchmarks', 'lfw', 'fars', '1e-2', 'cosine'], True), "'lfw' has no cosine at FAR '1e-2'"),
    (_with(['benchmarks', 'lfw', 'fars', '1e-2'], {'cosine': 0.3}), "'lfw' has no tar or interval at FAR '1e-2'"),
  ],
)
def test_what_is_missing_is_named_with_the_cure(path, change, message):
  content = json.loads(path.read_text())
  del content['checksum']
  change(content)
  write_json(path, content, checksum=True)
  with pytest.raises(EvaluationError, match=r'thresholds\.json.*evaluate the model again') as error:
    read_thresholds(path, MODEL)
  assert message in str(error.value)


def test_a_digit_that_was_changed_is_noticed(path):
  before = read_thresholds(path, MODEL)
  text = path.read_text()
  for place in [i for i, character in enumerate(text) if character.isdigit()][::7]:
    path.write_text(text[:place] + str(9 - int(text[place])) + text[place + 1 :])
    with pytest.raises(EvaluationError, match=r'thresholds\.json is damaged .*checksum.*: evaluate the model again'):
      read_thresholds(path, MODEL)
  content = json.loads(text)
  del content['checksum']  # as earlier versions wrote it
  path.write_text(json.dumps(content))
  assert read_thresholds(path, MODEL) == before


def test_another_model_is_refused(path):
  with pytest.raises(EvaluationError, match=rf'thresholds\.json has thresholds of the model {MODEL}, this one is ffff'):
    read_thresholds(path, 'ffff')


@pytest.mark.parametrize('damage', [b'', b'{"format": 1,', b'[1]', b'\xff\xfe{}', b'NaN', b'null', b'[' * 100_000])
def test_damaged_files_are_named(path, damage):
  path.write_bytes(damage)
  with pytest.raises(EvaluationError, match=r'thresholds\.json .*evaluate the model again'):
    read_thresholds(path)


def test_every_cut_of_the_file_is_refused(path):
  whole = path.read_bytes().rstrip()
  for length in range(0, len(whole), max(1, len(whole) // 40)):
    path.write_bytes(whole[:length])
    with pytest.raises(EvaluationError, match=r'thresholds\.json'):
      read_thresholds(path)


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(EvaluationError, match=r'none\.json cannot be read \(No such file'):
    read_thresholds(tmp_path / 'none.json')


def test_benchmarks_measured_before_stay_unless_of_another_model(tmp_path):
  path, about = tmp_path / 'thresholds.json', {'fingerprint': 'a'}
  for name in ('lfw', 'cfp_fp'):
    assert write_thresholds(path, [results.pair_set(name)], about)
  assert set(read_thresholds(path, 'a')) == {'lfw', 'cfp_fp'}
  write_thresholds(path, [results.pair_set('agedb_30')], {'fingerprint': 'b'})
  assert set(read_thresholds(path, 'b')) == {'agedb_30'}
  path.write_text('{')
  assert write_thresholds(path, [results.pair_set('lfw')], about) and set(read_thresholds(path)) == {'lfw'}


def test_cosines_of_other_embeddings_are_not_mixed_up(tmp_path):
  path = tmp_path / 'thresholds.json'
  write_thresholds(path, [results.pair_set('lfw')], {'fingerprint': 'a', 'embedding': 'f(x)'})
  with pytest.raises(EvaluationError, match=r"metric 'cosine of f\(x\)', wanted"):
    read_thresholds(path, 'a')
  assert set(read_thresholds(path, 'a', 'cosine of f(x)')) == {'lfw'}


@pytest.mark.parametrize('left_out', [False, True])
@pytest.mark.parametrize('shared', [{}, {'pictures': 1}, {'trained_on': 1}])
def test_thresholds_are_for_people_the_model_has_never_seen(tmp_path, left_out, shared):
  """Those of a benchmark it was trained on are not written, and go where an earlier evaluation wrote them."""
  path, about = tmp_path / 'thresholds.json', {'fingerprint': 'a'}
  write_thresholds(path, [results.pair_set(name) for name in ('lfw', 'cfp_fp')], about)
  overlap = Overlap(0, 0, 0, 0, 9, 0, left_out)._replace(**shared)
  again = [results.pair_set('lfw')._replace(overlap=overlap)]
  tainted = bool(shared) and not left_out
  assert write_thresholds(path, again, about) == (not tainted)
  assert set(read_thresholds(path, 'a')) == ({'cfp_fp'} if tainted else {'lfw', 'cfp_fp'})
  assert write_thresholds(tmp_path / 'new.json', again, about) == (tmp_path / 'new.json').exists() == (not tainted)
