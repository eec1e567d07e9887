"""README and docs: their code blocks, commands, links and headings."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.helpers.places import ROOT

PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
_BLOCK = re.compile(r'^```(\w*)([^\n]*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_LINK = re.compile(r'\]\(([^)\s]+)\)')


class Block(NamedTuple):
  """A fenced block. runnable: whether it can be run as it stands, which ```bash runnable says."""

  language: str
  runnable: bool
  text: str


def blocks(page: Path) -> list[Block]:
  return [Block(kind, 'runnable' in rest, text) for kind, rest, text in _BLOCK.findall(page.read_text())]


def lines(text: str) -> list[str]:
  """Commands of a block or a page: those that a backslash continues are one."""
  return [line for line in re.sub(r'\\\n\s*', '', text).splitlines() if line.strip()]


def inline_code(page: Path) -> list[str]:
  """What stands between backticks in the prose."""
  return re.findall(r'`([^`\n]+)`', _BLOCK.sub('', page.read_text()))


def links(page: Path) -> Iterator[tuple[str, str]]:
  """(path, anchor) of the links and pictures of a page that lead to files of the project."""
  for target in _LINK.findall(_BLOCK.sub('', page.read_text())):
    if not re.match(r'\w+:', target):
      path, _, anchor = target.partition('#')
      yield path, anchor


def anchors(page: Path) -> set[str]:
  """What GitHub calls the headings of a page."""
  headings = re.findall(r'^#+ (.*)$', _BLOCK.sub('', page.read_text()), re.MULTILINE)
  return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}
