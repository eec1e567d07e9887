"""What became of an attack: what a command said on its way, and how it ended."""

import re
from typing import NamedTuple

COLUMNS = {
  'equal': 'ended equal',
  'noticed': 'ended equal, said',
  'refused': 'refused in one line',
  'told': 'other result, said',
  'silent': 'used in silence',
  'traceback': 'tracebacks',
  'otherwise': 'otherwise',
}
WRONG = ('silent', 'traceback', 'otherwise')
_TRACES = ('Traceback (most recent call last)', 'Fatal Python error', 'terminate called', 'Check failed')
_LOG = re.compile(r'[IW]\d{4} \d\d:\d\d:\d\d')  # a line of absl's log, by Python and by C++
_WARNING = re.compile(r'W\d{4} \d\d:\d\d:\d\d\S* +\d+ (.*)')
# Of tqdm, and its steps from bar to bar; what follows has no line of its own.
_BAR = re.compile(r'^[^|\]]*\d+%\|.*?\]|^.*\d\S* \[\d+:\d\d[^\]]*\]|\x1b\[A')
_TELLING = re.compile(r'damaged|left out|cannot be read|checksum|missing|made again|beginning again', re.I)


class Run(NamedTuple):
  """How a command ended. status: None where it did not and was killed for it."""

  status: int | None
  output: str
  said: str  # on stderr
  seconds: float


def spoken(said: str) -> list[str]:
  """The lines of stderr that are neither log nor progress bar."""
  lines = (_BAR.sub('', line).strip() for line in re.split(r'[\r\n]', said))
  return [line for line in lines if line and not _LOG.match(line)]


def warned(said: str) -> list[str]:
  """The warnings in the log."""
  lines = (_BAR.sub('', line).strip() for line in re.split(r'[\r\n]', said))
  return [match[1] for line in lines if (match := _WARNING.match(line))]


def telling(run: Run, usual: Run | None = None) -> list[str]:
  """All that says that something is wrong; usual: a run that says the same, which is nothing then."""
  lines = spoken(run.said) + warned(run.said)
  lines += [line for line in [*run.said.splitlines(), *run.output.splitlines()] if _TELLING.search(line)]
  before = {_numberless(line) for line in telling(usual)} if usual else ()
  return [line for line in dict.fromkeys(lines) if _numberless(line) not in before]


def _numberless(line: str) -> str:
  return re.sub(r'\d+', 'N', line)


def judge(run: Run, equal: bool, usual: Run | None = None) -> str:
  """What an attack came to, a key of COLUMNS. usual: a run in peace, whose warnings are none of this one's."""
  if any(trace in text for trace in _TRACES for text in (run.output, run.said)) or (run.status or 0) < 0:
    return 'traceback'
  if run.status != 0:
    return 'refused' if run.status == 1 and len(spoken(run.said)) == 1 else 'otherwise'
  told = bool(telling(run, usual))
  if equal:
    return 'noticed' if told else 'equal'
  return 'told' if told else 'silent'
