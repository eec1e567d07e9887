"""The report as one HTML file that needs nothing beside it: no script, no link to elsewhere, pictures within."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gif_jax.evaluation.report.hard_pairs import HardPairs, Pair, jpeg
from gif_jax.evaluation.report.tables import Table, as_html

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 68rem; color: #1c2126; background: #fff;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.35rem; margin: 3.2rem 0 .8rem; padding-top: .9rem; border-top: 2px solid #1c2126;
  overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 1.8rem 0 .5rem; overflow-wrap: anywhere; }
a { color: #00568c; text-decoration: none; }
a:hover { text-decoration: underline; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .7rem 1.5rem; margin: 0 0 1.2rem;
  padding: 1rem 1.2rem; background: #f4f6f8; border-radius: 8px; }
dt { font-size: .75rem; color: #5b6670; }
dd { margin: 0; overflow-wrap: anywhere; }
nav { margin: 0 0 1rem; }
nav a { display: inline-block; margin: 0 .4rem .4rem 0; padding: .15rem .7rem; border: 1px solid #c9d1d8;
  border-radius: 1rem; overflow-wrap: anywhere; }
.note { color: #5b6670; font-size: .85rem; margin: .35rem 0; max-width: 54rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .3rem 0 .6rem; }
th, td { padding: .35rem .8rem; text-align: right; vertical-align: top; white-space: nowrap; }
th { font-size: .8rem; color: #5b6670; font-weight: 600; border-bottom: 1.5px solid #1c2126; vertical-align: bottom; }
td { border-bottom: 1px solid #e3e8ec; }
th.label, td.label { text-align: left; padding-left: 0; }
td.label { white-space: normal; min-width: 4rem; max-width: 20rem; overflow-wrap: break-word; }
td small { display: block; color: #6b7680; font-size: .75rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 1.2rem; margin: 1.2rem 0; }
.plots figure { max-width: 34rem; }
figure { margin: 0; }
figure img { width: 100%; display: block; }
figcaption { font-size: .8rem; color: #5b6670; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.4rem, 1fr)); gap: .7rem; }
.pair { padding: 4px; border: 2px solid #e3e8ec; border-radius: 6px; }
.pair img { border-radius: 3px; }
.pair figcaption { padding: .2rem .1rem 0; font-variant-numeric: tabular-nums; line-height: 1.25; }
.pair span { display: block; font-size: .7rem; overflow-wrap: anywhere; }
.pair b { color: #1c2126; }
.wrong { border-color: #b00020; }
.wrong b { color: #b00020; }
@media (max-width: 40rem) { .plots { grid-template-columns: 1fr; } }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  h2, h3 { break-after: avoid; }
  table, figure, .pair, dl { break-inside: avoid; }
  .plots { grid-template-columns: 1fr 1fr; }
  .pairs { grid-template-columns: repeat(6, 1fr); }
  .wide { overflow: visible; }
  table { font-size: 8pt; }
  th, td { padding: .2rem .4rem; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


class Plot(NamedTuple):
  """A plot on disk and what it shows."""

  title: str
  path: Path


class Section(NamedTuple):
  """What the report says of one benchmark.

  anchor: what links to it name; sheet: the hardest pairs drawn as one picture, which the page does not need.
  """

  title: str
  anchor: str
  tables: list[Table]
  plots: list[Plot]
  pairs: HardPairs | None = None
  sheet: Path | None = None

  def files(self) -> list[Path]:
    """What was drawn for it."""
    return [plot.path for plot in self.plots] + ([self.sheet] if self.sheet else [])


def webpage(title: str, units: str, lines: Sequence[tuple[str, str]], sections: Sequence[Section]) -> str:
  """All of the page. lines: (what, text) about the model; units: how metrics are to be read; every text is escaped."""
  about = ''.join(f'<div><dt>{html.escape(key)}</dt><dd>{html.escape(value)}</dd></div>\n' for key, value in lines)
  links = ''.join(f'<a href="#{section.anchor}">{html.escape(section.title)}</a>\n' for section in sections)
  about = f'<dl>\n{about}</dl>\n' if about else ''
  return (
    f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; style-src '
    '\'unsafe-inline\'">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f'<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{html.escape(title)}</h1>\n'
    f'{about}<nav aria-label="Contents">\n{links}</nav>\n<p class="note">{html.escape(units)}</p>\n'
    f'{"".join(map(_section, sections))}</body>\n</html>\n'
  )


def _section(section: Section) -> str:
  tables = ''.join(f'<h3>{html.escape(table.title)}</h3>\n{as_html(table)}' for table in section.tables)
  plots = ''.join(map(_plot, section.plots))
  plots = f'<div class="plots">\n{plots}</div>\n' if plots else ''
  pairs = ''.join(_pairs(section.pairs, same) for same in (True, False)) if section.pairs else ''
  return f'<section id="{section.anchor}">\n<h2>{html.escape(section.title)}</h2>\n{tables}{plots}{pairs}</section>\n'


def _plot(plot: Plot) -> str:
  return _figure('', _picture('png', plot.path.read_bytes(), plot.title), html.escape(plot.title))


def _pairs(pairs: HardPairs, same: bool) -> str:
  if not pairs.of(same):
    return ''
  shown = ''.join(map(_pair, pairs.of(same)))
  return f'<h3>{html.escape(pairs.title(same))}</h3>\n<div class="pairs">\n{shown}</div>\n'


def _pair(pair: Pair) -> str:
  picture = '' if pair.picture is None else _picture('jpeg', jpeg(pair.picture), ' and '.join(pair.names))
  names = ''.join(f'<span>{html.escape(name)}</span>' for name in pair.names)
  caption = f'<b>{html.escape(pair.caption())}</b> {names}'
  return _figure('pair wrong' if pair.wrong else 'pair', picture, caption)


def _figure(kind: str, picture: str, caption: str) -> str:
  kind = f' class="{kind}"' if kind else ''
  return f'<figure{kind}>{picture}<figcaption>{caption}</figcaption></figure>\n'


def _picture(kind: str, content: bytes, says: str) -> str:
  data = base64.b64encode(content).decode()
  return f'<img src="data:image/{kind};base64,{data}" alt="{html.escape(says)}">'
