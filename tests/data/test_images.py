"""Decoding one photograph, against values worked out by hand."""

import io

import numpy as np
import pytest
from PIL import Image

from gif_jax.core.errors import UnreadableError
from gif_jax.data.images import is_image_name, read_image

RAMP = np.arange(0, 256, 17, dtype=np.uint8).reshape(4, 4)  # 0, 17 .. 255: sixteen greys


@pytest.fixture
def read(tmp_path):
  """Writes an image (Pillow's, an array, or bytes) under a name and reads it at `size` pixels a side."""

  def start(image, name, size=4, **options):
    path = tmp_path / name
    if isinstance(image, bytes):
      path.write_bytes(image)
    else:
      image = image if isinstance(image, Image.Image) else Image.fromarray(image)
      image.save(path, **options)
    return read_image(path, size)

  return start


def _grey(values):
  return np.repeat(np.asarray(values, np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize('name', ['a.png', 'a.pgm', 'a.tif', 'a.bmp', 'a.PNG'])
def test_grey_is_repeated_in_three_channels(read, name):
  picture = read(RAMP, name)
  np.testing.assert_array_equal(picture.pixels, _grey(RAMP))
  assert picture.pixels.dtype == np.uint8
  assert picture[1:] == (4, 4, 'grey 8-bit')


@pytest.mark.parametrize('name', ['a.png', 'a.ppm', 'a.tiff', 'a.webp'])
def test_colour_keeps_its_order(read, name):
  colour = np.zeros((4, 4, 3), np.uint8)
  colour[:2] = 200, 100, 30
  picture = read(colour, name, **({'lossless': True} if name == 'a.webp' else {}))
  np.testing.assert_array_equal(picture.pixels, colour)
  assert picture.kind == 'colour 8-bit'


@pytest.mark.parametrize('name', ['a.jpg', 'a.webp', 'a.jp2', 'a.avif'])
def test_lossy_formats_come_close(read, name):
  picture = read(np.full((32, 32, 3), (200, 100, 30), np.uint8), name, size=32, quality=90)
  np.testing.assert_allclose(picture.pixels.astype(int), np.full((32, 32, 3), (200, 100, 30)), atol=4)


def test_16_bit_is_scaled_and_not_clipped(read):
  wide = RAMP.astype(np.uint16) * 257
  wide[0, 0] = 128  # rounds down to 0
  wide[0, 1] = 17 * 257 + 129  # and up to 18
  expected = RAMP.copy()
  expected[0, :2] = 0, 18
  pgm = b'P5\n4 4\n65535\n' + wide.astype('>u2').tobytes()
  for image, name in ((wide, 'a.png'), (wide, 'a.tif'), (pgm, 'a.pgm'), (wide.astype(np.int32), 'b.tif')):
    picture = read(image, name)
    np.testing.assert_array_equal(picture.pixels, _grey(expected), err_msg=name)
    assert picture.kind == 'grey 16-bit'


def test_a_pgm_of_ten_bits_reaches_white(read):
  ten = np.array([[0, 1023], [1023, 0]], '>u2')
  picture = read(b'P5\n2 2\n1023\n' + ten.tobytes(), 'a.pgm', 2)
  np.testing.assert_array_equal(picture.pixels, _grey([[0, 255], [255, 0]]))


@pytest.mark.parametrize('top', [1, 255, 65535])
def test_floats_are_taken_by_their_range(read, top):
  np.testing.assert_array_equal(read((RAMP / 255 * top).astype(np.float32), 'a.tif').pixels, _grey(RAMP))


@pytest.mark.parametrize('values', [np.full((4, 4), 70000, np.int32), np.full((4, 4), np.nan, np.float32)])
def test_values_of_no_known_range(read, values):
  with pytest.raises(UnreadableError, match='save it with 8 or 16 bits'):
    read(values, 'a.tif')


def test_black_and_white_and_palette(read):
  assert np.unique(read(Image.fromarray(RAMP > 100), 'a.png').pixels).tolist() == [0, 255]
  image = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4) % 2, 'P')
  image.putpalette([200, 100, 30, 0, 0, 255])
  for name in ('b.png', 'b.gif'):
    picture = read(image, name)
    np.testing.assert_array_equal(picture.pixels[0], [(200, 100, 30), (0, 0, 255)] * 2)
    assert picture.kind == 'palette'


def test_what_is_transparent_becomes_black(read):
  rgba = np.full((4, 4, 4), (200, 100, 40, 255), np.uint8)
  rgba[0, :, 3] = 0
  rgba[1, :, 3] = 51  # a fifth
  expected = np.full((4, 4, 3), (200, 100, 40), np.uint8)
  expected[0], expected[1] = 0, (40, 20, 8)
  np.testing.assert_array_equal(read(rgba, 'a.png').pixels, expected)
  grey_alpha = Image.merge('LA', [Image.fromarray(RAMP), Image.fromarray(rgba[..., 3])])
  np.testing.assert_array_equal(read(grey_alpha, 'b.png').pixels[::2], _grey([[0] * 4, RAMP[2]]))
  palette = Image.fromarray(np.array([[0, 1]], np.uint8).repeat(2, 0), 'P')
  palette.putpalette([200, 100, 30, 0, 0, 255])
  np.testing.assert_array_equal(read(palette, 'c.png', 2, transparency=0).pixels[0], [(0, 0, 0), (0, 0, 255)])


def test_cmyk(read):
  ink = np.zeros((8, 8, 4), np.uint8)
  ink[..., 1:3] = 255  # magenta and yellow: red
  picture = read(Image.fromarray(ink, 'CMYK'), 'a.tif', size=8)
  np.testing.assert_array_equal(picture.pixels, np.full((8, 8, 3), (255, 0, 0)))
  np.testing.assert_allclose(read(Image.fromarray(ink, 'CMYK'), 'a.jpg', size=8).pixels, picture.pixels, atol=4)
  assert picture.kind == 'CMYK'


# Where the first row and first column of the upright picture lie in the file (EXIF 2.3, tag 274).
ORIENTED = {
  1: lambda x: x,
  2: lambda x: x[:, ::-1],
  3: lambda x: x[::-1, ::-1],
  4: lambda x: x[::-1],
  5: lambda x: x.T,
  6: lambda x: x.T[::-1],
  7: lambda x: x.T[::-1, ::-1],
  8: lambda x: x.T[:, ::-1],
}


@pytest.mark.parametrize('orientation', ORIENTED)
@pytest.mark.parametrize('name', ['a.png', 'a.tif', 'a.webp'])
def test_exif_orientation_is_honoured(read, orientation, name):
  exif = Image.Exif()
  exif[0x0112] = orientation
  stored = np.ascontiguousarray(ORIENTED[orientation](RAMP))
  options = {'lossless': True} if name == 'a.webp' else {}
  np.testing.assert_array_equal(read(_grey(stored), name, exif=exif, **options).pixels, _grey(RAMP))


def test_exif_orientation_of_16_bits_and_jpeg(read):
  exif = Image.Exif()
  exif[0x0112] = 6
  picture = read(np.ascontiguousarray(RAMP.T[::-1]).astype(np.uint16) * 257, 'a.png', exif=exif)
  np.testing.assert_array_equal(picture.pixels, _grey(RAMP))
  halves = np.zeros((64, 64), np.uint8)
  halves[:, 32:] = 255  # right half white; shown turned by a quarter, the lower half is
  shown = read(halves, 'a.jpg', size=64, exif=exif).pixels
  assert shown[:28].max() < 20 and shown[36:].min() > 235


def test_pictures_that_are_not_square_are_padded_and_not_cut(read):
  wide = read(np.full((20, 40), 255, np.uint8), 'a.png', size=16).pixels
  expected = np.zeros((16, 16), np.uint8)
  expected[4:12] = 255
  np.testing.assert_array_equal(wide, _grey(expected))
  np.testing.assert_array_equal(read(np.full((40, 20), 255, np.uint8), 'b.png', size=16).pixels, _grey(expected.T))
  assert read(np.full((1, 400), 255, np.uint8), 'c.png', size=16).pixels[7].min() == 255


def test_large_pictures_are_averaged_and_small_ones_enlarged(read):
  fine = np.tile(np.array([[0, 200], [200, 0]], np.uint8), (64, 64))
  np.testing.assert_allclose(read(fine, 'a.png', size=8).pixels, 100, atol=1)
  assert read(np.full((2, 2), 77, np.uint8), 'b.png', size=8).pixels.tolist() == _grey(np.full((8, 8), 77)).tolist()


def test_a_large_jpeg_is_the_same_picture(read):
  ramp = np.tile(np.linspace(0, 255, 1024).astype(np.uint8), (1024, 1))
  picture = read(ramp, 'a.jpg', size=16)
  np.testing.assert_allclose(picture.pixels[8, :, 0], np.arange(16) * 16 + 8, atol=3)
  assert (picture.width, picture.height) == (1024, 1024)


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'PPM', 'TIFF', 'WEBP', 'BMP', 'GIF'])
@pytest.mark.parametrize('share', [0, 0.1, 0.6])
def test_truncated_files_are_unreadable(read, kind, share):
  noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
  whole = io.BytesIO()
  Image.fromarray(noise).save(whole, kind)
  read(whole.getvalue(), 'a.jpg', 16)
  with pytest.raises(UnreadableError):
    read(whole.getvalue()[: int(share * len(whole.getvalue()))], 'a.jpg', 16)


def test_reasons_do_not_repeat_the_path(read, tmp_path):
  with pytest.raises(UnreadableError) as error:
    read(b'not an image', 'a.png')
  assert str(error.value) == 'cannot identify image file'
  with pytest.raises(UnreadableError, match='No such file'):
    read_image(tmp_path / 'nowhere.png', 4)


def test_a_decompression_bomb_is_unreadable(read):
  with pytest.raises(UnreadableError, match='pixels'):
    read(b'P5\n60000 60000\n255\n', 'a.pgm')


@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
def test_what_pillow_only_warns_of_is_unreadable_too(read, monkeypatch):
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 15)
  with pytest.raises(UnreadableError, match='4x4 is more than 15 pixels'):
    read(RAMP, 'a.png')


def test_no_other_program_is_started_for_a_file(read):
  with pytest.raises(UnreadableError, match='cannot identify'):
    read(b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n', 'a.jpg')


def test_names_of_images():
  assert all(map(is_image_name, ['a.jpg', 'b.JPEG', 'c.d.pgm', 'e.heic']))
  assert not any(map(is_image_name, ['Thumbs.db', '.DS_Store', 'a.txt', 'jpg', 'a.jpg.part', 'a.mp4']))
