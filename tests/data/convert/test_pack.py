"""One image on its way into a data set: passed byte for byte, brought to size, or refused with a reason."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from gif_jax.core.errors import UnreadableError
from gif_jax.data.convert.pack import fitted
from gif_jax.data.images import read_image
from tests.helpers.image_files import BAD, MADE, exif_of
from tests.helpers.pictures import SIZE, encode, picture

PASSED = {
  'jpeg': lambda: encode(picture(0)),
  'progressive': lambda: encode(picture(0), progressive=True),
  'grey jpeg': lambda: encode(picture(0)[..., 0]),
  'png': lambda: encode(picture(0), 'PNG'),
  'grey png': lambda: encode(picture(0)[..., 0], 'PNG'),
  'upright by EXIF': lambda: encode(picture(0), exif=exif_of(1)),
  'rubbish after the end': lambda: encode(picture(0)) + b'rubbish',
}


@pytest.mark.parametrize('kind', PASSED)
def test_what_fits_passes_byte_for_byte(kind):
  encoded = PASSED[kind]()
  assert fitted(encoded, SIZE) is encoded


@pytest.mark.parametrize('kind', MADE)
def test_what_does_not_fit_becomes_a_png_of_the_right_pixels(kind):
  encoded, expected = MADE[kind]()
  made = fitted(encoded, SIZE)
  assert made != encoded and made.startswith(b'\x89PNG')
  shown = np.asarray(Image.open(io.BytesIO(made)))
  np.testing.assert_array_equal(shown, read_image(encoded, SIZE).pixels)
  if expected is not None:
    np.testing.assert_array_equal(shown, expected)
  assert fitted(made, SIZE) is made


@pytest.mark.parametrize('kind', BAD)
def test_what_cannot_be_read_has_a_reason(kind):
  encoded, reason = BAD[kind]()
  with pytest.raises(UnreadableError, match=reason):
    fitted(encoded, SIZE)


@pytest.mark.parametrize('share', np.linspace(0.02, 0.97, 12))
@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
def test_a_file_cut_anywhere_is_refused(kind, share):
  whole = encode(picture(0), kind)
  with pytest.raises(UnreadableError):
    fitted(whole[: int(share * len(whole))], SIZE)


@pytest.mark.parametrize('cut', [1, 8, 16])
def test_a_png_that_lacks_no_pixels_is_made_whole(cut):
  whole = encode(picture(0), 'PNG')
  made = fitted(whole[:-cut], SIZE)
  np.testing.assert_array_equal(read_image(made, SIZE).pixels, picture(0))
  assert fitted(made, SIZE) is made


def test_damaged_bytes_never_pass_what_training_cannot_decode():
  rng = np.random.default_rng(0)
  for kind in ('JPEG', 'PNG'):
    whole = encode(picture(0), kind)
    for _ in range(150):
      damaged = bytearray(whole)
      damaged[rng.integers(2, len(whole))] ^= 1 << rng.integers(8)
      try:
        encoded = fitted(bytes(damaged), SIZE)
      except UnreadableError:
        continue
      assert cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB).shape == (SIZE, SIZE, 3)
