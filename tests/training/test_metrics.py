"""The rows that a run writes while it trains, and what is said of those that are gone."""

import pytest

from gif_jax.training.metrics import MetricsLog


@pytest.fixture
def workdir(tmp_path):
  log = MetricsLog(tmp_path, 0)
  for step in (2, 4, 6):
    log.write(step, {'loss': 1.0 / step, 'digits': [0.5, 0.25]})
  log.close()
  return tmp_path


def again(workdir, start):
  log = MetricsLog(workdir, start)
  log.close()
  return [row['step'] for row in log.rows()]


@pytest.mark.parametrize(('start', 'steps'), [(6, [2, 4, 6]), (4, [2, 4]), (0, [])])
def test_rows_that_will_be_written_again_are_dropped(workdir, caplog, start, steps):
  assert again(workdir, start) == steps
  assert not caplog.records


@pytest.mark.parametrize('torn', [0, 9])  # the end of a line is gone, or entire lines
@pytest.mark.parametrize(('left', 'missing'), [(2, '5 to 6'), (1, '3 to 6'), (0, '1 to 6')])
def test_rows_that_were_cut_off_are_named(workdir, caplog, torn, left, missing):
  lines = (workdir / 'metrics.jsonl').read_bytes().splitlines(keepends=True)
  (workdir / 'metrics.jsonl').write_bytes(b''.join(lines[:left]) + lines[left][:torn])
  assert again(workdir, 6) == [2, 4, 6][:left]
  assert [record.message for record in caplog.records] == [
    f'{workdir}/metrics.jsonl is missing its rows of steps {missing}: it was cut'
  ]


def test_a_run_whose_rows_are_gone_says_so(workdir, caplog):
  (workdir / 'metrics.jsonl').unlink()
  assert not again(workdir, 6)
  assert 'is missing its rows of steps 1 to 6' in caplog.text


@pytest.mark.parametrize(
  'line', ['{"stfp": 4, "loss": 0.25}', '{"step": null}', '[4]', '4', '{"step": 4, "checksum": "a"}']
)
def test_a_row_that_is_damaged_is_named(workdir, caplog, line):
  """Also one of an earlier version, without a checksum."""
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  (workdir / 'metrics.jsonl').write_text('\n'.join([lines[0], line, lines[2], '']))
  assert again(workdir, 6) == [2, 6]
  assert f'{workdir}/metrics.jsonl, line 2 is damaged' in caplog.text


def test_rows_of_an_earlier_version_have_no_checksum(workdir, caplog):
  (workdir / 'metrics.jsonl').write_text('{"step": 3, "loss": 0.5}\n{"step": 6, "loss": 0.25}\n')
  assert again(workdir, 6) == [3, 6] and not caplog.records
