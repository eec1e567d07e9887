"""Folders of rendered photographs, for tests."""

from PIL import Image

from tests.helpers import tiny

_SUFFIXES = ('png', 'jpg', 'pgm')


def write_people(root, faces, people, images=4):
  """Folders p00, p01 .. of as many rendered people, as PNG, JPEG and PGM."""
  size = faces.images
  for person in range(people):
    (root / f'p{person:02}').mkdir(parents=True)
    for i, image in enumerate(faces[person * size : person * size + images]):
      picture = Image.fromarray(image)
      suffix = _SUFFIXES[(person + i) % 3]
      (picture.convert('L') if suffix == 'pgm' else picture).save(root / f'p{person:02}' / f'{i}.{suffix}')


def folder_config(root, people=(0, 4), **data):
  """The tiny run on a folder; people: for validation and for the figures."""
  config = tiny.get_config()
  config.data.source, config.data.path = 'folder', str(root)
  config.data.update(data)
  config.eval.validation_identities, config.eval.identities = people
  return config


def names(faces, name):
  """Names of the people in a set, as people.json has them."""
  return [person['name'] for person in faces.people[name]]


def skipped(faces):
  """File or folder -> reason, as people.json has them."""
  return {skip['name']: skip['reason'] for skip in faces.people['skipped']}
