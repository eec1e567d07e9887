"""TinyFace: a small tree of pictures, read as the set is laid out; copies aligned by others; what is missing."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from gif_jax.core.errors import DataError
from gif_jax.evaluation.benchmark import measure
from gif_jax.evaluation.registry import open_benchmark
from gif_jax.evaluation.tinyface.dataset import TinyFaceSet
from gif_jax.evaluation.tinyface.matlab import read_names
from gif_jax.evaluation.unseen import pixel_embedding
from gif_jax.models.extraction.extract import extract
from tests.helpers.pictures import picture
from tests.helpers.tinyface_files import (
  DISTRACTORS,
  MATCHES,
  PROBES,
  SIZE,
  cell_array,
  read_lists_once,
  write_lists,
  write_tree,
)


@pytest.fixture(scope='module', autouse=True)
def lists():
  with pytest.MonkeyPatch.context() as patch:
    read_lists_once(patch)
    yield


@pytest.fixture
def tree(tmp_path):
  return write_tree(tmp_path / 'tinyface')


def _error(where):
  with pytest.raises(DataError) as error:
    TinyFaceSet.open(where, SIZE)
  return str(error.value)


@pytest.mark.slow
def test_the_set_by_hand(tree):
  found = open_benchmark(str(tree), SIZE)
  assert found.name == 'tinyface'
  # Probes and matches in the order of their lists, distractors by name; a distractor is nobody, whatever its name.
  assert found.identity.tolist() == [7, 3, 3, 3, 7, 3, -1, -1, -1, -1]
  assert found.probe.tolist() == [0, 1, 2] and found.gallery.tolist() == [3, 4, 5, 6, 7, 8, 9]
  below = [f'Probe/{name}' for name in PROBES] + [f'Gallery_Match/{name}' for name in MATCHES]
  below += [f'Gallery_Distractor/{name}' for name in sorted(DISTRACTORS)]
  expected = [np.asarray(Image.open(tree / 'Testing_Set' / name)) for name in below]
  np.testing.assert_array_equal(found.images[:], expected)
  np.testing.assert_array_equal(found.images[np.array([8, 0])], [expected[8], expected[0]])
  assert len(found.images) == 10 and found.images[2:5].dtype == np.uint8


@pytest.mark.slow
def test_the_testing_set_itself_is_the_same(tree, monkeypatch):
  whole, part = (open_benchmark(str(path), SIZE) for path in (tree, tree / 'Testing_Set'))
  assert (part.name, part.fingerprint) == (whole.name, whole.fingerprint)
  monkeypatch.chdir(tree / 'Testing_Set')
  assert open_benchmark('.', SIZE).name == 'tinyface'


def test_pixels_to_figures(tree):
  found = open_benchmark(str(tree), SIZE)
  embedding = extract(pixel_embedding, found.images, 4, progress='')
  result = measure(found, embedding, replicates=50)[0]
  assert result.metrics == {'rank1': 1, 'rank5': 1, 'rank20': 1, 'map': 1}
  assert result.counts == {'probes': 3, 'probes of nobody': 0, 'gallery': 7, 'distractors': 4, 'people': 2}
  assert result.hardest.same.all() and set(result.hardest.left) == {0, 1, 2}


def test_images_are_stretched_and_those_of_the_size_are_not_touched(tree):
  path = tree / 'Testing_Set' / 'Probe' / PROBES[0]
  gradient = np.linspace(0, 250, 9)[:, None, None] * np.ones((9, 5, 3))
  Image.fromarray(gradient.astype(np.uint8)).save(path)
  image = TinyFaceSet.open(tree, SIZE).images[:1][0].astype(int)
  assert image.shape == (SIZE, SIZE, 3)
  assert (np.diff(image, axis=0) >= 0).all() and not np.diff(image, axis=1).any()  # no bars at the sides
  assert image[0].max() <= 2 and image[-1].min() >= 248  # nothing cut off
  Image.new('L', (100, 300), 77).save(path)
  assert (TinyFaceSet.open(tree, SIZE).images[:1] == 77).all()
  stripes = np.where(np.arange(4 * SIZE) % 4, 0, 252) * np.ones((4 * SIZE, 1))
  Image.fromarray(stripes.astype(np.uint8)).save(path)  # every pixel counts when made smaller
  assert (TinyFaceSet.open(tree, SIZE).images[:1] == 252 // 4).all()
  Image.fromarray(picture(3, SIZE)).save(path)
  np.testing.assert_array_equal(TinyFaceSet.open(tree, SIZE).images[:1][0], picture(3, SIZE))


def test_colours_are_rgb(tree):
  Image.new('RGB', (4, 6), (200, 100, 10)).save(tree / 'Testing_Set' / 'Gallery_Match' / MATCHES[0])
  assert (TinyFaceSet.open(tree, SIZE).images[3:4] == [200, 100, 10]).all()


def test_threads_read_the_same(tree):
  images = TinyFaceSet.open(tree, SIZE).images
  with ThreadPoolExecutor(8) as pool:
    parts = list(pool.map(lambda i: images[i % 10 : i % 10 + 1], range(80)))
  np.testing.assert_array_equal(np.concatenate(parts), np.tile(images[:], (8, 1, 1, 1)))


def test_aligned_copies_of_another_extension_with_the_lists_beside_them(tree, tmp_path):
  aligned = tmp_path / 'aligned_pad_0.1'
  shutil.copytree(tree / 'Testing_Set', aligned)
  for path in aligned.glob('*/*.png'):
    path.rename(path.with_suffix('.jpg'))
  found, before = TinyFaceSet.open(aligned, SIZE), TinyFaceSet.open(tree, SIZE)
  assert found.name == 'aligned_pad_0.1' and found.identity.tolist() == before.identity.tolist()
  np.testing.assert_array_equal(found.images[:], before.images[:])
  (aligned / 'probe_img_ID_pairs.mat').unlink()
  assert _error(aligned) == (
    f'{aligned / "probe_img_ID_pairs.mat"} is missing; copy it there from the Testing_Set of TinyFace.'
  )


def test_what_is_not_listed_is_left_out_but_distractors_need_no_list(tree):
  before = TinyFaceSet.open(tree, SIZE)
  for name in ('Probe/9_9.png', 'Gallery_Match/9_9.png', 'Probe/Thumbs.db', 'Gallery_Distractor/._10.png'):
    shutil.copy(tree / 'Testing_Set' / 'Probe' / PROBES[0], tree / 'Testing_Set' / name)
  after = TinyFaceSet.open(tree, SIZE)
  assert after.fingerprint == before.fingerprint and after.identity.tolist() == before.identity.tolist()
  shutil.copy(tree / 'Testing_Set' / 'Probe' / PROBES[0], tree / 'Testing_Set' / 'Gallery_Distractor' / '11.png')
  assert len(TinyFaceSet.open(tree, SIZE).images) == 11


@pytest.mark.slow
def test_the_fingerprint_is_of_names_and_sizes(tree):
  prints = {TinyFaceSet.open(tree, SIZE).fingerprint, TinyFaceSet.open(tree, SIZE + 1).fingerprint}
  path = tree / 'Testing_Set' / 'Gallery_Distractor' / '10.png'
  path.write_bytes(path.read_bytes() + b'\0')
  prints.add(TinyFaceSet.open(tree, SIZE).fingerprint)
  path.rename(path.with_name('12.png'))
  prints.add(TinyFaceSet.open(tree, SIZE).fingerprint)
  write_lists(tree / 'Testing_Set', probes=PROBES[::-1])
  prints.add(TinyFaceSet.open(tree, SIZE).fingerprint)
  assert len(prints) == 5 and all(len(one) == 16 for one in prints)


@pytest.mark.slow
def test_what_is_missing_is_named(tree):
  folder = tree / 'Testing_Set'
  write_lists(folder, matches=[*MATCHES, '8_1.jpg', '8_2.jpg'])
  assert _error(tree).startswith(f'{folder / "Gallery_Match" / "8_1.jpg"} is missing, which gallery_match_img_ID_pairs')
  assert '2 of 5' in _error(tree)
  write_lists(folder, probes=[*PROBES, PROBES[1]])
  assert f'lists {PROBES[1]} twice' in _error(tree)
  write_lists(folder, probes=[])
  assert 'lists no image' in _error(tree)
  write_lists(folder)
  shutil.rmtree(folder / 'Gallery_Distractor')
  assert _error(tree).startswith(f'{folder / "Gallery_Distractor"} cannot be listed')
  (folder / 'Gallery_Distractor').mkdir()
  assert _error(tree).startswith(f'{folder / "Gallery_Distractor"} holds no image')


@pytest.mark.slow
@pytest.mark.parametrize(
  ('listed', 'there'),
  [
    ('3_Zoë.png', '3_Zoe\u0308.png'),
    ('Probe/3_Zoe\u0308.jpg', '3_Zoë.png'),
    ('Probe\\3_Zoë.png', '3_Zoë.png'),
    ('./3_Zoë.png', '3_Zoe\u0308.png'),
  ],
)
def test_names_in_every_spelling_are_one(tree, listed, there):
  before = TinyFaceSet.open(tree, SIZE).images[:]
  folder = tree / 'Testing_Set'
  (folder / 'Probe' / PROBES[1]).rename(folder / 'Probe' / there)
  savemat(folder / 'probe_img_ID_pairs.mat', {'probe_set': cell_array([PROBES[0], listed, PROBES[2]])})
  np.testing.assert_array_equal(TinyFaceSet.open(tree, SIZE).images[:], before)


@pytest.mark.slow
def test_names_without_a_person_and_other_folders(tree, tmp_path):
  folder = tree / 'Testing_Set'
  shutil.copy(folder / 'Probe' / PROBES[0], folder / 'Probe' / 'anna.png')
  savemat(folder / 'probe_img_ID_pairs.mat', {'probe_set': cell_array(['anna.png'])})
  assert _error(tree).startswith(f'{folder / "Probe" / "anna.png"}: the name does not begin with the number')
  assert _error(tmp_path).startswith(f'{tmp_path} has no folder Gallery_Match')


def test_an_image_that_cannot_be_decoded_is_named(tree):
  path = tree / 'Testing_Set' / 'Gallery_Distractor' / 'x.png'
  path.write_bytes(path.read_bytes()[:60])
  with pytest.raises(DataError, match=r'Gallery_Distractor/x\.png: .*; copy it again'):
    TinyFaceSet.open(tree, SIZE).images[:]


# --- its lists ---


@pytest.mark.slow
@pytest.mark.parametrize('compressed', [False, True])
def test_lists_are_what_was_written(tmp_path, compressed):
  path = tmp_path / 'list.mat'
  names = ['1_1.jpg', 'a', '12', '123', '1234', '12345', 'ä_é.jpg', 'x' * 300]
  for cells, expected in ((cell_array(names), names), (cell_array(names).T, names), (cell_array(names)[:0], [])):
    savemat(path, {'ids': np.arange(9.0)[:, None], 'names': cells, 'text': 'names'}, do_compression=compressed)
    assert read_names(path, 'names') == expected


@pytest.mark.slow
@pytest.mark.parametrize(
  ('content', 'what'),
  [
    ({'other': cell_array(['a'])}, 'no such variable'),
    ({'names': 'a'}, 'no cell array of strings'),
    ({'names': cell_array([['a', 'b']])}, 'no cell array of strings'),
    ({'names': cell_array([3])}, 'no cell array of strings'),
    ({'names': cell_array(['a', ''])}, 'no cell array of strings'),
  ],
)
def test_what_is_no_list(tmp_path, content, what):
  savemat(tmp_path / 'list.mat', content)
  with pytest.raises(DataError, match=rf'list\.mat cannot be read as a list names: .*{what}; unpack'):
    read_names(tmp_path / 'list.mat', 'names')


@pytest.mark.slow
@pytest.mark.parametrize('damage', ['empty', 'cut', 'another format', 'a wrong length'])
def test_damaged_lists_are_named(tmp_path, damage):
  path = tmp_path / 'list.mat'
  savemat(path, {'names': cell_array(PROBES)})
  content = bytearray(path.read_bytes())
  if damage == 'a wrong length':
    content[232] = 124  # of a name; takes the process down that reads it with SciPy 1.17
  path.write_bytes({'empty': b'', 'cut': content[:300], 'another format': b'\x89HDF' + bytes(600)}.get(damage, content))
  with pytest.raises(DataError, match=r'list\.mat cannot be read as a list names: .*; unpack'):
    read_names(path, 'names')
