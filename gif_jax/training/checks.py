"""What cannot work together in a run: table, people and embedding size; batch and devices."""

import jax
from ml_collections import ConfigDict

from gif_jax.codes.table import CodeTable, TableError
from gif_jax.core.errors import ConfigError
from gif_jax.data.sets.base import FaceSets


def check_table(table: CodeTable, config: ConfigDict, faces: FaceSets) -> None:
  """Raises TableError if the table was made for other people, or for another embedding size."""
  cure = 'Make one for this data: python -m gif_jax tokenize with the same --config, or use another --workdir.'
  if table.extends:
    cure = 'Give the people of the table it extends in their order, then the newcomers in theirs (README.md).'
  if table.m != faces.m:
    raise TableError(f'{table.path}: the table holds m={table.m} identities, the data {faces.m}. {cure}')
  made_for = table.label_space
  if made_for and made_for != faces.label_space:
    raise TableError(f'{table.path}: the table was made for "{made_for}", the data is "{faces.label_space}". {cure}')
  if table.d != config.model.d:
    raise TableError(f'{table.path}: code vectors have d={table.d}, config.model.d={config.model.d}. {cure}')


def check_divides(config: ConfigDict) -> None:
  """Raises ConfigError where a batch cannot be split over its parts, the devices and the processes."""
  devices, parts = jax.device_count(), config.train.accumulate
  if devices % config.train.fsdp:
    raise ConfigError(f'config.train.fsdp={config.train.fsdp} does not divide the {devices} devices; give a divisor.')
  for divisor, what in ((parts * devices, f'{devices} devices'), (jax.process_count(), 'processes')):
    if config.train.batch_size % divisor:
      accumulated = f' times config.train.accumulate={parts}' if divisor != jax.process_count() and parts > 1 else ''
      raise ConfigError(
        f'config.train.batch_size={config.train.batch_size} cannot be split over {what}{accumulated}; '
        f'choose a multiple of {divisor}.'
      )
