"""Files that appear whole: written under another name, then renamed."""

import contextlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
  """A temporary path beside `path` that takes its name when the block ends well, and vanishes when it does not."""
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}')
  try:
    yield temporary
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
  """Writes `text` as UTF-8."""
  with replacing(path) as temporary:
    temporary.write_text(text, encoding='utf-8')


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
  """Writes `content` as JSON, a list of numbers a line.

  Arrays become lists, named tuples become objects, and what JSON cannot say (NaN, infinities) becomes null.
  """
  text = json.dumps(_plain(content), indent=2, allow_nan=False)
  # A line break after a bracket is never part of a string, where it would be \n.
  text = re.sub(r'\[\n([^][{}"]*)\]', lambda numbers: f'[{" ".join(numbers[1].split())}]', text)
  write_text(path, text + '\n')


def _plain(value: Any) -> Any:
  if hasattr(value, '_asdict'):
    value = value._asdict()
  if isinstance(value, Mapping):
    return {str(key): _plain(item) for key, item in value.items()}
  if hasattr(value, 'tolist'):  # NumPy and JAX arrays and scalars
    return _plain(value.tolist())
  if isinstance(value, list | tuple):
    return [_plain(item) for item in value]
  return None if isinstance(value, float) and not math.isfinite(value) else value
