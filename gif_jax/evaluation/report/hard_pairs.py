"""The hardest pairs of a benchmark as pictures: genuine pairs that look different, impostors that look alike."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from gif_jax.core.plots import new_figure, save
from gif_jax.core.texts import for_plot, one_line
from gif_jax.evaluation.report.tables import quoted_far
from gif_jax.evaluation.result import Hardest, Result

_SIDE = 112  # pixels of a face in the report, at most
_GAP = 4  # pixels between two faces of a pair
_QUALITY = 82  # of a JPEG
_ACROSS = 6  # pairs in a row of a sheet
_LETTERS = 34  # of a name below a pair of a sheet, the last ones
_WRONG = '#b00020'


class Pair(NamedTuple):
  """Two images of a benchmark.

  Attributes:
    left, right: their numbers.
    names: what people know them by, one line each; 'image NUMBER' where nobody gave them names.
    wrong: on which side of the threshold they are; None without a threshold.
    picture: both side by side, uint8 [s, 2 s + 4, 3]; None where the benchmark has no pictures.
  """

  left: int
  right: int
  names: tuple[str, str]
  cosine: float
  same: bool
  wrong: bool | None
  picture: np.ndarray | None

  def caption(self) -> str:
    if not self.wrong:
      return f'{self.cosine:.3f}'
    return f'{self.cosine:.3f} {"rejected" if self.same else "accepted"}'


class HardPairs(NamedTuple):
  """The hardest pairs of a result; far: of the threshold cosine that `wrong` is told by, '' without one."""

  pairs: list[Pair]
  far: str
  threshold: float

  def of(self, same: bool) -> list[Pair]:
    return [pair for pair in self.pairs if pair.same == same]

  def title(self, same: bool) -> str:
    """What these pairs are and how many of them are wrong."""
    some = self.of(same)
    kind = 'Genuine pairs of the smallest cosines' if same else 'Impostor pairs of the largest cosines'
    if not self.far:
      return kind
    judged, side = ('rejected', '<') if same else ('accepted', '>=')
    wrong = sum(bool(pair.wrong) for pair in some)
    return f'{kind}: {wrong} of these {len(some)} are {judged} at FAR={self.far} (cosine {side} {self.threshold:.4f})'


def hard_pairs(results: Sequence[Result], images: Any) -> HardPairs | None:
  """Those of the first result that has any; None where none has.

  images: of the benchmark, [rows] gives uint8 [k, s, s, 3] RGB and is asked once, name(i) gives texts; None gives pairs
    without pictures and names.
  """
  with_pairs = ((one, one.hardest) for one in results if one.hardest is not None and len(one.hardest.left))
  result, hardest = next(with_pairs, (None, None))
  if result is None or hardest is None:
    return None
  far = quoted_far(result)
  threshold = result.thresholds.get(far, math.nan)
  pictures = _pictures(hardest, images)
  pairs = [
    Pair(left, right, _names(images, left, right), cosine, same, _wrong(cosine, same, threshold), picture)
    for left, right, cosine, same, picture in zip(*(values.tolist() for values in hardest), pictures)
  ]
  return HardPairs(pairs, far if math.isfinite(threshold) else '', threshold)


def jpeg(picture: np.ndarray) -> bytes:
  """A picture uint8 [h, w, 3] as JPEG."""
  file = io.BytesIO()
  Image.fromarray(picture).save(file, 'JPEG', quality=_QUALITY)
  return file.getvalue()


def draw_pairs(pairs: HardPairs, path: str | Path) -> bool:
  """Draws all pairs on one sheet, genuine ones above, each with its cosine. Returns whether there were pictures."""
  if any(pair.picture is None for pair in pairs.pairs):
    return False
  groups = [(pairs.title(same), pairs.of(same)) for same in (True, False) if pairs.of(same)]
  rows = [1.5 * math.ceil(len(group) / _ACROSS) + 0.35 for _, group in groups]
  figure = new_figure(12, sum(rows))
  for part, (title, group) in zip(figure.subfigures(len(groups), 1, height_ratios=rows, squeeze=False)[:, 0], groups):
    part.suptitle(title, fontsize=9, x=0.01, ha='left')
    grid = part.add_gridspec(math.ceil(len(group) / _ACROSS), _ACROSS)
    for place, pair in zip(grid, group):
      axes = part.add_subplot(place)
      axes.imshow(pair.picture)
      axes.set_axis_off()
      colour = _WRONG if pair.wrong else '0.2'
      axes.text(0.5, -0.04, pair.caption(), transform=axes.transAxes, ha='center', va='top', fontsize=8, color=colour)
      names = '\n'.join(for_plot(_last(name)) for name in pair.names)
      axes.text(0.5, -0.22, names, transform=axes.transAxes, ha='center', va='top', fontsize=5.5, color='0.4')
  save(figure, path)
  return True


def _names(images, *rows):
  return tuple(one_line(images.name(row)) if images is not None else f'image {row}' for row in rows)


def _last(name):
  return name if len(name) <= _LETTERS else f'...{name[3 - _LETTERS :]}'


def _wrong(cosine, same, threshold):
  return None if math.isnan(threshold) else same != (cosine >= threshold)


def _pictures(hardest: Hardest, images):
  """Both faces of every pair side by side."""
  if images is None:
    return [None] * len(hardest.left)
  rows, place = np.unique(np.concatenate([hardest.left, hardest.right]), return_inverse=True)
  faces = [_small(face) for face in np.asarray(images[rows])]
  gap = np.full((faces[0].shape[0], _GAP, 3), 255, np.uint8)
  left, right = place.reshape(2, -1)
  return [np.concatenate([faces[i], gap, faces[j]], axis=1) for i, j in zip(left, right)]


def _small(face):
  if len(face) <= _SIDE:
    return face
  return np.asarray(Image.fromarray(face).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS))
