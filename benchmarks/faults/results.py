"""What commands have made, compared, without all that depends on time or on how it was made."""

import json
import re
from pathlib import Path

# A checkpoint is compared by state_sha256 in summary.json; training.png shows speed; caches and embeddings are no
# results; the rest are times, or what was set aside.
_LEFT_OUT = re.compile(r'/(checkpoints|tensorboard|cache|embeddings)/|/(starts\.jsonl|training\.png)$|\.damaged')
_TIMES = ('images_per_second', 'resumed_from_step', 'model_tflops_per_second', 'utilisation', 'data_stall', 'checksum')
_DATE = re.compile(r'\d{4}-\d\d-\d\d')  # of an evaluation


def result(out: Path) -> dict[str, object]:
  """What a command has made: {path below `out`: content}, without all that depends on time or on how it was made.

  Hidden files are none of it.
  """
  contents = {}
  for path in sorted(path for path in out.rglob('*') if path.is_file()):
    name = f'/{path.relative_to(out)}'
    if '/.' not in name and not _LEFT_OUT.search(name):
      contents[name] = _content(path)
  return contents


def _content(path):
  content = path.read_bytes()
  try:
    if path.suffix == '.json':
      return _timeless(json.loads(content))
    if path.suffix == '.jsonl':
      return [_timeless(json.loads(line)) for line in content.splitlines()]
    return _DATE.sub('DATE', content.decode()) if path.suffix in ('.html', '.md') else content
  except ValueError:
    return content


def _timeless(value):
  if isinstance(value, dict):
    return {key: _timeless(item) for key, item in value.items() if key not in _TIMES}
  if isinstance(value, list):
    return [_timeless(item) for item in value]
  return 'DATE' if isinstance(value, str) and _DATE.fullmatch(value) else value


def left_over(out: Path) -> list[str]:
  """Hidden files and folders, which nobody should find when all is done, but for locks."""
  hidden = [path for path in out.rglob('.*') if not path.name.endswith('.lock')]
  return sorted(str(path.relative_to(out)) for path in hidden)


def differences(expected: dict, made: dict) -> list[str]:
  """The names of what is not the same, such as -/a (missing), +/b (not wanted), /c (another content)."""
  gone, new = expected.keys() - made.keys(), made.keys() - expected.keys()
  other = sorted(name for name in expected.keys() & made.keys() if expected[name] != made[name])
  return sorted(f'-{name}' for name in gone) + sorted(f'+{name}' for name in new) + other
