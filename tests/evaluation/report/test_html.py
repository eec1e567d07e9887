"""The report: one page that needs nothing else, Markdown with its pictures, strict JSON; plots of what there is."""

import base64
import errno
import io
import json
import math
import os
import re

import numpy as np
import pytest
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font
from PIL import Image

from gif_jax.core import texts
from gif_jax.core.errors import DiskError
from gif_jax.evaluation.report import hard_pairs as hard_pairs_module
from gif_jax.evaluation.report import plots, tables
from gif_jax.evaluation.report.hard_pairs import draw_pairs, hard_pairs
from gif_jax.evaluation.report.write import terminal_text, write_report
from gif_jax.evaluation.result import Curve, Histogram, Result
from tests.helpers import results
from tests.helpers.pages import ODD, Page


@pytest.fixture(scope='module')
def found():
  return results.everything()


@pytest.fixture(scope='module')
def images(found):
  return {name: results.Pictures() for name in ('lfw', 'cfp_fp', 'tinyface', 'mfr')} | {'ijbc': None}


@pytest.fixture(scope='module')
def report(found, images, tmp_path_factory):
  """(folder, files) of a report of everything."""
  folder = tmp_path_factory.mktemp('report') / 'new'
  return folder, write_report(folder, found, images, results.ABOUT)


@pytest.fixture(scope='module')
def page(report):
  return Page((report[0] / 'evaluation.html').read_text())


@pytest.fixture(scope='module', autouse=True)
def coarse():
  """Plots of few pixels, for speed."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr('gif_jax.core.plots._DPI', 40)
    yield


def _no_constants(name):
  raise AssertionError(f'{name} is no JSON')


@pytest.mark.slow
def test_files_are_those_named_and_whole(report):
  folder, files = report
  assert sorted(files) == sorted(folder.iterdir()) and len(set(files)) == len(files)
  assert [path.name for path in files[:3]] == ['evaluation.html', 'evaluation.md', 'evaluation.json']
  for path in files[3:]:
    assert np.asarray(Image.open(path)).std() > 0


@pytest.mark.slow
def test_pictures_are_asked_for_once(report, images):
  assert [one.calls for one in images.values() if one] == [1] * 4


@pytest.mark.slow
def test_the_page_needs_nothing_beside_it(report, page):
  assert not {'script', 'link', 'iframe', 'object', 'base'} & set(page.tags)
  assert all(source.startswith('data:image/') for source in page.pictures)
  assert all(link[0] == '#' and link[1:] in page.ids for link in page.links) and len(set(page.ids)) == len(page.ids)
  assert not [name for name, _ in page.attributes if name.startswith('on') or name in ('style', 'srcset')]
  text = (report[0] / 'evaluation.html').read_text()
  assert not re.search(r'https?:|@import|url\(', text)
  assert len(text) < 2_000_000


@pytest.mark.slow
def test_contents_lead_to_every_benchmark(page):
  assert page.links == ['#overview', '#lfw', '#cfp_fp', '#agedb_30', '#ijbc', '#tinyface', '#mfr']


def _tables(found):
  shown = tables.overview(found)
  for protocols in tables.grouped(found).values():
    for modes in protocols.values():
      shown += [table for table in (tables.protocol_table(modes), tables.threshold_table(modes)) if table]
  return shown


@pytest.mark.slow
def test_every_table_is_on_the_page_and_in_the_markdown(found, report, page):
  text = (report[0] / 'evaluation.md').read_text()
  wanted = _tables(found)
  assert len(page.tables) == len(wanted) == 14
  for table, shown in zip(wanted, page.tables):
    assert shown == [list(table.columns), *([' '.join(filter(None, cell)) for cell in row] for row in table.rows)]
    assert tables.as_markdown(table) in text
  for note in {note for table in wanted for note in table.notes}:
    assert note in page.text


@pytest.mark.slow
def test_the_model_is_described(page):
  for key, value in results.ABOUT.items():
    assert key in page.text and ('yes' if value is True else str(value)) in page.text


@pytest.mark.slow
def test_pictures_of_the_markdown_are_in_the_folder(report):
  folder, files = report
  named = re.findall(r'\]\(([^)]*)\)', (folder / 'evaluation.md').read_text())
  assert sorted(named) == sorted(path.name for path in files[3:])


@pytest.mark.slow
def test_json_is_strict_and_complete(found, report):
  content = json.loads((report[0] / 'evaluation.json').read_text(), parse_constant=_no_constants)
  assert content['about'] == results.ABOUT and len(content['results']) == len(found)
  for result, written in zip(found, content['results']):
    assert written.keys() == set(Result._fields)
    for key in ('benchmark', 'protocol', 'mode', 'rule', 'counts', 'metrics', 'thresholds'):
      assert written[key] == getattr(result, key)
    assert written['intervals'] == {key: list(value) for key, value in result.intervals.items()}
    if result.hardest:
      np.testing.assert_array_equal(written['hardest']['cosine'], result.hardest.cosine)
    if result.curve:
      assert len(written['curve']['far']) <= 200
      points = set(zip(result.curve.far.tolist(), result.curve.tar.tolist()))
      assert set(zip(*(written['curve'][key] for key in ('far', 'tar')))) <= points


@pytest.mark.slow
def test_hardest_pairs_show_their_images_and_which_are_wrong(found, page):
  jpegs = [source for source in page.pictures if source.startswith('data:image/jpeg')]
  shown = [one for one in found if one.hardest and one.benchmark != 'agedb_30']  # agedb_30 came without pictures
  assert len(jpegs) == sum(len(one.hardest.left) for one in shown)
  first = np.asarray(Image.open(io.BytesIO(base64.b64decode(jpegs[0].split(',')[1]))))
  expected = results.Pictures()[np.array([found[0].hardest.left[0], found[0].hardest.right[0]])]
  assert first.shape == (32, 68, 3)
  assert np.abs(first[:, :32].mean((0, 1)) - expected[0].mean((0, 1))).max() < 6
  assert np.abs(first[:, 36:].mean((0, 1)) - expected[1].mean((0, 1))).max() < 6
  wrong = 0
  for one in found:
    if one.hardest and one.thresholds:
      threshold = one.thresholds[tables.quoted_far(one)]
      wrong += np.count_nonzero((one.hardest.cosine >= threshold) != one.hardest.same)
  assert page.classes.count('pair wrong') == wrong > 0
  assert page.classes.count('pair') + wrong == sum(len(one.hardest.left) for one in found if one.hardest)
  assert f'{found[0].hardest.cosine[0]:.3f}' in page.text


@pytest.mark.slow
def test_a_pair_is_wrong_on_the_wrong_side_of_the_threshold(found):
  cosine = np.array([0.2, 0.3, 0.31, 0.3, 0.29])
  hard = found[0].hardest._replace(
    left=np.arange(5), right=np.arange(5) + 5, cosine=cosine, same=np.array([True, True, True, False, False])
  )
  pairs = hard_pairs([found[0]._replace(hardest=hard, thresholds={'1e-3': 0.3})], None)
  assert [pair.wrong for pair in pairs.pairs] == [True, False, False, True, False]
  assert '1 of these 3 are rejected at FAR=1e-3' in pairs.title(True)
  assert '1 of these 2 are accepted at FAR=1e-3' in pairs.title(False)
  none = hard_pairs([found[0]._replace(hardest=hard, thresholds={})], None)
  assert {pair.wrong for pair in none.pairs} == {None} and 'FAR' not in none.title(True)


@pytest.mark.slow
def test_large_pictures_become_small(found, tmp_path):
  pairs = hard_pairs(found[:1], results.Pictures(224))
  assert pairs.pairs[0].picture.shape == (112, 228, 3)


@pytest.mark.slow
def test_hardest_pairs_are_known_by_the_names_of_their_images(found, report, page):
  text, (pairs, *_) = (report[0] / 'evaluation.md').read_text(), found
  for one in found:
    if one.hardest:
      for left, right in zip(one.hardest.left.tolist(), one.hardest.right.tolist()):
        names = [f'image {i}' if one.benchmark == 'agedb_30' else f'someone/{i}.jpg' for i in (left, right)]
        assert f'- {" and ".join(names)}: ' in text.replace('\\', '') and ''.join(names) in page.text
  assert any(f'someone/{pairs.hardest.left[0]}.jpg' in value for key, value in page.attributes if key == 'alt')


@pytest.mark.slow
def test_names_below_pictures_are_drawn_whole_or_their_ends(found, tmp_path, monkeypatch):
  drawn = []
  monkeypatch.setattr(hard_pairs_module, 'save', lambda figure, path: drawn.append(figure))

  class Named(results.Pictures):
    def name(self, index):
      return f'{"x" * 50}/$J\u00fcrgen$\n{index}.jpg' if index % 2 else '\udcff\u4e2d'

  assert draw_pairs(hard_pairs(found[:1], Named()), tmp_path / 'pairs.jpg')
  _, names = drawn[0].get_axes()[0].texts  # pair i of the set is images 2i and 2i + 1
  left, right = names.get_text().split('\n')
  assert left == r'\udcff?' and right.startswith('...xx')
  assert right.endswith(f'xx/\\$J\u00fcrgen\\$ {found[0].hardest.right[0]}.jpg')
  assert len(right.replace('\\', '')) == 34


def test_what_plots_are_given_is_in_the_font_they_are_drawn_with():
  font = FT2Font(findfont('DejaVu Sans')).get_charmap()
  for code in range(0x2100):
    assert all(ord(letter) in font for letter in texts.for_plot(chr(code))), hex(code)
  assert texts.for_plot('Ju\u0308rgen M\u00fcller \u0416 \u4e2d') == 'J\u00fcrgen M\u00fcller \u0416 ?'


@pytest.mark.slow
def test_odd_names_are_text_everywhere(tmp_path):
  names, one = [ODD, '../../up', 'a/B', 'A_b', ''], results.pair_set(pairs=100)
  one = one._replace(hardest=type(one.hardest)(*(values[11:13] for values in one.hardest)))
  found = [one._replace(benchmark=name, rule=ODD) for name in names]
  found += [some._replace(benchmark=ODD, mode=ODD + some.mode) for some in results.templates(impostors=2000)]
  pictures = {name: results.Pictures() for name in names}
  pictures[ODD].name = lambda index: f'{ODD} {index}'
  files = write_report(tmp_path / 'report', found, pictures, {'name': ODD, ODD: ODD, 'where': tmp_path})
  assert list(tmp_path.iterdir()) == [tmp_path / 'report']
  assert sorted((tmp_path / 'report').iterdir()) == sorted(files)
  assert len({path.name.lower() for path in files}) == len(files)
  page = Page((tmp_path / 'report' / 'evaluation.html').read_text())
  assert page.tags.count('b') == 2 * len(names) and 'script' not in page.tags  # those of the cosines
  assert page.text.count(texts.one_line(ODD)) > 10 and len(page.links) == 6
  assert json.loads((tmp_path / 'report' / 'evaluation.json').read_text())['results'][0]['benchmark'] == ODD
  assert texts.one_line(ODD) in terminal_text(found, {'name': ODD})


def test_results_of_figures_alone_and_of_nothing(tmp_path):
  bare = Result('x', '1:1', '', '', {}, {'tar@far=1e-4': math.nan, 'eer': math.inf}, {'tar@far=1e-4': (math.nan, 1.0)})
  empty = bare._replace(benchmark='y', metrics={}, intervals={})
  odd = bare._replace(benchmark='z', protocol='new', thresholds={'1e-3': math.nan}, hardest=results.search().hardest)
  files = write_report(tmp_path, [bare, empty, odd], {}, {})
  assert [path.name for path in files] == ['evaluation.html', 'evaluation.md', 'evaluation.json']
  page = Page((tmp_path / 'evaluation.html').read_text())
  assert page.tables[1] == [['benchmark', 'TAR@FAR=1e-4', 'eer'], ['x', '-', '-']]
  left, right = odd.hardest.left[0], odd.hardest.right[0]
  assert f'- image {left} and image {right}: {odd.hardest.cosine[0]:.3f}\n' in (tmp_path / 'evaluation.md').read_text()
  written = json.loads((tmp_path / 'evaluation.json').read_text(), parse_constant=_no_constants)
  assert written['results'][0]['metrics'] == {'tar@far=1e-4': None, 'eer': None}
  assert write_report(tmp_path / 'none', [], {}, {})[0].stat().st_size > 1000


@pytest.mark.slow
def test_a_failed_write_leaves_the_old_report(found, tmp_path, monkeypatch):
  write_report(tmp_path, found[:1], {}, {'name': 'old'})
  before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

  def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  wanted = r'evaluation\.json cannot be written .*make room'
  with monkeypatch.context() as patch, pytest.raises(DiskError, match=wanted):
    patch.setattr('os.replace', full)
    write_report(tmp_path, found[1:2], {}, {'name': 'new'})
  assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.slow
def test_the_terminal_shows_all_figures_each_rule_once_and_ends_with_what_to_quote(found):
  text = terminal_text(found, results.ABOUT)
  for table in _tables(found):
    if 'thresholds' not in table.title:
      assert tables.as_text(table, notes=False) in text
  assert text.count(texts.one_line(found[0].rule)) == 1
  assert text.endswith(tables.as_text(tables.overview(found)[1]))


@pytest.mark.slow
def test_roc_begins_at_the_smallest_far_that_can_be_resolved(found, tmp_path, monkeypatch):
  drawn = []
  monkeypatch.setattr(plots, 'save', lambda figure, path: drawn.append(figure.axes[0]))
  assert plots.draw_roc(found[3:7], tmp_path / 'roc.png')
  axes = drawn[0]
  assert axes.get_xlim() == pytest.approx((1 / 20_000, 1)) and axes.get_xscale() == 'log'
  assert [text.get_text() for text in axes.get_legend().get_texts()] == ['N1D1', 'N0D1', 'N1D0', 'N0D0']
  far, tar = found[3].curve
  line = axes.lines[0]
  for rate in (1e-4, 1e-3, 1e-2):  # steps: what is accepted at the largest FAR not above the rate
    assert (
      line.get_ydata()[np.searchsorted(line.get_xdata(), rate, side='right') - 1]
      == tar[np.searchsorted(far, rate, side='right') - 1]
    )
  assert axes.get_ylim()[0] < min(line.get_ydata().min() for line in axes.lines)


@pytest.mark.slow
def test_a_curve_of_the_largest_scores_alone_is_not_drawn_on(found, tmp_path, monkeypatch):
  drawn = []
  monkeypatch.setattr(plots, 'save', lambda figure, path: drawn.append(figure.axes[0]))
  far, tar = found[3].curve
  assert plots.draw_roc([found[3]._replace(curve=Curve(far[far < 1e-2], tar[far < 1e-2]))], tmp_path / 'roc.png')
  assert drawn[0].get_xlim()[1] == drawn[0].lines[0].get_xdata()[-1] == far[far < 1e-2][-1]


@pytest.mark.slow
def test_det_axes_are_normal_deviates_with_percent(found, tmp_path, monkeypatch):
  from scipy.stats import norm

  drawn = []
  monkeypatch.setattr(plots, 'save', lambda figure, path: drawn.append(figure.axes[0]))
  assert plots.draw_det(found[3:7], tmp_path / 'det.png')
  axes = drawn[0]
  for ticks, labels in ((axes.get_xticks(), axes.get_xticklabels()), (axes.get_yticks(), axes.get_yticklabels())):
    np.testing.assert_allclose(norm.cdf(ticks) * 100, [float(label.get_text()) for label in labels])
  far, tar = found[3].curve
  np.testing.assert_allclose(norm.cdf(axes.lines[0].get_xdata()), far, atol=1e-12)
  np.testing.assert_allclose(norm.cdf(axes.lines[0].get_ydata()), 1 - tar, atol=1e-12)


@pytest.mark.slow
def test_densities_have_area_one(found):
  for result in found:
    if result.histogram:
      edges, *both = plots._coarse(result.histogram)
      assert [np.sum(density * np.diff(edges)) for density in both] == pytest.approx([1, 1])


@pytest.mark.slow
def test_what_cannot_be_drawn_leaves_no_file(found, tmp_path):
  perfect = found[0]._replace(curve=Curve(np.array([0.0, 0.5, 1]), np.ones(3)), histogram=None)
  assert plots.draw_roc([perfect], tmp_path / 'roc.png')
  assert not plots.draw_det([perfect], tmp_path / 'a.png') and not plots.draw_scores(perfect, tmp_path / 'a.png')
  no_far = found[0]._replace(curve=Curve(np.zeros(1), np.ones(1)))
  assert not plots.draw_roc([no_far], tmp_path / 'a.png') and not plots.draw_det([no_far], tmp_path / 'a.png')
  none = found[0]._replace(histogram=Histogram(np.linspace(-1, 1, 3), np.zeros(2, int), np.ones(2, int)))
  assert not plots.draw_scores(none, tmp_path / 'a.png') and not plots.draw_sets(found[:1], tmp_path / 'a.png')
  assert [path.name for path in tmp_path.iterdir()] == ['roc.png']
