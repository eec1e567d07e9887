"""Programs that XLA compiled, kept for all tests of this machine and for those of another day.

Each test process has a folder of its own, where JAX reads and writes: files that another process is writing, or was
killed over, must not be read. `exchange` passes complete files on to the folder of the machine and takes what others
passed on. An empty or missing folder costs time and nothing else; old files are removed.
"""

import hashlib
import os
import platform
import shutil
import time
import zlib
from importlib import import_module
from pathlib import Path

import jax

_DAYS = 14
_ZSTD = b'\x28\xb5\x2f\xfd'


def machine_folder() -> Path:
  """The folder for this machine's programs: what runs on one processor need not run on another."""
  home = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
  processor = hashlib.sha256(_processor().encode()).hexdigest()[:16]
  return home / 'gif_jax' / 'compiled_for_tests' / f'jax-{jax.__version__}-{processor}'


def _processor() -> str:
  """Name and features of the processor, as far as the system tells them."""
  told = [platform.machine(), platform.processor()]
  cpuinfo = Path('/proc/cpuinfo')
  if cpuinfo.exists():
    first = cpuinfo.read_text().split('\n\n')[0].splitlines()
    told += [line for line in first if line.startswith(('model name', 'flags', 'Features', 'CPU '))]
  return '\n'.join(told)


class Compiled:
  """JAX's folder of a test process, `own`, and that of the machine, `shared`."""

  def __init__(self, own: Path, shared: Path):
    self.own, self.shared = own, shared
    self.known: set[str] = set()
    shared.mkdir(parents=True, exist_ok=True, mode=0o700)  # JAX runs what lies there
    for path in shared.iterdir():
      if time.time() - path.stat().st_mtime > _DAYS * 86400:
        path.unlink(missing_ok=True)

  def settings(self) -> dict[str, str | int]:
    """Settings of JAX, by which it keeps everything in our folder."""
    return {
      'jax_compilation_cache_dir': str(self.own),
      'jax_persistent_cache_min_compile_time_secs': 0,
      'jax_persistent_cache_min_entry_size_bytes': -1,
      # These would lie in a folder whose name, `own`, becomes a part of every program's key: nobody could share any.
      'jax_persistent_cache_enable_xla_caches': 'none',
    }

  def exchange(self) -> None:
    """Passes on what this process compiled, and takes what others did."""
    names = set(os.listdir(self.own))
    for name in names - self.known:
      if not name.startswith('.') and _complete(self.own / name):
        _copy(self.own / name, self.shared / name)
    for name in set(os.listdir(self.shared)) - names:
      if not name.startswith('.'):
        _copy(self.shared / name, self.own / name)
    self.known = set(os.listdir(self.own))


def _complete(path: Path) -> bool:
  """Whether an entry was written to its end. JAX packs them with zstd where Python has it, otherwise with zlib."""
  packed = path.read_bytes()
  try:
    (_zstd() if packed.startswith(_ZSTD) else zlib).decompress(packed)
  except Exception:  # each library has errors of its own
    return False
  return True


def _zstd():
  try:
    return import_module('compression.zstd')
  except ImportError:
    return import_module('zstandard')


def _copy(source: Path, target: Path) -> None:
  """Links a file, or copies it where folders are on different disks; `target` is complete or absent."""
  try:
    os.link(source, target)
  except FileExistsError:
    pass
  except FileNotFoundError:  # removed in the meantime, as old
    pass
  except OSError:
    part = target.with_name(f'.{os.getpid()}-{target.name}')
    shutil.copyfile(source, part)
    os.replace(part, target)
