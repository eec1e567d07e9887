"""Where the time of a compiled program goes, from a trace of JAX's profiler: convolutions, products, the rest, gaps."""

import re
import warnings
from pathlib import Path

import jax

CONVOLUTIONS, PRODUCTS, REDUCTIONS = 'convolutions', 'matrix products', 'batch statistics, sums'
ELEMENTWISE, COPIES, COLLECTIVES, GAPS = 'elementwise', 'copies, transposes', 'collectives', 'gaps'
CATEGORIES = (CONVOLUTIONS, PRODUCTS, REDUCTIONS, ELEMENTWISE, COPIES, COLLECTIVES, GAPS)

_INSTRUCTION = re.compile(r'^\s+(?:ROOT )?%?([\w.\-]+) = .*? ([a-z][a-z0-9\-]*)\((.*)')
_COMPUTATION = re.compile(r'^(?:ENTRY )?%?([\w.\-]+) \(.*\{$')
_CALLED = re.compile(r'calls=%?([\w.\-]+)')
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_MOVES = {
  'parameter',
  'constant',
  'copy',
  'copy-start',
  'copy-done',
  'transpose',
  'bitcast',
  'reshape',
  'tuple',
  'slice',
  'get-tuple-element',
  'concatenate',
  'pad',
  'broadcast',
  'dynamic-slice',
  'dynamic-update-slice',
  'iota',
  'reverse',
}
_CALLERS = {'call', 'while', 'conditional'}  # their time is that of what they run
# Names of kernels that no instruction has given its own; the first that matches the name says what it is.
_KERNELS = (
  (r'nccl|all-?reduce|all-?gather|reduce-?scatter|collective', COLLECTIVES),
  (r'memcpy|memset|nchwtonhwc|nhwctonchw|transpose|copy', COPIES),
  (r'conv|fprop|dgrad|wgrad|winograd|cudnn', CONVOLUTIONS),
  (r'gemm|cublas|cutlass|matmul|nvjet|dot', PRODUCTS),
  (r'reduce|splitk', REDUCTIONS),
)


def instructions(program: str) -> dict[str, str]:
  """Name of every instruction of a compiled program -> its category. program: `jax.stages.Compiled.as_text()`."""
  bodies, parts, body = {}, {}, None
  for line in program.splitlines():
    if header := _COMPUTATION.match(line):
      body = bodies.setdefault(header[1], [])
    elif body is not None and (part := _INSTRUCTION.match(line)):
      body.append(part[2])
      called = _CALLED.search(part[3])
      target = _TARGET.search(part[3])
      parts[part[1]] = part[2], called and called[1], target[1] if target else ''
  return {name: _category(opcode, bodies.get(body, []), target) for name, (opcode, body, target) in parts.items()}


def _category(opcode, body, target):
  """opcode: of the instruction; body: opcodes of what it calls; target: of a custom call."""
  inside = {opcode, *body} - {'fusion'}
  if opcode in _CALLERS:
    return ''
  if 'convolution' in inside:
    return CONVOLUTIONS
  if 'dot' in inside:
    return PRODUCTS
  if opcode == 'custom-call':
    return _by_name(target)
  if any(re.match('all-|reduce-scatter|collective', name) for name in inside):
    return COLLECTIVES
  if inside & {'reduce', 'reduce-window', 'scatter'}:
    return REDUCTIONS
  return COPIES if inside <= _MOVES | {'convert'} else ELEMENTWISE


def _by_name(name):
  return next((category for pattern, category in _KERNELS if re.search(pattern, name.lower())), ELEMENTWISE)


def breakdown(trace: Path, program: str, steps: int) -> dict:
  """Milliseconds of a step: {'span': ..., 'categories': {name: ms}, 'top': [[instruction, category, ms], ...]}.

  trace: the folder that was traced into, `steps` steps of one device one after the other; program: its text. Gaps are
  the time between the first and the last event in which nothing ran. Where several things run at once (streams of a
  GPU, threads of a CPU) the categories together exceed the span.
  """
  known = {re.sub(r'[.\-]', '_', name): category for name, category in instructions(program).items()}
  totals, kinds, spans = {}, {}, []
  for name, start, duration in _events(trace):
    category = known.get(re.sub(r'[.\-]', '_', name))
    category = _by_name(name) if category is None else category
    if category:
      totals[name], kinds[name] = totals.get(name, 0) + duration, category
      spans.append((start, start + duration))
  each = {name: total / steps / 1e6 for name, total in totals.items()}
  span, busy = (total / steps / 1e6 for total in _covered(spans))
  sums = {c: sum(ms for name, ms in each.items() if kinds[name] == c) for c in CATEGORIES}
  top = sorted(each, key=each.get, reverse=True)[:20]
  return {'span': span, 'categories': sums | {GAPS: span - busy}, 'top': [[n, kinds[n], each[n]] for n in top]}


def _events(trace):
  """(instruction or kernel, start, duration), ns, of what ran on the device."""
  (file,) = trace.rglob('*.xplane.pb')
  planes = list(jax.profiler.ProfileData.from_file(str(file)).planes)
  devices = [plane for plane in planes if plane.name.startswith('/device:') and ':CUSTOM' not in plane.name]
  # A device's plane may have lines that repeat its events in other words (modules, steps, names of the source).
  for plane in devices or [plane for plane in planes if plane.name == '/host:CPU']:
    for line in plane.lines:
      if not devices or line.name == 'XLA Ops' or line.name.startswith('Stream'):
        yield from _of_line(line, named=bool(devices))


def _of_line(line, named):
  """named: also events of no instruction, which on a CPU are the host's."""
  for event in line.events:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore', DeprecationWarning)  # of jaxlib about its own types, on Python 3.12
      instruction = dict(event.stats).get('hlo_op')
    if instruction or named:
      yield instruction or event.name, event.start_ns, event.duration_ns


def _covered(spans):
  """Length from the first start to the last end, and of the part of it that any of the spans covers."""
  if not spans:
    return 0, 0
  spans, busy = sorted(spans), 0
  end = spans[0][0]
  for start, stop in spans:
    busy += max(0, stop - max(start, end))
    end = max(end, stop)
  return end - spans[0][0], busy
