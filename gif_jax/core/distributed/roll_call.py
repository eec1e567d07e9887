"""Before processes connect as one run: who is there, whether a number was given twice, who is missing.

Process 0 listens at the address of --coordinator until all others have said their numbers, one line each, and then
leaves it to JAX, whose own service would bring all processes down where two have one number. Nothing but numbers is
read from whoever connects.
"""

import contextlib
import ipaddress
import logging
import re
import selectors
import socket
import time
from collections.abc import Iterator

from gif_jax.core.errors import ConfigError, reason

_LOG = logging.getLogger(__name__)

PATIENCE = 300.0  # seconds that processes wait for each other: machines of a cluster do not boot at once
_REPORT = 10.0  # seconds between two words about who is waited for
_LOOK = 1.0  # seconds between two attempts to reach process 0
_OTHERS = 20  # attempts at which somebody else answers, who is then nobody about to end
_ANSWER = 5.0  # seconds in which whoever connects must have said its number
_LINE = 200  # bytes of an answer
_NAMED = 8  # missing processes that are named
_GO, _NO = b'go\n', b'no: '
_CURE = (
  'Start every process with the same --coordinator and --processes, each with its own --process, and open the port '
  'between machines.'
)


def parse_address(text: str) -> tuple[str, int]:
  """(host, port) of HOST:PORT, [IPv6]:PORT. Raises ConfigError."""
  match = re.fullmatch(r'([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.%]+\]):(\d{1,5})', text)
  if not match or not 0 < int(match[2]) < 1 << 16:
    raise ConfigError(
      f'--coordinator={text} is no HOST:PORT nor auto: give the machine of process 0 by name or address, and a port.'
    )
  return match[1].strip('[]'), int(match[2])


def listening_address(host: str, port: int) -> str:
  """Where process 0 listens: at the address given, so that it is reached by no other way into the machine.

  A name that is none of this machine's addresses (behind a router), or only of its loopback though the name is not
  localhost, leaves nothing but all addresses, with a warning.
  """
  for family, _, _, _, (numeric, *_) in _resolved(host, port):
    address = ipaddress.ip_address(numeric.partition('%')[0])
    if address.is_loopback and not _is_loopback(host):
      continue  # some systems give their own name to the loopback, where no other machine comes in
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as one:
      one.bind((numeric, 0))
      return f'[{numeric}]:{port}' if family == socket.AF_INET6 else f'{numeric}:{port}'
  _LOG.warning('--coordinator=%s:%d is no address of this machine: process 0 listens at all it has', host, port)
  return f'[::]:{port}' if socket.has_dualstack_ipv6() else f'0.0.0.0:{port}'


def _resolved(host, port):
  try:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
  except OSError as error:
    raise ConfigError(
      f'--coordinator={host}:{port}: the name {host} leads nowhere ({reason(error)}); give the machine of process 0.'
    ) from error


def _is_loopback(host):
  try:
    return ipaddress.ip_address(host).is_loopback
  except ValueError:
    return host == 'localhost'


def call(host: str, port: int, processes: int, process: int) -> None:
  """Returns in all processes when all are there. Raises ConfigError: whose number is given twice, or who is missing."""
  if process == 0:
    _hear_all(host, port, processes)
  else:
    _answer(host, port, processes, process)


class _Wait:
  """How long is waited, with a word now and then."""

  def __init__(self, who):
    self.who, self.began = who, time.monotonic()
    self.next = self.began + _REPORT

  def more(self, state: str) -> None:
    """Says whom is waited for. Raises ConfigError when that takes too long."""
    now = time.monotonic()
    if now - self.began >= PATIENCE:
      raise ConfigError(f'{self.who} has waited {now - self.began:.0f} seconds: {state}. {_CURE}')
    if now >= self.next:
      _LOG.info('%s has waited %.0f of at most %.0f seconds: %s', self.who, now - self.began, PATIENCE, state)
      self.next = now + _REPORT


def _hear_all(host, port, processes):
  address = listening_address(host, port)
  connected: dict[int, socket.socket] = {}
  wait = _Wait(f'process 0 of {processes}')
  with _listening(address) as server, selectors.DefaultSelector() as selector:
    selector.register(server, selectors.EVENT_READ)
    while len(connected) < processes - 1:
      for key, _ in selector.select(_LOOK / 4):
        if key.fileobj is server:
          _welcome(server, selector, connected, processes)
        else:  # whoever waits says nothing more: it is gone
          selector.unregister(key.fileobj)
          connected.pop(key.data).close()
      if missing := sorted(set(range(1, processes)) - connected.keys()):
        listed = ', '.join(map(str, missing[:_NAMED])) + (' ...' if len(missing) > _NAMED else '')
        wait.more(f'nobody has come to {address} with --process={listed}')
    for one in connected.values():
      with contextlib.suppress(OSError):
        one.sendall(_GO)
      one.close()


@contextlib.contextmanager
def _listening(address) -> Iterator[socket.socket]:
  host, port = parse_address(address)
  family = socket.AF_INET6 if ':' in host else socket.AF_INET
  both = host == '::' and socket.has_dualstack_ipv6()
  try:
    server = socket.create_server((host, port), family=family, dualstack_ipv6=both)
  except OSError as error:
    raise ConfigError(
      f'--coordinator={address}: process 0 cannot listen there ({reason(error)}); if another run has the port, name a '
      'free one.'
    ) from error
  with server:
    yield server


def _welcome(server, selector, connected, processes):
  """Takes the number of whoever connects, or says why not."""
  one, _ = server.accept()
  one.settimeout(_ANSWER)
  try:
    if match := re.fullmatch(rb'process (\d{1,6}) of (\d{1,6})\n', _line(one)):
      number = int(match[1])
      problem = _problem(number, int(match[2]), connected, processes)
      if not problem:
        connected[number] = one
        selector.register(one, selectors.EVENT_READ, number)
        return
      one.sendall(_NO + f'{problem}\n'.encode())
  except OSError:
    pass  # it went away, or is somebody else who looks for open ports
  one.close()


def _problem(process, count, connected, processes):
  if count != processes:
    return f'process 0 was started with --processes={processes}, this one with --processes={count}'
  if not 0 < process < processes:
    return f'there is no --process={process} among {processes}, but for process 0 that is there'
  return f'--process={process} is there already, started elsewhere' if process in connected else ''


def _line(one):
  """What comes up to the end of a line."""
  content = b''
  while not content.endswith(b'\n') and len(content) < _LINE:
    more = one.recv(_LINE - len(content))
    if not more:
      break
    content += more
  return content


def _answer(host, port, processes, process):
  wait, state, others = _Wait(f'process {process} of {processes}'), 'process 0 is looked for', 0
  while True:
    try:
      with (
        socket.create_connection((host, port), _ANSWER) as one,
        contextlib.suppress(ConnectionResetError, BrokenPipeError),  # it hangs up: process 0 would not
      ):
        one.sendall(f'process {process} of {processes}\n'.encode())
        one.settimeout(_LOOK)
        if _told(one, wait, f'process 0 answers at {host}:{port}, other processes are missing'):
          return
      state, others = f'{host}:{port} answers, but is no process 0 that waits for others', others + 1
      if others >= _OTHERS:
        raise ConfigError(
          f'{state}: all of its processes are there already and --process={process} is given twice, or another program '
          f'has the port. {_CURE}'
        )
    except OSError as error:
      state = f'{host}:{port}, where process 0 should be, does not answer ({reason(error)})'
    wait.more(state)
    time.sleep(_LOOK)


def _told(one, wait, state):
  """Whether process 0 says that all are there; False where it is gone, or it is somebody else who answers.

  Raises ConfigError where it says that this process cannot be one of them.
  """
  while True:
    try:
      answer = _line(one)
    except TimeoutError:
      wait.more(state)
      continue
    if answer == _GO:
      return True
    if answer.startswith(_NO):
      raise ConfigError(f'{answer.removeprefix(_NO).decode(errors="replace").strip()}. {_CURE}')
    return False
