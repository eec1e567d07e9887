"""The same bytes are the same pixels, whichever way a picture is read: difference 0.

| what a picture has | inputs tried | outcome, on every path |
| --- | --- | --- |
| transparency | RGBA, LA, palettes and single colours that are, 16-bit grey with one | black where transparent |
| palette | PNG, GIF, TIFF, BMP | its colours |
| other colours | CMYK (JPEG, TIFF), YCbCr, LAB, black and white | RGB |
| depth | 16-bit PNG, TIFF, PGM, JPEG 2000; float TIFF, PFM | divided by 257; by range |
| orientation | EXIF 1 to 8 in JPEG, PNG, TIFF, WebP; in XMP | upright |
| layout | progressive, subsampled, interlaced, animated, with a profile, with bytes after its end | the first picture |
| what it is | BMP, PPM, GIF, TIFF, WebP, JPEG 2000, AVIF, HEIC | read |
| size | more than 16384 pixels a side, far more pixels than its bytes can hold | refused by its header |
| damage | empty, cut off anywhere, no picture | refused |
"""

import io
import sys
import zlib

import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from gif_jax.audit import image_hashes
from gif_jax.core.errors import DataError, UnreadableError
from gif_jax.data.alignment.geometry import template
from gif_jax.data.alignment.photographs import Source, align_people
from gif_jax.data.convert.convert import Settings, convert
from gif_jax.data.crops import Crops
from gif_jax.data.formats.bin_pairs import write_pairs
from gif_jax.data.formats.folder import Photos
from gif_jax.data.formats.open import open_records
from gif_jax.data.formats.recordio import write_insightface
from gif_jax.data.images import is_plain, read_full_size, read_image, read_sides
from gif_jax.data.sets.open import open_faces
from gif_jax.evaluation.all_pairs.dataset import LabelledSet
from gif_jax.evaluation.ijb.dataset import LooseCrops
from gif_jax.evaluation.tinyface.dataset import FaceFiles
from gif_jax.evaluation.verification.dataset import PairSet
from tests.helpers.photographs import folder_config
from tests.helpers.record_files import write_records

SIZE = 32
PICTURES = {
  'noise': np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8),
  'ramp': np.add.outer(np.arange(SIZE) * 4, np.arange(SIZE) * 3)[..., None].repeat(3, 2).astype(np.uint8),
  'blocks': np.random.default_rng(1).integers(0, 256, (4, 4, 3), np.uint8).repeat(8, 0).repeat(8, 1),
}
MODES = ('1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'CMYK', 'YCbCr', 'LAB', 'I;16', 'F')
KINDS = ('JPEG', 'PNG', 'TIFF', 'GIF', 'WEBP', 'BMP', 'PPM', 'JPEG2000', 'AVIF')


def in_mode(picture, mode):
  """A picture with pixels of a kind, half of it transparent where it can be."""
  image = Image.fromarray(picture)
  if mode == 'LAB':
    return ImageCms.profileToProfile(
      image, ImageCms.createProfile('sRGB'), ImageCms.createProfile('LAB'), outputMode='LAB'
    )
  if mode == 'I;16':
    return Image.fromarray(picture[..., 0].astype(np.uint16) * 257 + 3)
  if mode == 'F':
    return Image.fromarray(picture[..., 0].astype(np.float32) / 255)
  image = image.convert(mode)
  if mode in ('LA', 'RGBA'):
    image.putalpha(Image.fromarray(np.tile(np.arange(SIZE, dtype=np.uint8) * 8, (SIZE, 1))))
  return image


def encoded(image, kind, **options):
  file = io.BytesIO()
  image.save(file, kind, **options)
  return file.getvalue()


@st.composite
def files(draw):
  """The bytes of a picture of SIZE x SIZE in some format, mode and layout that Pillow can write."""
  mode = draw(st.sampled_from(MODES))
  image, kind = in_mode(PICTURES[draw(st.sampled_from(sorted(PICTURES)))], mode), draw(st.sampled_from(KINDS))
  options = {}
  if kind in ('JPEG', 'PNG', 'TIFF', 'WEBP') and draw(st.booleans()):
    options['exif'] = Image.Exif()
    options['exif'][0x0112] = draw(st.integers(1, 8))
  if kind == 'JPEG':
    options |= {'quality': draw(st.integers(1, 100)), 'progressive': draw(st.booleans())}
    options |= {'subsampling': draw(st.integers(0, 2))} if image.mode in ('RGB', 'YCbCr') else {}
  if kind == 'PNG' and mode in ('L', 'RGB', 'P') and draw(st.booleans()):
    options['transparency'] = (1, 2, 3) if mode == 'RGB' else 5
  try:
    return encoded(image, kind, **options)
  except (OSError, KeyError, ValueError):  # the format has no such pixels
    return encoded(image.convert('RGB') if mode != 'LAB' else Image.fromarray(PICTURES['ramp']), 'PNG')


def by_every_path(contents, folder):
  """{path: uint8 [n, SIZE, SIZE, 3]}: what training, evaluation and the tools see of the files with these contents."""
  n = len(contents)
  for i, content in enumerate(contents):
    (folder / 'people' / f'{i:03}').mkdir(parents=True)
    (folder / 'people' / f'{i:03}' / 'a.jpg').write_bytes(content)  # what it is called says nothing
  photos = Photos(folder / 'people')
  found = {'evaluate': LabelledSet.open(folder / 'people', SIZE).images}
  for cache in (False, True):
    config = folder_config(folder / 'people', (0, 0), size=SIZE, cache=cache, check_colour=False)
    config.data.held_out = 0
    found[f'folder, cache={cache}'] = open_faces(config, folder / 'cache').train
  convert(Settings(str(folder / 'people'), folder / 'converted', size=SIZE))
  rows = np.arange(n)
  found['converted'] = Crops(open_records(folder / 'converted'), SIZE, rows, rows)
  found['records'] = Crops(write_records(folder / 'packed', contents, rows.tolist()), SIZE, rows, rows)
  write_insightface(photos, folder / 'train.rec')
  found['.rec'] = Crops(open_records(folder / 'train.rec'), SIZE, rows, rows)
  write_pairs(folder / 'a.bin', contents * 2, [True] * n)
  found['.bin'] = PairSet.open(folder / 'a.bin', SIZE).images[:n]
  names = [photos.name(i) for i in range(n)]
  points = np.broadcast_to(template(SIZE), (n, 5, 2))
  found['IJB'] = LooseCrops(folder / 'people', names, points, SIZE, str)
  found['TinyFace'] = FaceFiles(folder / 'people', names, SIZE)
  numbers = ' '.join(map(str, template(SIZE).ravel()))
  (folder / 'points.txt').write_text(''.join(f'{name} {numbers}\n' for name in names))
  align_people(folder / 'people', folder / 'aligned', SIZE, Source(str(folder / 'points.txt')))
  found['align'] = LabelledSet.open(folder / 'aligned', SIZE).images
  return {path: np.asarray(images[:]) for path, images in found.items()}


@pytest.mark.slow
@given(contents=st.lists(files(), min_size=4, max_size=12))
@settings(max_examples=12, deadline=None)
def test_same_bytes_same_pixels_on_every_path(tmp_path_factory, contents):
  found = by_every_path(contents, tmp_path_factory.mktemp('files'))
  expected = np.stack([read_image(content, SIZE).pixels for content in contents])
  for path, pixels in found.items():
    np.testing.assert_array_equal(pixels, expected, err_msg=path)
  for content, pixels in zip(contents, expected):
    np.testing.assert_array_equal(read_full_size(content), pixels)
    assert image_hashes.mark(content)[1:3] == image_hashes.difference_hashes(read_image(content, 112).pixels)[:2]


@pytest.mark.slow
@given(content=files(), size=st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_plain_pictures_are_what_pillow_makes_of_them(content, size):
  """OpenCV decodes plain JPEG and PNG; Pillow, by itself, gives the same, up to rounding in its JPEG library."""
  if is_plain(content, SIZE):
    with Image.open(io.BytesIO(content)) as image:
      np.testing.assert_allclose(read_full_size(content).astype(int), np.asarray(image.convert('RGB')), atol=2)
  assert read_image(content, size).pixels.shape == (size, size, 3)
  assert read_image(content, size)[1:3] == read_sides(content) == (SIZE, SIZE)


def test_what_is_transparent_is_black_and_nothing_below_it_shows():
  rgba = np.dstack([PICTURES['noise'], np.zeros((SIZE, SIZE), np.uint8)])
  rgba[8:24, 8:24, 3] = 255
  expected = np.where(rgba[..., 3:] > 0, rgba[..., :3], 0)
  for kind, options in (('PNG', {}), ('TIFF', {}), ('WEBP', {'lossless': True, 'exact': True})):
    np.testing.assert_array_equal(read_image(encoded(Image.fromarray(rgba), kind, **options), SIZE).pixels, expected)
  deep = np.full((SIZE, SIZE), 40000, np.uint16)
  deep[0] = 1234
  file = encoded(Image.fromarray(deep), 'PNG', transparency=40000)
  np.testing.assert_array_equal(read_image(file, SIZE).pixels[:2, 0, 0], [5, 0])


def test_lab_is_colour():
  """By CIE 15: L* = 100 is white; L* = 53.2, a* = 80.1, b* = 67.2 is the red of sRGB."""
  lab = np.array([[(255, 0, 0), (136, 80, 67)]], np.uint8).repeat(2, 0)
  pixels = read_full_size(encoded(Image.frombytes('LAB', (2, 2), lab.tobytes()), 'TIFF'))
  np.testing.assert_allclose(pixels[0].astype(int), [(255, 255, 255), (255, 0, 0)], atol=12)  # of D50


def _with_segment(jpeg, marker, content):
  return jpeg[:2] + bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2) + content + jpeg[2:]


def test_turned_by_what_stands_in_xmp():
  upright = encoded(Image.fromarray(PICTURES['ramp']), 'JPEG')
  xmp = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
  turned = _with_segment(upright, 0xE1, xmp)
  np.testing.assert_array_equal(read_image(turned, SIZE).pixels, read_image(upright, SIZE).pixels[::-1, ::-1])
  text = PngImagePlugin.PngInfo()
  text.add_itxt('XML:com.adobe.xmp', '<rdf:Description tiff:Orientation="3"/>')
  turned = encoded(Image.fromarray(PICTURES['noise']), 'PNG', pnginfo=text)
  np.testing.assert_array_equal(read_image(turned, SIZE).pixels, PICTURES['noise'][::-1, ::-1])


@pytest.mark.parametrize('orientation', [None, 1])
def test_a_photograph_of_a_camera_that_is_upright_is_plain(orientation):
  exif = Image.Exif()
  exif[0x010F] = 'a camera'
  if orientation:
    exif[0x0112] = orientation
  assert is_plain(encoded(Image.fromarray(PICTURES['noise']), 'JPEG', exif=exif), SIZE)
  exif[0x0112] = 6
  assert not is_plain(encoded(Image.fromarray(PICTURES['noise']), 'JPEG', exif=exif), SIZE)


def test_what_follows_a_picture_or_describes_it_changes_nothing():
  for kind in ('JPEG', 'PNG'):
    plain = encoded(Image.fromarray(PICTURES['noise']), kind)
    pixels = read_image(plain, SIZE).pixels
    np.testing.assert_array_equal(read_image(plain + b'\0' * 100, SIZE).pixels, pixels)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    described = encoded(Image.fromarray(PICTURES['noise']), kind, icc_profile=profile, dpi=(300, 300))
    np.testing.assert_array_equal(read_image(described, SIZE).pixels, pixels)
  frames = [Image.fromarray(PICTURES[name]) for name in ('noise', 'ramp')]
  for kind, options in (('PNG', {}), ('TIFF', {}), ('WEBP', {'lossless': True})):
    several = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(read_image(several, SIZE).pixels, PICTURES['noise'])


@pytest.mark.slow
@given(content=files(), share=st.floats(0, 0.98), place=st.integers(0))
@settings(max_examples=150, deadline=None)
def test_damage_is_refused_or_the_same_however_it_is_read(content, share, place):
  """Cut off anywhere a picture is refused, and so is one of whose header a bit is wrong, or it is some picture."""
  cut = content[: int(share * len(content))]
  changed = bytearray(content)
  changed[place % min(len(content), 200)] ^= 1 << place % 8
  for damaged in (cut, bytes(changed)):
    try:
      whole = read_full_size(damaged)
    except UnreadableError as error:
      assert str(error)
      with pytest.raises(UnreadableError):
        read_image(damaged, SIZE)
    else:
      pixels = read_image(damaged, SIZE).pixels
      if whole.shape == (SIZE, SIZE, 3):
        np.testing.assert_array_equal(pixels, whole)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
@pytest.mark.parametrize('share', np.linspace(0.05, 0.99, 12))
def test_half_a_picture_is_no_picture(kind, share):
  whole = encoded(Image.fromarray(PICTURES['noise']), kind)
  with pytest.raises(UnreadableError):
    read_image(whole[: int(share * len(whole))], SIZE)


def _claims(width, height, kind):
  """A small whole picture of which the header says other sides."""
  content = bytearray(encoded(Image.new('RGB', (8, 8)), kind))
  if kind == 'JPEG':
    at = content.find(b'\xff\xc0') + 5
    content[at : at + 4] = height.to_bytes(2) + width.to_bytes(2)
  elif kind == 'PNG':
    content[16:24] = width.to_bytes(4) + height.to_bytes(4)
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4)
  else:
    content[6:10] = width.to_bytes(2, 'little') + height.to_bytes(2, 'little')
  return bytes(content)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'GIF'])
@pytest.mark.parametrize(
  ('sides', 'why'),
  [
    ((32000, 32000), '32000x32000|1024000000'),
    ((20000, 10), '16384'),
    ((10, 20000), '16384'),
    ((9000, 9000), 'cannot be in'),
  ],
)
def test_sides_are_checked_from_the_header(kind, sides, why, monkeypatch):
  content = _claims(*sides, kind)
  monkeypatch.setattr('cv2.imdecode', None)  # nothing is decoded
  monkeypatch.setattr(Image.Image, 'load', None)
  for read in (lambda: read_image(content, SIZE), lambda: read_full_size(content), lambda: read_sides(content)):
    with pytest.raises(UnreadableError, match=why):
      read()


@pytest.mark.slow
def test_real_pictures_are_within_the_limits():
  """The emptiest pictures there are: of one colour, as small as encoders make them."""
  for mode in ('L', 'RGB'):
    image = Image.new(mode, (3000, 2000))
    for kind, options in (
      ('JPEG', {'quality': 1, 'progressive': True, 'subsampling': 2, 'optimize': True}),
      ('PNG', {'optimize': True}),
      ('GIF', {}),
      ('WEBP', {'quality': 1}),
    ):
      assert read_image(encoded(image, kind, **options), 8)[1:3] == (3000, 2000)
  assert read_image(encoded(Image.new('1', (3000, 2000)), 'PNG', optimize=True), 8)[1:3] == (3000, 2000)


LARGE = PICTURES['blocks'].repeat(8, 0).repeat(8, 1)


@pytest.mark.parametrize('factor', [1, 2, 4, 8])
def test_large_jpegs_are_decoded_at_a_part_of_their_size(factor):
  whole = encoded(Image.fromarray(LARGE), 'JPEG')
  found = read_image(whole, 128 // factor).pixels.astype(int)
  expected = Image.fromarray(read_full_size(whole)).resize(found.shape[:2], Image.Resampling.BOX)
  assert np.abs(found - np.asarray(expected)).mean() < 8


def test_the_verdict_does_not_depend_on_the_size():
  """On a JPEG that lacks half of its pixels, but not its end."""
  whole = encoded(Image.fromarray(LARGE), 'JPEG')
  broken = whole[: len(whole) // 2] + whole[-2:]
  verdicts = []
  for size in (8, 16, 32, 64, 128, 256, 300):
    try:
      verdicts.append(read_image(broken, size).pixels.shape == (size, size, 3))
    except UnreadableError:
      verdicts.append(False)
  try:
    verdicts.append(read_full_size(broken).shape == (256, 256, 3))
  except UnreadableError:
    verdicts.append(False)
  assert len(set(verdicts)) == 1


def test_orientation_after_the_frame_is_honoured():
  exif = Image.Exif()
  exif[0x0112] = 3
  upright = encoded(Image.fromarray(PICTURES['ramp']), 'JPEG')
  at = upright.find(b'\xff\xc4')  # after the frame, before the tables
  turned = upright[:at] + b'\xff\xe1' + (len(exif.tobytes()) + 2).to_bytes(2) + exif.tobytes() + upright[at:]
  for size in (4, SIZE):
    expected = read_image(upright, size).pixels[::-1, ::-1]
    np.testing.assert_allclose(read_image(turned, size).pixels.astype(int), expected, atol=6)


def test_many_scans_are_refused():
  whole = encoded(Image.fromarray(PICTURES['noise'].repeat(32, 0).repeat(32, 1)), 'JPEG', progressive=True)
  at = whole.rfind(b'\xff\xda')
  with pytest.raises(UnreadableError, match='scans of 1024x1024 pixels'):
    read_image(whole[:-2] + whole[at:-2] * 2000 + whole[-2:], SIZE)


@pytest.mark.parametrize('bits', [2, 4])
def test_grey_of_few_bits_with_a_transparent_one(bits):
  values = np.arange(SIZE * SIZE, dtype=np.uint8).reshape(SIZE, SIZE) % 2**bits
  rows = b''.join(
    b'\0' + np.packbits(np.unpackbits(row[:, None], axis=1)[:, -bits:].ravel()).tobytes() for row in values
  )
  file = b'\x89PNG\r\n\x1a\n'
  for kind, content in (
    (b'IHDR', SIZE.to_bytes(4) * 2 + bytes([bits, 0, 0, 0, 0])),
    (b'tRNS', (1).to_bytes(2)),
    (b'IDAT', zlib.compress(rows)),
    (b'IEND', b''),
  ):
    file += len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)
  expected = np.where(values == 1, 0, values * (255 // (2**bits - 1)))
  np.testing.assert_array_equal(read_image(file, SIZE).pixels[..., 0], expected)


def test_what_pillow_takes_for_other_pixels_is_refused():
  white = np.full((SIZE, SIZE), 65535, np.uint16)
  for tags, what in (({262: 0}, '16 bits of which white is 0'), ({258: 12}, '12 bits a value')):
    file = io.BytesIO()
    Image.fromarray(white).save(file, 'TIFF')
    content = bytearray(file.getvalue())
    (tag, value), *_ = tags.items()
    entry = content.find(tag.to_bytes(2, 'little') + (3).to_bytes(2, 'little'))
    content[entry + 8 : entry + 10] = value.to_bytes(2, 'little')
    with pytest.raises(UnreadableError, match=what):
      read_image(bytes(content), SIZE)


def test_profiles_make_no_noise(capfd):
  profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
  content = encoded(Image.fromarray(PICTURES['noise'][..., 0]), 'PNG', icc_profile=profile)
  np.testing.assert_array_equal(read_image(content, SIZE).pixels[..., 0], PICTURES['noise'][..., 0])
  assert capfd.readouterr() == ('', '')


def test_heic_is_read_with_its_library_and_named_without(tmp_path, monkeypatch):
  pillow_heif.register_heif_opener()
  content = encoded(Image.new('RGB', (64, 48), (200, 100, 30)), 'HEIF')
  picture = read_image(content, 64)
  assert picture[1:] == (64, 48, 'colour 8-bit')
  np.testing.assert_allclose(picture.pixels[8:56].astype(int), np.full((48, 64, 3), (200, 100, 30)), atol=4)
  monkeypatch.setitem(sys.modules, 'pillow_heif', None)
  with pytest.raises(UnreadableError, match=r"HEIC, which needs pillow-heif: pip install -e '\.\[heic\]', or save"):
    read_image(content, 64)


def test_what_cannot_be_read_is_named_alike_by_folder_and_benchmark(tmp_path):
  (tmp_path / 'faces' / 'anna').mkdir(parents=True)
  (tmp_path / 'faces' / 'anna' / '1.jpg').write_bytes(_claims(32000, 32000, 'JPEG'))
  crops = LabelledSet.open(tmp_path / 'faces', SIZE).images
  with pytest.raises(DataError, match=r'anna/1\.jpg cannot be decoded: 32000x32000'):
    crops[:]


def test_headers_that_are_remembered_are_those_of_the_picture():
  """Pictures of many headers in turn, some of which begin like others, are what they are alone."""
  contents = [
    encoded(Image.fromarray(PICTURES['noise'][:height]), 'JPEG', quality=quality, optimize=optimize)
    for quality in (50, 90)
    for optimize in (False, True)
    for height in (16, 24, 32)
  ]
  exif = Image.Exif()
  exif[0x0112] = 3
  contents += [encoded(Image.fromarray(PICTURES['noise']), 'JPEG', exif=exif)]
  expected = [np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content)))) for content in contents]
  for _ in range(2):
    for content, pixels in zip(contents, expected):
      np.testing.assert_allclose(read_full_size(content).astype(int), pixels, atol=2)
      assert read_sides(content) == pixels.shape[1::-1]
