"""Memory, arithmetic and traffic of a training on a machine that is not there: compiled for it, on this one.

gif-jax plan --config=configs/wf42m.py:r100 --topology=v5e:16x16

People are counted by config.data.identities. TPUs need `pip install 'gif-jax[plan-tpu]'`, GPUs 'gif-jax[plan-gpu]'.
"""

from pathlib import Path

from absl import flags

from gif_jax.commands.flags import define_config, read_config
from gif_jax.core import interrupts


def define_flags() -> None:
  define_config('The experiment, a file in configs/.')
  flags.DEFINE_string('topology', None, 'h200:8, h100:8x4 (GPUs of a host x hosts), v5e:16x16, v5p:4x4x8, cpu:8, ...')
  flags.DEFINE_bool('largest_batch', False, 'Compile other batches, too, until the largest that fits is known.')
  flags.DEFINE_string('json', '', 'A file for the numbers.')
  flags.mark_flag_as_required('config')
  flags.mark_flag_as_required('topology')


def main(_: list[str]) -> None:
  with interrupts.held():
    from gif_jax.core.storage.files import make_writable, write_json
    from gif_jax.planning.plan import make_plan
    from gif_jax.planning.report import text
    from gif_jax.validation import validate

  FLAGS = flags.FLAGS
  config = read_config()
  validate(config)
  if FLAGS.json:
    make_writable('json', Path(FLAGS.json).parent)
  plan = make_plan(config, FLAGS.topology, FLAGS.largest_batch)
  if FLAGS.json:
    write_json(Path(FLAGS.json), plan)
  print(text(plan))
