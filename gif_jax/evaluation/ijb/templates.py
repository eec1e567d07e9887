"""What IJB's lists say of images, templates and pairs, without the pictures."""

from dataclasses import dataclass

import numpy as np

from gif_jax.evaluation.ijb.galleries import Galleries


@dataclass(frozen=True)
class Templates:
  """n images in t templates, p pairs of which are compared.

  Attributes:
    name: 'ijbb' or 'ijbc'.
    template_ids: int64 [t], the templates' numbers in the files, rising.
    template: int32 [n], number of every image's template, 0..t-1.
    media: int64 [n]: images of one template with the same number are frames of one video, or one photograph.
    detector: float32 [n], the detector's score, above 0.
    left, right: int32 [p], templates.
    same: bool [p], whether they are of one person.
    subject: int64 [t], as far as the pairs tell: templates joined by genuine pairs are of one person.
    search: `Galleries` of the 1:N protocol; None without its lists.
  """

  name: str
  template_ids: np.ndarray
  template: np.ndarray
  media: np.ndarray
  detector: np.ndarray
  left: np.ndarray
  right: np.ndarray
  same: np.ndarray
  subject: np.ndarray
  search: Galleries | None
