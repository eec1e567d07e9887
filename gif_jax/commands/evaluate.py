"""Measures a network: python -m gif_jax evaluate --workdir=runs/ms1mv3_r50 --benchmarks=lfw.bin,IJBC,tinyface

A benchmark is NAME.bin (LFW, CFP-FP, AgeDB-30, RFW ...), the folder of IJB-B, IJB-C or TinyFace, or any set of known
people, all of whose pairs are compared, without those the run was trained on. Tables, curves and hardest pairs go to
WORKDIR/evaluation, thresholds to WORKDIR/thresholds.json. Embeddings made elsewhere: --embeddings=FILE.npy,... instead
of --workdir, one per benchmark.
"""

from typing import Any

from absl import flags

from gif_jax.commands.flags import define_processes
from gif_jax.core import interrupts


def define_flags() -> None:
  flags.DEFINE_string('benchmarks', None, 'What to measure on: .bin files, folders, tfds:NAME; commas between.')
  flags.DEFINE_string('workdir', '', 'The run whose network is measured.')
  flags.DEFINE_integer('step', 0, 'Which of its checkpoints; 0: the newest.', lower_bound=0)
  flags.DEFINE_string('embeddings', '', 'Instead of --workdir: .npy files, float [n, d], one for each benchmark.')
  flags.DEFINE_string('output', '', 'Folder for the report; default: WORKDIR/evaluation.')
  flags.DEFINE_bool('flip', True, 'Embed the mirror image, too, and add the two, as the field does.')
  flags.DEFINE_integer('replicates', 1000, 'Of the bootstrap behind the intervals; 0: no intervals.', lower_bound=0)
  flags.DEFINE_integer('batch_size', 200, 'Images embedded at a time.', lower_bound=1)
  flags.DEFINE_bool('check_colour', True, 'Stop where red and blue of a benchmark look swapped.')
  flags.mark_flags_as_required(['benchmarks'])
  define_processes()


def main(_: list[str]) -> None:
  with interrupts.held():
    from gif_jax.core.distributed import processes
    from gif_jax.evaluation.evaluate import Settings, evaluate, report_folder
    from gif_jax.evaluation.report.write import terminal_text

  given: dict[str, Any] = {name: flags.FLAGS[name].value for name in Settings._fields}
  settings = Settings(**given)
  with processes.together():
    processes.check_same({'flags': settings._asdict()})
    results, about = evaluate(settings)
    if processes.first():
      print(terminal_text(results, about))
      print(f'Report: {report_folder(settings) / "evaluation.html"}')
