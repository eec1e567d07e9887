"""Words for messages and reports: names of files and people, which may hold anything and must do nothing; amounts."""

import re
import unicodedata

_UNDRAWN = re.compile('[^\x20-\u024f\u0384-\u0525]')


def one_line(text: object) -> str:
  """The text without line breaks, and with whatever moves a cursor or is no character of a terminal spelled out."""
  flat = ' '.join(str(text).split())
  return ''.join(c if c.isprintable() else c.encode('unicode_escape', 'surrogatepass').decode() for c in flat)


def quoted(text: object, most: int = 80) -> str:
  """A text in quotes, its middle left out where it is longer than `most` characters."""
  text = str(text)
  return repr(text if len(text) <= most else f'{text[: most // 2]}...{text[-most // 4 :]}')


def markdown(text: object) -> str:
  """One line that Markdown shows as it is; underscores within words and brackets around intervals need nothing."""
  text = re.sub(r'([\\`*{}<>|#&~$!])', r'\\\1', one_line(text))
  text = re.sub(r'\](?=[(\[])', r'\]', text)
  return re.sub(r'(?<![^\W_])_|_(?![^\W_])', r'\_', text)


def for_plot(text: object) -> str:
  """One line that Matplotlib's own font can draw (Latin, Greek, Cyrillic) and that it does not take for a formula."""
  return _UNDRAWN.sub('?', unicodedata.normalize('NFC', one_line(text))).replace('$', r'\$')


_UNITS = ((365.25 * 86400, 'year'), (86400, 'day'), (3600, 'hour'), (60, 'minute'))


def duration(seconds: float) -> str:
  """About how long, in the unit that a person would choose: 'about 9 hours'. Less than 1.5 of one are of the next."""
  for size, unit in _UNITS:
    if seconds >= 1.5 * size:
      return f'about {seconds / size:.0f} {unit}s'
  return 'about a minute' if seconds >= 45 else 'less than a minute'


def size(count: float) -> str:
  """Bytes, in the unit that a person would choose: '0.53 GB'."""
  for least, unit, name in ((1e8, 1e9, 'GB'), (1e5, 1e6, 'MB'), (1e3, 1e3, 'kB')):
    if count >= least:
      return f'{count / unit:.2f} {name}'
  return f'{count:.0f} B'
