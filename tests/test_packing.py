"""One image on its way into a data set: passed byte for byte, brought to size, or refused with a reason."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from gif_jax.core.errors import UnreadableError
from gif_jax.data.convert.pack import fitted
from gif_jax.data.images import read_image
from tests.pictures import SIZE, encode, picture


def _exif(orientation):
  exif = Image.Exif()
  exif[0x0112] = orientation
  return exif


PASSED = {
  'jpeg': lambda: encode(picture(0)),
  'progressive': lambda: encode(picture(0), progressive=True),
  'grey jpeg': lambda: encode(picture(0)[..., 0]),
  'png': lambda: encode(picture(0), 'PNG'),
  'grey png': lambda: encode(picture(0)[..., 0], 'PNG'),
  'upright by EXIF': lambda: encode(picture(0), exif=_exif(1)),
  'rubbish after the end': lambda: encode(picture(0)) + b'rubbish',
}


@pytest.mark.parametrize('kind', PASSED)
def test_what_fits_passes_byte_for_byte(kind):
  encoded = PASSED[kind]()
  assert fitted(encoded, SIZE) is encoded


def _png(*chunks):
  checked = [(len(data), name + data) for name, data in chunks]
  parts = [struct.pack('>I', size) + chunk + struct.pack('>I', zlib.crc32(chunk)) for size, chunk in checked]
  return b'\x89PNG\r\n\x1a\n' + b''.join(parts)


def _png_rgb16():
  """A PNG with 16 bits of each of three colours, made by hand: Pillow writes none. All values v become v / 257."""
  deep = picture(0).astype('>u2') * 257
  rows = b''.join(b'\0' + row.tobytes() for row in deep)
  header = struct.pack('>IIBBBBB', SIZE, SIZE, 16, 2, 0, 0, 0)
  return _png((b'IHDR', header), (b'IDAT', zlib.compress(rows)), (b'IEND', b''))


def _animated():
  frames = [Image.fromarray(picture(i)) for i in range(2)]
  return encode(frames[0], 'PNG', save_all=True, append_images=frames[1:])


MADE = {  # what is in the file -> what it shows, where that is known without a decoder
  'larger': lambda: (encode(picture(0, 40)), None),
  'not square': lambda: (encode(picture(0)[:12]), None),
  'turned by EXIF': lambda: (encode(picture(0), 'PNG', exif=_exif(3)), picture(0)[::-1, ::-1]),
  'turned by EXIF, JPEG': lambda: (encode(picture(0), exif=_exif(6)), None),
  'CMYK': lambda: (encode(Image.fromarray(picture(0)).convert('CMYK')), None),
  '16 bits grey': lambda: (encode(picture(0)[..., 0].astype(np.uint16) * 257, 'PNG'), picture(0)[..., :1].repeat(3, 2)),
  '16 bits colour': lambda: (_png_rgb16(), picture(0)),
  'palette': lambda: (encode(Image.fromarray(picture(0)).quantize(8), 'PNG'), None),
  'black and white': lambda: (
    encode(Image.fromarray(picture(0)[..., 0] > 99), 'PNG'),
    255 * (picture(0)[..., :1] > 99).repeat(3, 2),
  ),
  'transparency': lambda: (encode(np.dstack([picture(0), np.full((SIZE, SIZE), 0, np.uint8)]), 'PNG'), 0 * picture(0)),
  'one colour transparent': lambda: (encode(picture(0), 'PNG', transparency=tuple(map(int, picture(0)[0, 0]))), None),
  'WebP': lambda: (encode(picture(0), 'WEBP', lossless=True), picture(0)),
  'TIFF': lambda: (encode(picture(0), 'TIFF'), picture(0)),
  'animated': lambda: (_animated(), picture(0)),
}


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


def _bomb():
  header = struct.pack('>IIBBBBB', 60000, 60000, 8, 2, 0, 0, 0)
  return _png((b'IHDR', header), (b'IDAT', b'\0'))


BAD = {
  'empty': lambda: (b'', 'an empty file'),
  'text': lambda: (b'hello', 'cannot identify image file'),
  'header': lambda: (encode(picture(0))[:2], 'cannot identify'),
  'half': lambda: (encode(picture(0))[:-100], 'truncated'),
  'end': lambda: (encode(picture(0))[:-1], 'truncated'),
  'half png': lambda: (encode(picture(0), 'PNG')[:-300], 'truncated'),
  'huge': lambda: (_bomb(), 'pixels'),
}


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
