"""Commands started from a process that has imported everything already: python -m tests.helpers.warm

A start of Python that imports JAX and the package takes seconds, and there are many. This process imports once, starts
no device and no thread, and forks for every command it is asked for. The fork runs what `python -m gif_jax` runs, as
`__main__`, in a new process with its own output, flags, devices and end.

Requests are lines of JSON on standard input: arguments, output (a file), devices, folder (to run in). Replies are lines
of JSON on standard output: status, as subprocess gives it, and seconds of CPU time.
"""

import gc
import json
import os
import pkgutil
import runpy
import sys
from importlib import import_module

import jax

import gif_jax


def _import_all():
  for module in pkgutil.walk_packages(gif_jax.__path__, 'gif_jax.'):
    if module.name not in ('gif_jax.__main__', 'gif_jax.main'):
      import_module(module.name)


def _serve():
  """Forks for each request. Returns the request in the fork, and None in this process at the end of all requests."""
  replies = os.fdopen(os.dup(1), 'w')
  while line := sys.stdin.readline():
    pid = os.fork()
    if not pid:
      return json.loads(line)
    _, status, usage = os.wait4(pid, 0)
    reply = {'status': os.waitstatus_to_exitcode(status), 'seconds': usage.ru_utime + usage.ru_stime}
    print(json.dumps(reply), file=replies, flush=True)
  return None


def _become(request):
  """Makes this fork what a start of Python would be."""
  output = os.open(request['output'], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
  for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (output, 1), (output, 2)):
    os.dup2(source, target)
  os.closerange(3, 256)
  os.chdir(request['folder'])
  jax.config.update('jax_num_cpu_devices', request['devices'])
  os.environ['JAX_NUM_CPU_DEVICES'] = str(request['devices'])
  sys.argv = ['gif_jax', *request['arguments']]


if __name__ == '__main__':
  _import_all()
  gc.collect()
  gc.freeze()  # forks share what was imported: neither looked through for what is free, nor copied for it
  given = _serve()
  if given is not None:
    _become(given)
    runpy.run_module('gif_jax', run_name='__main__', alter_sys=True)
