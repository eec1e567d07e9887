"""Machines that programs are compiled for: NAME:SHAPE -> devices, what each can do, what its compiler needs."""

import re
from collections.abc import Mapping
from importlib import metadata
from typing import NamedTuple

from packaging.requirements import Requirement

from gif_jax.core.allowed import did_you_mean
from gif_jax.core.errors import ConfigError


class Chip(NamedTuple):
  """A device, by its data sheet.

  memory: bytes; flops: of bfloat16 matrix products a second, dense; bandwidth: bytes of memory a second; links: bytes a
  second that it sends to others, all links together; between: the same to other hosts, 0 where that is no slower.
  """

  memory: float
  flops: float
  bandwidth: float
  links: float
  between: float = 0.0


_GB, _GIB = 1e9, 2.0**30
GPUS = {
  'h200': Chip(141 * _GB, 989e12, 4.8e12, 450 * _GB, 50 * _GB),
  'h100': Chip(80 * _GIB, 989e12, 3.35e12, 450 * _GB, 50 * _GB),
  'a100': Chip(80 * _GIB, 312e12, 2.04e12, 300 * _GB, 25 * _GB),
}
TPUS = {
  'v4': Chip(32 * _GIB, 275e12, 1.228e12, 300 * _GB),
  'v5e': Chip(16 * _GIB, 197e12, 0.819e12, 200 * _GB),
  'v5p': Chip(95 * _GIB, 459e12, 2.765e12, 600 * _GB),
  'v6e': Chip(32 * _GIB, 918e12, 1.64e12, 448 * _GB),
}
_NAMES = (*GPUS, *TPUS, 'cpu')
# Processors, shared memory (bytes a processor, most a block), level-2 cache in bytes, clock in GHz, compute capability.
_CUDA = {
  'h200': ('NVIDIA H200', 132, 233472, 232448, 52428800, 1.98, 9),
  'h100': ('NVIDIA H100 80GB HBM3', 132, 233472, 232448, 52428800, 1.98, 9),
  'a100': ('NVIDIA A100-SXM4-80GB', 108, 167936, 166912, 41943040, 1.41, 8),
}


class Machine(NamedTuple):
  """name: as asked for; chip: None for this machine's processors; shape: GPUs of a host and hosts, or TPUs each way."""

  name: str
  kind: str  # 'gpu', 'tpu', 'cpu'
  chip: Chip | None
  shape: tuple[int, ...]

  @property
  def model(self) -> str:
    """h200 of h200:8."""
    return self.name.partition(':')[0]

  @property
  def across(self) -> float:
    """Bytes a second of a device to others, as slow as the slowest link that all must use."""
    assert self.chip
    return self.chip.between if self.chip.between and len(self.shape) > 1 and self.shape[1] > 1 else self.chip.links


def machine(name: str) -> Machine:
  """The machine NAME:SHAPE. Raises ConfigError where there is none."""
  model, _, text = name.partition(':')
  if model not in _NAMES:
    raise ConfigError(
      f'--topology={name}: {model or "nothing"} is no machine.{did_you_mean(model, _NAMES)} Give one of '
      f'{", ".join(_NAMES)}, and how many: h200:8, h100:8x4 (GPUs of a host x hosts), v5e:16x16, v5p:4x4x8, cpu:8.'
    )
  kind = 'gpu' if model in GPUS else 'tpu' if model in TPUS else 'cpu'
  shape = tuple(map(int, text.split('x'))) if re.fullmatch(r'[1-9]\d{0,4}(x[1-9]\d{0,4}){0,2}', text) else ()
  axes = {'gpu': (1, 2), 'cpu': (1,), 'tpu': (3,) if model in ('v4', 'v5p') else (2,)}[kind]
  if len(shape) not in axes:
    example = {'gpu': '8, or 8x4: GPUs of a host x hosts', 'cpu': '8', 'tpu': '4x4x8' if axes == (3,) else '16x16'}
    raise ConfigError(
      f'--topology={name}: {text or "nothing"} is no shape of {model}; give one as {model}:{example[kind]}.'
    )
  return Machine(name, kind, (GPUS | TPUS).get(model), shape)


def environment(machine: Machine) -> dict[str, str]:
  """Variables of a process that compiles for it, and has no accelerator itself."""
  common = {'JAX_PLATFORMS': 'cpu', 'TF_CPP_MIN_LOG_LEVEL': '2'}
  if machine.kind == 'gpu':
    return common | {'XLA_FLAGS': '--xla_gpu_autotune_level=0'}  # which measures on the device that is not there
  if machine.kind == 'tpu':  # not to ask a cloud's metadata server; several plans at a time
    return common | {'TPU_SKIP_MDS_QUERY': '1', 'ALLOW_MULTIPLE_LIBTPU_LOAD': '1'}
  return common | {'JAX_NUM_CPU_DEVICES': str(machine.shape[0])}


def topology(machine: Machine) -> Mapping[str, str]:
  """Arguments of jax.experimental.topologies.get_topology_desc."""
  if machine.kind == 'tpu':
    return {'platform': 'tpu', 'topology_name': machine.name}
  name, cores, shared, most, cache, clock, major = _CUDA[machine.model]
  hosts = machine.shape[1] if len(machine.shape) > 1 else 1
  assert machine.chip
  target = f"""
    gpu_device_info {{
      threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
      shared_memory_per_core: {shared} shared_memory_per_block_optin: {most}
      threads_per_core_limit: 2048 core_count: {cores} fpus_per_core: {128 if major > 8 else 64}
      block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
      registers_per_core_limit: 65536 registers_per_block_limit: 65536
      memory_bandwidth: {machine.chip.bandwidth:.0f} l2_cache_size: {cache} clock_rate_ghz: {clock}
      device_memory_size: {machine.chip.memory:.0f} cuda_compute_capability {{ major: {major} minor: 0 }}
    }}
    platform_name: "CUDA" device_description_str: "{name}"
    dnn_version_info {{ major: 9 minor: 8 }} runtime_version {{ major: 12 minor: 9 }}"""
  shape = f'1x{hosts}x{machine.shape[0]}'  # slices x hosts x GPUs of a host
  return {'platform': 'cuda', 'topology_name': name, 'target_config': target, 'topology': shape}


def check_installed(machine: Machine) -> None:
  """Raises ConfigError where the compiler for it is missing, or is of another version than jax."""
  if machine.kind == 'gpu':
    _check(Requirement(f'jax-cuda12-plugin=={metadata.version("jaxlib")}'), 'plan-gpu', machine)
    _check(Requirement('nvidia-cuda-nvcc-cu12'), 'plan-gpu', machine)
  elif machine.kind == 'tpu':
    needs = [Requirement(need) for need in metadata.requires('jax') or []]
    _check(next((need for need in needs if need.name == 'libtpu'), Requirement('libtpu')), 'plan-tpu', machine)


def _check(need: Requirement, extra: str, machine: Machine) -> None:
  cure = f"pip install 'gif-jax[{extra}]'"
  try:
    installed = metadata.version(need.name)
  except metadata.PackageNotFoundError:
    raise ConfigError(f'--topology={machine.name} needs {need.name}, which is not installed: {cure}.') from None
  if installed not in need.specifier:
    raise ConfigError(
      f'{need.name} {installed} is installed, jax {metadata.version("jax")} needs {need.name}{need.specifier}: {cure}.'
    )
