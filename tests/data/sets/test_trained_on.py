"""Who a run is trained on and with which pictures: noted as it is, found again, compared with what benchmarks show."""

import json
import logging
import re
import shutil
import unicodedata
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gif_jax.core.errors import DataError
from gif_jax.core.lists import read_rows, write_rows
from gif_jax.data.convert.convert import Settings, convert
from gif_jax.data.formats.packed import Packed
from gif_jax.data.formats.recordio import write_insightface
from gif_jax.data.formats.records import Person
from gif_jax.data.sets import trained_on as module
from gif_jax.data.sets.open import open_faces
from gif_jax.data.sets.trained_on import KEPT, NOTE, PEOPLE, PICTURES, note_trained, picture_keys
from gif_jax.evaluation import overlap as sharing
from gif_jax.evaluation.overlap import Seen
from gif_jax.evaluation.registry import open_benchmark
from tests.helpers import tiny
from tests.helpers.photographs import folder_config, names, write_people
from tests.helpers.record_files import packed_faces, write_records

FILES = (PEOPLE, KEPT, PICTURES, NOTE)


def _key(content):
  return len(content) << 32 | zlib.crc32(content)


def _column(path):
  return [row[0] for _, row in read_rows(path, '\t')]


def _records_config(path, people=(2, 3), **data):
  config = tiny.get_config()
  config.data.source, config.data.path = 'records', str(path)
  config.data.update(data)
  config.eval.validation_identities, config.eval.identities = people
  return config


@pytest.fixture(scope='module')
def noted(photographs, tmp_path_factory):
  """A folder with the lists of a run on photographs, and its people."""
  faces, workdir = open_faces(folder_config(photographs, people=(2, 3)), None), tmp_path_factory.mktemp('noted')
  note_trained(workdir, faces)
  return workdir, faces


def test_lists_name_everybody_once_in_the_order_of_labels(noted, photographs):
  workdir, faces = noted
  assert _column(workdir / PEOPLE) == names(faces, 'train') == faces.names() and len(faces.names()) == 15
  assert _column(workdir / KEPT) == names(faces, 'validation') + names(faces, 'test')
  for _, (name, origin) in read_rows(workdir / PEOPLE, '\t'):
    assert origin == f'{photographs.name}:{name}'


def test_pictures_are_those_of_the_people_trained_on_and_of_nobody_else(noted, photographs):
  workdir, faces = noted
  known = {name: {_key(path.read_bytes()) for path in (photographs / name).iterdir()} for name in faces.names()}
  expected = sorted(set.union(*known.values()))
  assert np.load(workdir / PICTURES).tolist() == expected and len(expected) == 60
  for name in _column(workdir / KEPT):
    assert not {_key(path.read_bytes()) for path in (photographs / name).iterdir()} & set(expected)


def test_the_lists_choose_people_for_conversion(noted, photographs, tmp_path):
  workdir, _ = noted
  kept = _column(workdir / KEPT)
  for number, flags in enumerate(({'people': str(workdir / KEPT)}, {'without': str(workdir / PEOPLE)})):
    convert(Settings(str(photographs), tmp_path / str(number), size=32, **flags))
    assert {person.name for person in Packed(tmp_path / str(number)).people()} == set(kept)


def test_the_training_format_is_not_read_for_its_keys(tiny_faces, tmp_path, monkeypatch):
  packed = packed_faces(tmp_path / 'set', tiny_faces.train, size=32)
  apart = {
    int(person['name'])
    for role in ('validation', 'test')
    for person in open_faces(_records_config(packed.path), None).people[role]
  }
  expected = sorted({_key(packed[i]) for i, label in enumerate(packed.labels().tolist()) if label not in apart})
  write_insightface(packed, tmp_path / 'rec' / 'train.rec')
  note_trained(tmp_path, open_faces(_records_config(tmp_path / 'rec'), None))
  assert np.load(tmp_path / PICTURES).tolist() == expected and len(expected) == 60
  monkeypatch.setattr(Packed, '__getitem__', None)
  faces = open_faces(_records_config(packed.path), None)
  note_trained(tmp_path, faces)
  assert np.load(tmp_path / PICTURES).tolist() == expected
  assert _column(tmp_path / PEOPLE) == [person['name'] for person in faces.people['train']]


def test_an_earlier_version_of_the_format_is_read(tiny_faces, tmp_path):
  packed = packed_faces(tmp_path / 'set', tiny_faces.train, 6)
  content = json.loads((packed.path / 'meta.json').read_text())
  for key in ('checksum', 'people_sha256'):
    del content[key]
  (packed.path / 'meta.json').write_text(json.dumps(content))
  note_trained(tmp_path, open_faces(_records_config(packed.path, (0, 0)), None))
  assert np.load(tmp_path / PICTURES).tolist() == sorted({_key(packed[i]) for i in range(len(packed))})


@pytest.mark.slow
def test_many_images_are_read_by_several_processes(noted, photographs, monkeypatch):
  _, faces = noted
  monkeypatch.setattr(module, '_FEW', 10)
  monkeypatch.setattr(module, '_BLOCK', 7)
  (part,) = faces.named
  assert picture_keys(part, '').tolist() == [_key(part.encoded(i)) for i in range(len(part))]


def test_lists_of_the_same_data_are_found_again(root, tmp_path, monkeypatch):
  config = folder_config(root, people=(0, 2))
  made = []
  real = module.picture_keys
  monkeypatch.setattr(module, 'picture_keys', lambda *args: made.append(args) or real(*args))

  def note():
    note_trained(tmp_path, open_faces(config, None))
    return {name: (tmp_path / name).read_bytes() for name in FILES}

  first = note()
  assert note() == first and len(made) == 1
  config.data.seed = 5  # other people
  assert note()[PEOPLE] != first[PEOPLE] and len(made) == 2
  config.data.seed = 0
  assert note() == first and len(made) == 3
  photo = next((root / _column(tmp_path / PEOPLE)[0]).iterdir())
  photo.write_bytes(photo.read_bytes() + b'\0')
  assert _key(photo.read_bytes()) in np.frombuffer(note()[PICTURES][128:-40], np.uint64) and len(made) == 4


@pytest.mark.parametrize('name', FILES)
@pytest.mark.parametrize('damage', ['flipped', 'cut', 'gone'])
def test_lists_that_are_damaged_are_written_again(noted, tmp_path, name, damage, caplog):
  workdir, faces = noted
  shutil.copytree(workdir, tmp_path, dirs_exist_ok=True)
  whole = (tmp_path / name).read_bytes()
  _damage(tmp_path / name, damage)
  if name != KEPT or damage == 'gone':  # nothing reads who was kept; people may cut that list
    note_trained(tmp_path, faces)
    assert (tmp_path / name).read_bytes() == whole
    assert (damage == 'gone') == (name not in caplog.text)


def _damage(path, how):
  content = path.read_bytes()
  if how == 'gone':
    path.unlink()
  else:
    middle = len(content) // 2
    path.write_bytes(
      content[:middle] if how == 'cut' else content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    )


@pytest.mark.parametrize('name', [PEOPLE, PICTURES, NOTE])
@pytest.mark.parametrize('damage', ['flipped', 'cut'])
def test_damaged_lists_are_not_compared_with(noted, tmp_path, name, damage):
  shutil.copytree(noted[0], tmp_path, dirs_exist_ok=True)
  _damage(tmp_path / name, damage)
  with pytest.raises(DataError, match=rf'{name}.* give the training command again') as error:
    Seen(tmp_path)
  assert '\n' not in str(error.value)


def test_lists_of_another_run_do_not_go_together(noted, tmp_path):
  shutil.copytree(noted[0], tmp_path, dirs_exist_ok=True)
  module.save_array(tmp_path / PICTURES, np.array([3, 5], np.uint64))
  with pytest.raises(DataError, match=rf'{PICTURES} holds uint64 \[2\], wanted .*\[60\]'):
    Seen(tmp_path)


@pytest.mark.parametrize(
  ('missing', 'said'),
  [
    ((), None),
    ((PICTURES,), r'no trained_pictures\.npy .* is looked for by name alone'),
    ((PEOPLE,), r'no trained_people\.txt .* is looked for by picture alone'),
    ((PEOPLE, PICTURES), r'no trained_people\.txt, no trained_pictures\.npy .* is not looked for'),
    (FILES, 'is not looked for'),
    ((NOTE,), None),
  ],
)
def test_what_is_not_there_is_said_in_one_line(noted, photographs, tmp_path, caplog, missing, said):
  caplog.set_level(logging.INFO)
  shutil.copytree(noted[0], tmp_path, dirs_exist_ok=True)
  for name in missing:
    (tmp_path / name).unlink()
  found = Seen(tmp_path).overlap(open_benchmark(str(photographs), 32), left_out=True)
  lines = [record.getMessage() for record in caplog.records]
  assert len(lines) == (said is not None)
  if said:
    assert re.search(said, lines[0])
  if 'not looked for' in (said or ''):
    assert found is None
    return
  overlap, shared = found
  assert (overlap.people, overlap.trained_on, overlap.images) == (20, 15, 80) and shared.sum() == 60
  assert overlap[1:3] == tuple(0 if name in missing else 15 for name in (PEOPLE, PICTURES))


def test_sets_too_large_to_be_read_are_known_by_name(photographs, tmp_path, monkeypatch, caplog):
  caplog.set_level(logging.INFO)
  faces = open_faces(folder_config(photographs, people=(2, 3)), None)
  note_trained(tmp_path, faces)
  monkeypatch.setattr(module, '_MOST', 59)
  (tmp_path / NOTE).unlink()
  note_trained(tmp_path, faces)
  assert not (tmp_path / PICTURES).exists() and len(_column(tmp_path / PEOPLE)) == 15
  assert '60 images are not in the training format' in caplog.text and 'gif_jax convert' in caplog.text
  overlap, _ = Seen(tmp_path).overlap(open_benchmark(str(photographs), 32), left_out=True)
  assert (overlap.trained_on, overlap.by_name, overlap.by_picture) == (15, 15, 0)


def test_synthetic_faces_have_no_lists_and_those_of_an_earlier_start_go(noted, tiny_faces, tmp_path):
  shutil.copytree(noted[0], tmp_path, dirs_exist_ok=True)
  note_trained(tmp_path, tiny_faces)
  assert not list(tmp_path.iterdir()) and tiny_faces.names() == []


def test_newcomers_are_noted_too(root, tiny_faces, tmp_path):
  write_people(tmp_path / 'all', tiny_faces.train, 8)
  new = tmp_path / 'new'
  new.mkdir()
  for name in ('p06', 'p07'):
    (tmp_path / 'all' / name).rename(new / name)
  faces = open_faces(folder_config(root, people=(0, 2), newcomers=str(new)), None)
  note_trained(tmp_path, faces)
  assert _column(tmp_path / PEOPLE) == names(faces, 'train') == faces.names()
  assert faces.names()[-2:] == ['p06', 'p07'] and len(_column(tmp_path / KEPT)) == 2
  keys = set(np.load(tmp_path / PICTURES).tolist())
  assert {_key(path.read_bytes()) for path in new.glob('*/*')} <= keys and len(keys) == 5 * 4


# --- who is known by what


def _by_name(tmp_path, trained, people):
  write_rows(tmp_path / PEOPLE, trained, '\t')
  return Seen(tmp_path)._by_name([Person(*person) for person in people]).tolist()


@pytest.mark.parametrize(
  ('trained', 'person', 'known'),
  [
    (('Anna', 'a:Anna'), ('Anna', 'b:Anna'), True),
    (('Anna', 'a:Anna'), ('anna', 'b:anna'), False),
    (('7', 'a:7'), ('7', 'b:7'), False),  # another set's number 7
    (('7', 'a:7'), ('7', 'a:7'), True),
    (('7', ''), ('7', ''), False),
    (('7', 'a:7+b:9'), ('9', 'b:9'), True),  # two who are one
    (('7', 'a:7+b:9'), ('9', 'c:9'), False),
    (('17', 'a+b:17'), ('3', 'b:17'), False),  # a set called a+b
    (('a/Anna', 'a:Anna'), ('Anna', 'a:Anna'), True),  # two inputs had an Anna
    (('Anna', 'a:Anna+b:Anna B'), ('Anna B', 'b:Anna B'), True),
    ((unicodedata.normalize('NFD', 'J\u00fcrgen'), ''), (unicodedata.normalize('NFC', 'J\u00fcrgen'), ''), True),
    (('=Anna',), ('=Anna', ''), True),  # as spreadsheets must not run it
    (('An\tna\n', ''), ('An\tna\n', ''), True),
    (('\udcff', 'x:\udcff'), ('\udcff', ''), True),
  ],
)
def test_people_are_known_by_their_names_and_numbers_by_their_set(tmp_path, trained, person, known):
  assert _by_name(tmp_path, [('somebody', 'z:1'), trained], [person, ('nobody', 'y:0')]) == [known, False]


@given(st.lists(st.tuples(st.text('ab1 +:\t\n"\'=', min_size=1).filter(str.strip), st.sampled_from('xy'))), st.data())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_whoever_was_trained_on_is_found_and_nobody_without_a_common_name(tmp_path_factory, people, data):
  people = [(name, f'{source}:{name}') for name, source in people]
  trained = [person for person in people if data.draw(st.booleans())]
  names = {name for name, _ in trained}
  parts = {part for _, origin in trained for part in sharing._MEMBER.findall(origin)}
  found = _by_name(tmp_path_factory.mktemp('any'), trained or [('nobody', '')], people)
  for person, known in zip(people, found, strict=True):
    if person in trained:
      assert known
    elif person[0] not in names and not parts & set(sharing._MEMBER.findall(person[1])):
      assert not known


def test_a_list_with_other_columns_is_named_with_the_line(tmp_path):
  (tmp_path / PEOPLE).write_text('anna\tx:anna\nben\tx\ty\n')
  with pytest.raises(DataError, match=rf'{PEOPLE}, line 2: 3 columns, wanted NAME<TAB>ORIGIN'):
    Seen(tmp_path)._by_name([Person('anna', '')])


def test_one_picture_under_another_name_is_enough(noted, photographs, tmp_path):
  workdir, faces = noted
  kept, trained = _column(workdir / KEPT), faces.names()
  for place, names_of in (('new name', trained[0]), ('stranger', kept[0])):
    shutil.copytree(photographs / names_of, tmp_path / 'set' / place)
  shutil.copy(next((photographs / trained[1]).iterdir()), tmp_path / 'set' / 'stranger' / 'one.jpg')
  shutil.copytree(photographs / kept[1], tmp_path / 'set' / 'x')
  overlap, shared = Seen(workdir).overlap(open_benchmark(str(tmp_path / 'set'), 32), left_out=True)
  assert overlap[:6] == (3, 0, 2, 2, 13, 5)
  assert shared.tolist() == [True] * 9 + [False] * 4  # new name, stranger, x
  assert overlap.words('set') == 'set: 2 of 3 people were trained on (0 by name, 2 by picture) and are left out.'


def test_pictures_of_an_empty_list_are_in_nothing(tmp_path):
  module.save_array(tmp_path / PICTURES, np.zeros(0, np.uint64))
  benchmark = SimpleNamespace(people=(), name='x', images=[b''], identity=np.zeros(1, int))
  assert Seen(tmp_path).overlap(benchmark, left_out=True)[0].pictures == 0


def test_two_people_with_the_same_numbers_in_two_sets(tiny_faces, tmp_path):
  """Two converted sets whose people are called 0, 1 ..: only the one that was trained on is recognised."""
  packed = packed_faces(tmp_path / 'set', tiny_faces.train, 6)
  other = packed_faces(tmp_path / 'other', tiny_faces.test, 6, origin='other')
  again = write_records(tmp_path / 'again', [packed[i] + b'\0' for i in range(len(packed))], packed.labels().tolist())
  note_trained(tmp_path, open_faces(_records_config(packed.path, (0, 0)), None))
  for records, expected in ((packed, (6, 6)), (other, (0, 0)), (again, (6, 0))):
    overlap, _ = Seen(tmp_path).overlap(open_benchmark(str(records.path), 32), left_out=True)
    assert (overlap.by_name, overlap.by_picture) == expected
