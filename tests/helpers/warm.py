"""Processes forked from one that has imported everything already: python -m tests.helpers.warm

A start of Python that imports JAX and the package takes seconds, and there are many. This process imports once, starts
no device and no thread, and forks for everything it is asked for. The fork runs what `python -m gif_jax` runs, or a
program as after `python -c`, as `__main__`, in a new process with its own output, flags, devices and end.

Requests are lines of JSON on standard input, replies such lines on standard output. To start: `program` or '',
`arguments`, `devices`, `folder` to run in, `output`, a file; the reply has the `pid`. To wait for the end: `pid`; the
reply has `status`, as subprocess gives it, and `seconds` of CPU time.
"""

import json
import os
import pkgutil
import runpy
import sys
from importlib import import_module
from types import ModuleType

import jax

import gif_jax
from tests.helpers import memory


def _import_all():
  for module in pkgutil.walk_packages(gif_jax.__path__, 'gif_jax.'):
    if module.name not in ('gif_jax.__main__', 'gif_jax.main'):
      import_module(module.name)


def _serve():
  """Answers requests. Returns the request in a fork, and None in this process at the end of all requests."""
  replies = os.fdopen(os.dup(1), 'w')
  while line := sys.stdin.readline():
    request = json.loads(line)
    if 'pid' in request:
      reply = _end(request['pid'])
    elif pid := os.fork():
      reply = {'pid': pid}
    else:
      return request
    print(json.dumps(reply), file=replies, flush=True)
  return None


def _end(pid):
  _, status, usage = os.wait4(pid, 0)
  return {'status': os.waitstatus_to_exitcode(status), 'seconds': usage.ru_utime + usage.ru_stime}


def _become(request):
  """Makes this fork what a start of Python would be."""
  output = os.open(request['output'], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
  for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (output, 1), (output, 2)):
    os.dup2(source, target)
  os.closerange(3, 256)
  os.chdir(request['folder'])
  jax.config.update('jax_num_cpu_devices', request['devices'])
  os.environ['JAX_NUM_CPU_DEVICES'] = str(request['devices'])
  sys.argv = ['-c' if request['program'] else 'gif_jax', *request['arguments']]


def _run(program):
  if not program:
    return runpy.run_module('gif_jax', run_name='__main__', alter_sys=True)
  sys.modules['__main__'] = main = ModuleType('__main__')
  exec(program, vars(main))


if __name__ == '__main__':
  _import_all()
  memory.keep()  # forks share what was imported, and need not copy it
  given = _serve()
  if given is not None:
    _become(given)
    _run(given['program'])
