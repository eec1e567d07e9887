"""What devices send each other, read from a compiled program's text."""

import math
import re
from collections import Counter
from typing import NamedTuple

_COLLECTIVES = ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all', 'collective-permute', 'ragged-all-to-all')
_HEADER = re.compile(r'^(?:ENTRY )?%?([\w.-]+) \(.*\{$')
_INSTRUCTION = re.compile(r'^\s+(?:ROOT )?%?[\w.-]+ = (.*)$')
_ARRAY = re.compile(r'\b(pred|bf16|[suf]\d+(?:e\d\w*)?|c64|c128)\[([\d,]*)\]')
_CALLED = re.compile(r'(?:body|condition|to_apply|calls|true_computation|false_computation)=%?([\w.-]+)')
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


class Collective(NamedTuple):
  """op: as XLA calls it; size: bytes of what each device has afterwards, or of what it gives where that is more."""

  op: str
  size: int
  times: int  # in a run of the program


def collectives(text: str) -> list[Collective]:
  """Every collective in a program, `as_text()` of a compiled one, equal ones together, the largest first."""
  computations, entry = _computations(text)
  counts: Counter[tuple[str, int]] = Counter()

  def visit(name: str, times: int) -> None:
    for line in computations.get(name, ()):
      op = _operation(line)
      base = op.removesuffix('-start')
      if base in _COLLECTIVES:
        counts[base, _payload(line, op)] += times
      elif op in ('while', 'call', 'conditional', 'async-start', 'fusion'):
        trips = _TRIPS.search(line)
        inner = times * (int(trips[1]) if op == 'while' and trips else 1)
        branches = [part.strip().lstrip('%') for match in _BRANCHES.findall(line) for part in match.split(',')]
        for called in dict.fromkeys([*_CALLED.findall(line), *branches]):
          visit(called, inner)

  visit(entry, 1)
  found = (Collective(op, size, times) for (op, size), times in counts.items())
  return sorted(found, key=lambda each: (-each.size * each.times, each.op, each.size))


def _computations(text):
  """({name: what follows the = of its instructions}, name of the one that is run)."""
  computations: dict[str, list[str]] = {}
  name = entry = ''
  for line in text.splitlines():
    if header := _HEADER.match(line):
      name = header[1]
      computations[name] = []
      entry = name if line.startswith('ENTRY') else entry
    elif instruction := _INSTRUCTION.match(line):
      computations.setdefault(name, []).append(instruction[1])
  return computations, entry


def _split(line):
  """(type of the result, what follows it)."""
  if not line.startswith('('):
    shape, _, rest = line.partition(' ')
    return shape, rest
  depth = 0
  for i, letter in enumerate(line):
    depth += {'(': 1, ')': -1}.get(letter, 0)
    if not depth:
      return line[: i + 1], line[i + 1 :].lstrip()
  return line, ''


def _operation(line):
  return _split(line)[1].partition('(')[0]


def _payload(line, op):
  shape, _ = _split(line)
  sizes = [_bytes(*array) for array in _ARRAY.findall(shape)]
  if op == 'all-gather-start':  # (what it gives, what it gets)
    return sum(sizes[len(sizes) // 2 :])
  if op == 'collective-permute-start':
    return sizes[0]
  if op.startswith('reduce-scatter'):
    return sum(sizes) * _group(line)
  return sum(sizes)


def _group(line):
  """How many devices take part together."""
  if listed := re.search(r'replica_groups=\{\{([\d,]*)\}', line):
    return len(listed[1].split(','))
  shape = re.search(r'replica_groups=\[(\d+),(\d+)\]', line)
  return int(shape[2]) if shape else 1


def _bytes(dtype, shape):
  bits = {'pred': 8, 'bf16': 16}.get(dtype) or int(re.sub(r'^[a-z](\d+).*', r'\1', dtype))
  return math.prod(int(size) for size in shape.split(',') if size) * bits // 8
