"""People with names as a benchmark: what its fingerprint, by which embeddings are kept, depends on."""

import pytest

from gif_jax.data.convert.convert import Settings, convert
from gif_jax.evaluation.registry import open_benchmark
from tests.helpers.pictures import encode, picture, several

FORMS = {'folder': '', '.rec': 'x.rec', 'training format': 'packed'}


def _fingerprint(faces, folder, form):
  """Of the people in `faces`, brought into a form in a folder of its own."""
  if form != 'folder':
    folder.mkdir()
    convert(Settings(str(faces), folder / FORMS[form]))
  return open_benchmark(str(folder / FORMS[form] if form != 'folder' else faces), 24).fingerprint


@pytest.mark.parametrize('form', FORMS)
def test_another_picture_under_the_same_name_is_another_set(tmp_path, form):
  """Embeddings of pictures of before must not be taken for those of these."""
  faces = several(tmp_path / 'faces', people=30, images=4)
  before = _fingerprint(faces, tmp_path / 'before', form)
  (faces / 'p17' / '02.jpg').write_bytes(encode(picture(1000)))
  assert _fingerprint(faces, tmp_path / 'after', form) != before
