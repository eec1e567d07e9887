"""Every form of the method, its controls and the baselines on the quickstart's data and budget, over several seeds.

python -m benchmarks.forms --output=runs/forms

A seed sets the initial weights, the order of the data, the augmentation and the clustering; the people are the same for
all. Runs that are finished are not run again, and one that was stopped continues. Writes forms.md, forms.json and
forms.png. Several processes may share the work: --forms names what each one runs.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from configs import quickstart, quickstart_joint, quickstart_published, quickstart_softmax
from gif_jax import tokenize
from gif_jax.command_line import quiet_libraries
from gif_jax.data.sources import open_faces
from gif_jax.training.loop import train
from gif_jax.training.softmax import Identities

# Name -> the experiment, and what a control changes of it.
FORMS = {
  'published': (quickstart_published, {}),
  'fixed': (quickstart, {}),
  'fixed, random codes': (quickstart, {'tokenizer.codes': 'random'}),
  'in-batch softmax alone': (quickstart_joint, {'loss.digits': 0.0, 'loss.gamma': 0.0}),
  'joint without digits': (quickstart_joint, {'loss.digits': 0.0}),
  'joint, random codes': (quickstart_joint, {'tokenizer.codes': 'random'}),
  'joint, full weight of digits': (quickstart_joint, {'loss.digits': 1.0}),
  'joint': (quickstart_joint, {}),
  'ArcFace': (quickstart_softmax, {}),
  'CosFace': (quickstart_softmax, {'softmax.margin_type': 'cosface'}),
  'AdaFace': (quickstart_softmax, {'softmax.margin_type': 'adaface'}),
  'Partial FC 0.3': (quickstart_softmax, {'softmax.sample_rate': 0.3}),
}
FARS = ('1e-1', '1e-2', '1e-3', '1e-4')
COLUMNS = {
  'verification': 'verification_accuracy',
  **{f'TAR@{far}': f'tar@far={far}' for far in FARS[1:]},
  'decoded top 1': 'decode_top1',
  'top 5': 'decode_top5',
  'z.h top 1': 'vector_top1',
  'top 5 ': 'vector_top5',
}


def _config(form, seed):
  experiment, changes = FORMS[form]
  config = experiment.get_config()
  config.update_from_flattened_dict(changes | {'train.seed': seed, 'tokenizer.seed': seed})
  return config


def _summary(form, seed, output):
  """The summary of a run, which is run first unless it was before."""
  workdir = output / f'{form.replace(", ", "_").replace(" ", "_")}_{seed}'
  path = workdir / 'summary.json'
  if not path.exists():
    print(f'{form}, seed {seed}', flush=True)
    config = _config(form, seed)
    workdir.mkdir(parents=True, exist_ok=True)
    faces = open_faces(config, output / 'cache')
    people = Identities(faces.m, faces.label_space)
    table = people if config.softmax.enabled else tokenize.ensure_table(config, faces, workdir)
    if train(config, workdir, faces, table) is None:
      raise SystemExit('stopped; the same command continues from there')
  return json.loads(path.read_text())


def _cell(values):
  """Mean and sample standard deviation in percent."""
  values = 100 * np.array(values)
  if np.isnan(values).any():
    return ''
  return f'{values.mean():.1f}' + (f' ± {values.std(ddof=1):.1f}' if len(values) > 1 else '')


def _figure(summary, key):
  """A figure, NaN where a form has none; the nearest centre of a softmax stands beside the nearest code vector."""
  return summary.get(key, summary.get(key.replace('vector', 'centre'), np.nan))


def table_of(found: dict, columns: dict) -> str:
  """A Markdown table: found is form -> summaries, one per seed; columns is title -> key of a summary."""
  rows = ['| form | ' + ' | '.join(title.strip() for title in columns) + ' |', '| --- ' * (len(columns) + 1) + '|']
  for form, summaries in found.items():
    cells = [_cell([_figure(s, key) for s in summaries]) for key in columns.values()]
    rows.append(f'| {form} | ' + ' | '.join(cells) + ' |')
  return '\n'.join(rows) + '\n'


def _plot(found, path):
  figure = Figure(figsize=(7, 4.5), dpi=120, layout='constrained')
  axes = figure.add_subplot()
  for form, summaries in found.items():
    tar = 100 * np.array([[s[f'tar@far={far}'] for far in FARS] for s in summaries])
    spread = tar.std(0, ddof=1) if len(tar) > 1 else None
    axes.errorbar([float(far) for far in FARS], tar.mean(0), spread, label=form, marker='.', capsize=3)
  axes.set(xscale='log', xlabel='FAR', ylabel='TAR, %', title='Unseen people, mean and spread over seeds')
  axes.grid(color='0.88')
  axes.legend(frameon=False, fontsize='small')
  figure.savefig(path)


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--output', type=Path, default=Path('runs/forms'))
  parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
  parser.add_argument('--forms', nargs='+', choices=FORMS, default=list(FORMS))
  options = parser.parse_args()
  quiet_libraries()
  found = {form: [] for form in options.forms}
  for seed in options.seeds:
    for form in options.forms:
      found[form].append(_summary(form, seed, options.output))
  (options.output / 'forms.json').write_text(json.dumps(found, indent=2))
  (options.output / 'forms.md').write_text(table_of(found, COLUMNS))
  _plot(found, options.output / 'forms.png')
  print(table_of(found, COLUMNS))


if __name__ == '__main__':
  main()
