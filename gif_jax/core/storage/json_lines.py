"""Files of JSON objects, one a line with its checksum: what a run notes as it goes, read back however it ended."""

import json
import logging
from pathlib import Path

from gif_jax.core.errors import disk_error
from gif_jax.core.storage.files import opened, sealed

_LOG = logging.getLogger(__name__)


def json_line(content: dict) -> str:
  """A JSON object as a line of a file, with its checksum."""
  return json.dumps(sealed(content)) + '\n'


def read_json_lines(path: Path, key: str) -> list[dict]:
  """The objects in a file that has one on every line, none where there is no file.

  key: of the integer that each of them has. A last line that is not finished is left out, and with a warning whatever
  is damaged. Raises DiskError.
  """
  try:
    lines = path.read_bytes().split(b'\n')[:-1]
  except FileNotFoundError:
    return []
  except OSError as error:
    raise disk_error(error, path, 'read') from error
  objects = []
  for number, line in enumerate(lines, 1):
    try:
      content = opened(json.loads(line))
      objects.append(content | {key: int(content[key])})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
      _LOG.warning('%s, line %d is damaged (%s) and is left out', path, number, error)
  return objects
