"""One image in every kind of file: what becomes of it, or why it cannot be read."""

import struct
import zlib

import numpy as np
from PIL import Image

from tests.helpers.pictures import SIZE, encode, picture


def exif_of(orientation):
  exif = Image.Exif()
  exif[0x0112] = orientation
  return exif


def png_of(*chunks):
  checked = [(len(data), name + data) for name, data in chunks]
  parts = [struct.pack('>I', size) + chunk + struct.pack('>I', zlib.crc32(chunk)) for size, chunk in checked]
  return b'\x89PNG\r\n\x1a\n' + b''.join(parts)


def _png_rgb16():
  """A PNG with 16 bits of each of three colours, made by hand: Pillow writes none. All values v become v / 257."""
  deep = picture(0).astype('>u2') * 257
  rows = b''.join(b'\0' + row.tobytes() for row in deep)
  header = struct.pack('>IIBBBBB', SIZE, SIZE, 16, 2, 0, 0, 0)
  return png_of((b'IHDR', header), (b'IDAT', zlib.compress(rows)), (b'IEND', b''))


def _animated():
  frames = [Image.fromarray(picture(i)) for i in range(2)]
  return encode(frames[0], 'PNG', save_all=True, append_images=frames[1:])


MADE = {  # what is in the file -> what it shows, where that is known without a decoder
  'larger': lambda: (encode(picture(0, 40)), None),
  'not square': lambda: (encode(picture(0)[:12]), None),
  'turned by EXIF': lambda: (encode(picture(0), 'PNG', exif=exif_of(3)), picture(0)[::-1, ::-1]),
  'turned by EXIF, JPEG': lambda: (encode(picture(0), exif=exif_of(6)), None),
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


def _bomb():
  header = struct.pack('>IIBBBBB', 60000, 60000, 8, 2, 0, 0, 0)
  return png_of((b'IHDR', header), (b'IDAT', b'\0'))


BAD = {
  'empty': lambda: (b'', 'an empty file'),
  'text': lambda: (b'hello', 'cannot identify image file'),
  'header': lambda: (encode(picture(0))[:2], 'cannot identify'),
  'half': lambda: (encode(picture(0))[:-100], 'truncated'),
  'end': lambda: (encode(picture(0))[:-1], 'truncated'),
  'half png': lambda: (encode(picture(0), 'PNG')[:-300], 'truncated'),
  'huge': lambda: (_bomb(), 'pixels'),
}
