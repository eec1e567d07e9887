"""A table whose making was killed is finished by the same command, and is the table that an undisturbed run makes."""

import numpy as np
import pytest

from gif_jax.codes import homogenise, product, tokenizer, tree
from gif_jax.codes.table import CodeTable
from gif_jax.core.storage.resume import Draft


def _vectors(m=300, d=8):
  x = np.random.default_rng(0).standard_normal((m, d)) + 1
  return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


class Killed(Exception):
  pass


def _kill_after(saves, monkeypatch):
  """Makes the draft's so many-th save the last thing that happens."""
  save, done = Draft.save, []

  def failing(self, *args):
    save(self, *args)
    done.append(args)
    if len(done) == saves:
      raise Killed

  monkeypatch.setattr(Draft, 'save', failing)
  return done


@pytest.mark.parametrize(
  ('make', 'saves'),
  [
    (tree.build_codes, 1),
    (tree.build_codes, 4),
    (product.build_codes, 3),
    (product.build_codes, 20),
    (product.build_codes, 32),
  ],
)
def test_codes_continue_where_their_making_was_killed(make, saves, tmp_path, monkeypatch):
  expected = make(_vectors(), 4, 5, progress=False)
  _kill_after(saves, monkeypatch)
  with pytest.raises(Killed):
    make(_vectors(), 4, 5, progress=False, draft=Draft(tmp_path, {}))
  monkeypatch.undo()
  done = _kill_after(99, monkeypatch)
  found = make(_vectors(), 4, 5, progress=False, draft=Draft(tmp_path, {}))
  np.testing.assert_array_equal(found, expected)
  assert len(done) == (4 if make is tree.build_codes else product.ROUNDS) - saves  # none is done twice


def test_homogenisation_continues_at_the_epoch_it_was_killed_at(tmp_path, monkeypatch):
  settings = {'epochs': 4, 'lr': 0.1, 'subset': 64, 'scaled': True, 'seed': 0, 'progress': False}
  expected, report = homogenise.homogenise(_vectors(), **settings)
  monkeypatch.setattr(homogenise, 'SAVE_SECONDS', 0)
  _kill_after(2, monkeypatch)
  with pytest.raises(Killed):
    homogenise.homogenise(_vectors(), **settings, draft=Draft(tmp_path, {}))
  assert Draft(tmp_path, {}).load('homogenised')[0] == 2
  monkeypatch.undo()
  for _ in range(2):  # the second time there is nothing left to do
    found, again = homogenise.homogenise(_vectors(), **settings, draft=Draft(tmp_path, {}))
    np.testing.assert_array_equal(found, expected)
    assert again == report


@pytest.mark.slow
def test_a_table_whose_making_was_killed(tiny_config, tiny_faces, tiny_table, tmp_path, monkeypatch):
  _kill_after(3, monkeypatch)
  with pytest.raises(Killed):
    tokenizer.make_table(tiny_config, tiny_faces, tmp_path / 'table')
  monkeypatch.undo()
  assert not (tmp_path / 'table').exists()
  table = tokenizer.make_table(tiny_config, tiny_faces, tmp_path / 'table')
  assert table.fingerprint == tiny_table.fingerprint
  assert [path.name for path in tmp_path.iterdir()] == ['table']  # the draft is gone
  CodeTable.open(tmp_path / 'table').verify()
