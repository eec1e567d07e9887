"""The report of an evaluation: evaluation.json, evaluation.md with plots beside it, and evaluation.html, one file."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gif_jax.core.storage.files import write_json, write_text
from gif_jax.core.texts import markdown, one_line
from gif_jax.evaluation.report import plots as curves
from gif_jax.evaluation.report import tables
from gif_jax.evaluation.report.hard_pairs import HardPairs, draw_pairs, hard_pairs
from gif_jax.evaluation.report.html import Plot, Section, webpage
from gif_jax.evaluation.result import Result, thinned

_POINTS = 200  # of a curve in evaluation.json


def write_report(
  folder: str | Path, results: Iterable[Result], images: Mapping[str, Any], about: Mapping[str, Any]
) -> list[Path]:
  """Writes evaluation.json, evaluation.md, evaluation.html and the plots that the second refers to.

  Args:
    folder: where to; made where it is missing.
    results: of all benchmarks; the first of a benchmark and protocol is the one to quote.
    images: by the name of the benchmark, [rows] gives uint8 [k, s, s, 3] RGB, name(i) what people know image i by;
      those without pictures may be absent or None. Each is asked for pictures once.
    about: lines about the model by their titles: name, fingerprint, step ...; texts, numbers or booleans.

  Returns:
    The files written, evaluation.html first.
  """
  folder, results = Path(folder), list(results)
  write_json(
    folder / 'evaluation.json',
    {'about': {key: _said(value) for key, value in about.items()}, 'results': list(map(_for_json, results))},
  )
  groups = tables.grouped(results)
  names = _file_names(groups)
  sections = [_overview(folder, results)] + [
    _benchmark(folder, names[name], protocols, images.get(name))
    for name, protocols in tqdm(groups.items(), desc='report', unit='benchmark')
  ]
  write_text(folder / 'evaluation.md', _markdown(sections, about))
  write_text(folder / 'evaluation.html', webpage(_title(about), tables.UNITS, _lines(about), sections))
  texts = [folder / f'evaluation.{kind}' for kind in ('html', 'md', 'json')]
  return texts + [path for section in sections for path in section.files()]


def terminal_text(results: Iterable[Result], about: Mapping[str, Any]) -> str:
  """All tables as aligned plain text, each rule once, what is to be quoted last."""
  results = list(results)
  parts, told = ['\n'.join(f'{key}: {value}' for key, value in _lines(about)), tables.UNITS], set[str]()
  for protocols in tables.grouped(results).values():
    for modes in protocols.values():
      table = tables.protocol_table(modes)
      parts.append(tables.as_text(table._replace(notes=tuple(note for note in table.notes if note not in told))))
      told.update(table.notes)
  return '\n\n'.join(filter(None, [*parts, *map(tables.as_text, tables.overview(results))]))


def _overview(folder, results) -> Section:
  sets = [result for result in results if result.protocol == tables.FOLDS]
  plots = _plots([('sets.png', 'Accuracies of the .bin sets, with 95 % intervals', curves.draw_sets, sets)], folder)
  return Section('Overview', 'overview', tables.overview(results), plots)


def _benchmark(folder, name, protocols, images) -> Section:
  results = [result for modes in protocols.values() for result in modes]
  with_scores = next((result for result in results if result.histogram), results[0])
  plots = _plots(
    [
      (f'roc_{name}.png', 'ROC: genuine pairs accepted at each false accept rate', curves.draw_roc, results),
      (f'det_{name}.png', 'DET: errors of both kinds against each other', curves.draw_det, results),
      (f'scores_{name}.png', 'Cosines of both kinds of pairs, and thresholds', curves.draw_scores, with_scores),
    ],
    folder,
  )
  shown = [make(modes) for modes in protocols.values() for make in (tables.protocol_table, tables.threshold_table)]
  pairs, sheet = hard_pairs(results, images), folder / f'pairs_{name}.jpg'
  drawn = pairs is not None and draw_pairs(pairs, sheet)
  title = one_line(results[0].benchmark)
  return Section(title, name, [table for table in shown if table], plots, pairs, sheet if drawn else None)


def _plots(wanted, folder) -> list[Plot]:
  """Those of (file name, title, function, what it draws) with something to draw."""
  return [Plot(title, folder / name) for name, title, draw, what in wanted if draw(what, folder / name)]


def _file_names(names: Iterable[str]) -> dict[str, str]:
  """For each benchmark a part of file names that every system takes and no other benchmark has."""
  parts: dict[str, str] = {}
  for name in names:
    plain = re.sub(r'[^A-Za-z0-9-]+', '_', name).strip('_')[:60] or 'benchmark'
    taken = {other.lower() for other in parts.values()} | {'overview'}
    number = next(i for i in range(1, len(parts) + 3) if (f'{plain}-{i}' if i > 1 else plain).lower() not in taken)
    parts[name] = f'{plain}-{number}' if number > 1 else plain
  return parts


def _for_json(result: Result) -> Result:
  return result._replace(curve=thinned(*result.curve, _POINTS)) if result.curve else result


def _said(value):
  return value if value is None or isinstance(value, str | int | float) else str(value)


def _title(about):
  return f'Evaluation of {one_line(about["name"])}' if about.get('name') else 'Evaluation'


def _lines(about) -> list[tuple[str, str]]:
  """The lines about the model as text; those that say nothing are left out."""
  words = {True: 'yes', False: 'no'}
  return [
    (one_line(key), words[value] if isinstance(value, bool) else one_line(value))
    for key, value in about.items()
    if value is not None and value != ''
  ]


def _markdown(sections: Sequence[Section], about) -> str:
  lines = '\n'.join(f'- {markdown(key)}: {markdown(value)}' for key, value in _lines(about))
  parts = [f'# {markdown(_title(about))}', lines, tables.UNITS]
  for section in sections:
    parts.append(f'## {markdown(section.title)}')
    parts += [f'### {markdown(table.title)}\n\n{tables.as_markdown(table)}' for table in section.tables]
    parts += [f'![{plot.title}]({plot.path.name})' for plot in section.plots]
    parts += _pairs_in_markdown(section.pairs, section.sheet)
  return '\n\n'.join(filter(None, parts)) + '\n'


def _pairs_in_markdown(pairs: HardPairs | None, sheet: Path | None) -> list[str]:
  if pairs is None:
    return []
  lists = [
    f'{markdown(pairs.title(same))}:\n\n'
    + '\n'.join(f'- {" and ".join(map(markdown, pair.names))}: {pair.caption()}' for pair in pairs.of(same))
    for same in (True, False)
    if pairs.of(same)
  ]
  return ['### Hardest pairs', *([f'![The hardest pairs]({sheet.name})'] if sheet else []), *lists]
