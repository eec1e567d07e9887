"""Landmark files for tests."""

from gif_jax.data.alignment import photographs as align
from gif_jax.data.alignment.geometry import template
from gif_jax.data.listing import list_people


def write_points(path, root, size=32, points=None):
  """A landmark file that says of every photograph that it is aligned already, as a crop of `size` pixels."""
  own = list_people(root).people.values()
  numbers = ' '.join(map(str, (template(size) if points is None else points).reshape(-1)))
  path.write_text(''.join(f'{photo.name} {numbers}\n' for photos in own for photo in photos))
  return align.Source(landmarks=str(path))
