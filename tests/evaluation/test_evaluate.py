"""The command that measures networks: from a checkpoint, from files, and everything that can be wrong with either."""

import json
import logging
import shutil

import numpy as np
import pytest
from scipy.io import savemat

from gif_jax.core.errors import ConfigError, DataError
from gif_jax.core.storage import resume
from gif_jax.data.formats.bin_pairs import read_pairs, write_pairs
from gif_jax.data.sets.open import open_faces
from gif_jax.data.sets.trained_on import KEPT, PEOPLE, PICTURES
from gif_jax.evaluation.evaluate import Settings, evaluate
from gif_jax.evaluation.registry import open_benchmark
from gif_jax.evaluation.report.thresholds import read_thresholds
from gif_jax.evaluation.report.write import terminal_text
from gif_jax.evaluation.result import EvaluationError
from gif_jax.models.checkpoint.reader import CheckpointError
from gif_jax.models.extraction import cache
from gif_jax.training import run as running
from tests.helpers import template_files, tiny
from tests.helpers.photographs import folder_config, names
from tests.helpers.pictures import encode
from tests.helpers.record_files import packed_faces, six_people
from tests.helpers.tinyface_files import read_lists_once

BENCHMARKS = ('six.bin', 'people', 'IJBC', 'tinyface')


def _write_ijbc(folder, faces):
  """1:1 and 1:N; templates 7 and 900 are of subject 1, 31 and 32 of subject 2, 4000 is of 3, who is in no gallery."""
  people = {7: 0, 900: 0, 31: 1, 32: 1, 4000: 2}
  pictures = [faces.train[np.array([4 * people[row[1]] + i % 4])][0] for i, row in enumerate(template_files.IMAGES)]
  template_files.write_set(folder, pictures=pictures, size=32)
  for part, rows in {'gallery_G1': ['7,1'], 'gallery_G2': ['31,2'], 'probe_mixed': ['900,1', '32,2', '4000,3']}.items():
    (folder / 'meta' / f'ijbc_1N_{part}.csv').write_text('\n'.join(['TEMPLATE_ID,SUBJECT_ID', *rows, '']))


def _write_tinyface(folder, faces):
  """Six people with a probe and two gallery images each, and distractors."""
  sets = {name: [] for name in ('Probe', 'Gallery_Match', 'Gallery_Distractor')}
  for i, image in enumerate(faces[:]):
    name = ('Probe', 'Gallery_Match', 'Gallery_Match', 'Gallery_Distractor')[i % 4]
    file = folder / 'Testing_Set' / name / f'{i // 4 + 1}_{i}.jpg'
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encode(image))
    sets[name].append(file.name)
  for name, variable in (('Probe', 'probe'), ('Gallery_Match', 'gallery')):
    cells = np.empty((len(sets[name]), 1), object)
    cells[:, 0] = sets[name]
    savemat(folder / 'Testing_Set' / f'{name.lower()}_img_ID_pairs.mat', {f'{variable}_set': cells})


@pytest.fixture(scope='module', autouse=True)
def lists():
  with pytest.MonkeyPatch.context() as patch:
    read_lists_once(patch)
    yield


@pytest.fixture(scope='module')
def run(tiny_faces, tmp_path_factory):
  """A run of two steps, beside it a verification set and people to compare."""
  folder = tmp_path_factory.mktemp('evaluate')
  six_people(folder / 'six.bin', tiny_faces.test)
  packed_faces(folder / 'people', tiny_faces.train, 6)
  _write_ijbc(folder / 'IJBC', tiny_faces)
  _write_tinyface(folder / 'tinyface', tiny_faces.test)
  config = tiny.get_config()
  config.train.steps, config.checkpoint.every_steps, config.checkpoint.keep = 2, 1, 2
  config.eval.targets = ','.join(str(folder / name) for name in BENCHMARKS)
  config.eval.every_steps = 1
  summary = running.run(config, folder / 'run')
  return folder, summary


@pytest.fixture(scope='module')
def trained(photographs, tiny_faces, tmp_path_factory):
  """A run of one step on photographs of 15 people with 5 kept apart, beside it benchmarks with some of its pictures."""
  folder = tmp_path_factory.mktemp('trained')
  config = folder_config(photographs, people=(2, 3))
  config.train.steps, config.eval.pairs = 1, 20
  config.eval.targets = f'{folder / "some.bin"},{photographs}'
  faces = open_faces(folder_config(photographs, people=(2, 3)), None)
  seen = [path.read_bytes() for name in names(faces, 'train')[:3] for path in sorted((photographs / name).iterdir())]
  _write_ijbc(folder / 'IJBC', tiny_faces)
  _write_tinyface(folder / 'tinyface', tiny_faces.test)
  (folder / 'IJBC' / 'loose_crop' / '7.png').write_bytes(seen[0])
  (folder / 'tinyface' / 'Testing_Set' / 'Gallery_Distractor' / 'x.png').write_bytes(seen[1])
  six_people(folder / 'six.bin', tiny_faces.test)
  images, same = read_pairs(folder / 'six.bin')
  write_pairs(folder / 'some.bin', [*seen[:5], *images[5:]], same)
  with pytest.MonkeyPatch.context() as patch:
    said = []
    patch.setattr(
      logging.getLogger('gif_jax.evaluation.overlap'), 'warning', lambda text, *args: said.append(text % args)
    )
    running.run(config, folder / 'run')
  return folder, faces, said


def _settings(run, **changes):
  benchmarks = ','.join(str(run[0] / name) for name in BENCHMARKS)
  return Settings(benchmarks, workdir=str(run[0] / 'run'), replicates=20, batch_size=16)._replace(**changes)


@pytest.fixture(scope='module')
def results(run):
  return evaluate(_settings(run))[0]


@pytest.mark.slow
def test_results_report_and_thresholds(run, results):
  folder = run[0] / 'run'
  modes = ('N1D1', 'N0D1', 'N1D0', 'N0D0')
  assert [(result.benchmark, result.protocol, result.mode) for result in results] == [
    ('six', '10 folds', ''),
    ('people', 'all pairs', ''),
    *(('ijbc', '1:1', mode) for mode in modes),
    *(('ijbc', '1:N', mode) for mode in modes),
    ('tinyface', 'search', ''),
  ]
  assert {'evaluation.json', 'evaluation.md', 'evaluation.html'} <= {
    path.name for path in (folder / 'evaluation').iterdir()
  }
  low, high = results[0].intervals['accuracy']
  assert 0 <= low <= results[0].metrics['accuracy'] <= high <= 1 and results[0].metrics['xnorm'] > 0
  assert set(json.loads((folder / 'thresholds.json').read_text())['benchmarks']) == {'six', 'people'}


@pytest.mark.slow
def test_images_are_known_by_their_files(run, results):
  folder = run[0]
  known = {name: open_benchmark(str(folder / name), 32).images.name for name in BENCHMARKS}
  assert known['six.bin'](17) == 'image 17' and known['people'](3) == 'image 3'
  assert [known['IJBC'](i) for i in (0, 9)] == ['5.png', '10.png']
  assert known['tinyface'](0) == 'Probe/1_0.jpg' and known['tinyface'](23) == 'Gallery_Distractor/6_23.jpg'
  page = (folder / 'run' / 'evaluation' / 'evaluation.html').read_text()
  hardest = {result.benchmark: result.hardest for result in results if result.hardest is not None}
  for name, benchmark in (('six', 'six.bin'), ('ijbc', 'IJBC'), ('tinyface', 'tinyface')):
    for rows in zip(hardest[name].left.tolist(), hardest[name].right.tolist()):
      assert ''.join(f'<span>{known[benchmark](row)}</span>' for row in rows) in page


@pytest.mark.slow
def test_a_run_says_of_itself_what_the_command_says_of_it(run, results):
  folder, summary = run
  rows = [json.loads(line) for line in (folder / 'run' / 'metrics.jsonl').read_text().splitlines()]
  measured = [result for result in results if result.metrics]  # five impostor pairs resolve no FAR of 1:1
  for result, (title, figures) in zip(measured, summary['targets'].items(), strict=True):
    assert figures == pytest.approx(result.metrics, abs=1e-6), title
    assert rows[-1][f'targets/{title}'] == next(iter(figures.values())), title
  assert {row['step'] for row in rows if 'targets/ijbc 1:N N0D1' in row} == {1, 2}


@pytest.mark.slow
def test_embeddings_are_made_once_for_a_network_and_its_data(run, monkeypatch):
  two = ','.join(str(run[0] / name) for name in ('six.bin', 'tinyface'))
  again, _ = evaluate(_settings(run, benchmarks=two))  # fills the cache where this test runs alone
  calls = []
  real = cache.extract
  monkeypatch.setattr(cache, 'extract', lambda *args, **kwargs: calls.append(args) or real(*args, **kwargs))
  assert [result.metrics for result in evaluate(_settings(run, benchmarks=two))[0]] == [r.metrics for r in again]
  assert not calls
  for changes in ({'flip': False}, {'step': 1}):
    evaluate(_settings(run, benchmarks=two, **changes))
    assert len(calls) == 2, changes
    calls.clear()
  other = run[0] / 'other'
  other.mkdir(exist_ok=True)
  images, same = read_pairs(run[0] / 'six.bin')
  write_pairs(other / 'six.bin', images, ~same)  # the same name, other content
  evaluate(_settings(run, benchmarks=str(other / 'six.bin')))
  assert len(calls) == 1


@pytest.mark.parametrize('part', ['embedding', 'norm'])
@pytest.mark.parametrize(
  'damage',
  [lambda content: content[:-100], lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:]],
  ids=['cut', 'flipped'],
)
def test_damaged_embeddings_are_made_again(tmp_path, caplog, part, damage):
  images, made = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3), np.uint8), []

  def embed(batch):
    made.append(batch)
    return {'embedding': batch.reshape(len(batch), -1) * np.float32(1.5), 'norm': batch[:, 0, 0, 0] * np.float32(0.5)}

  def embeddings():
    return cache.embeddings(tmp_path, 'few', 'a network', embed, images, 8)

  expected = [np.array(rows) for rows in embeddings()]
  (place,) = tmp_path.iterdir()
  contents = {path.name: path.read_bytes() for path in place.iterdir()}
  file = place / f'{part}.npy'
  file.write_bytes(damage(contents[file.name]))
  made.clear()
  for rows, wanted in zip(embeddings(), expected, strict=True):
    np.testing.assert_array_equal(rows, wanted)
  assert len(made) == 5 and f'{file} ' in caplog.text and 'these embeddings are made again' in caplog.text
  assert {path.name: path.read_bytes() for path in place.iterdir()} == contents and list(tmp_path.iterdir()) == [place]


def test_embeddings_whose_making_was_killed(tmp_path, monkeypatch):
  monkeypatch.setattr(resume, 'SECONDS', 0)
  monkeypatch.setattr(resume, '_SHARE', 1e9)
  images, made = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3), np.uint8), []

  def embed(batch):
    made.append(batch)
    if len(made) == 4:
      raise KeyError('killed')
    return {'embedding': batch.reshape(len(batch), -1) * np.float32(1.5), 'norm': batch[:, 0, 0, 0] * np.float32(0.5)}

  with pytest.raises(KeyError):
    cache.embeddings(tmp_path, 'few', 'a network', embed, images, 8)
  found = cache.embeddings(tmp_path, 'few', 'a network', embed, images, 8)
  np.testing.assert_array_equal(found.embedding, images.reshape(40, -1) * np.float32(1.5))
  np.testing.assert_array_equal(found.norm, images[:, 0, 0, 0] * np.float32(0.5))
  assert len(made) == 4 + 3  # the batch it was killed in and the one that was on its way are run again
  assert [path.name.startswith('few-') for path in tmp_path.iterdir()] == [True]


@pytest.mark.slow
def test_files_of_embeddings_give_what_their_network_gives(run, results, tmp_path):
  kept = next((run[0] / 'run' / 'embeddings').glob('six-*'))
  newest = [
    path
    for path in (run[0] / 'run' / 'embeddings').glob('*')
    if 'step 2' in (path / 'key.txt').read_text() and '+' in (path / 'key.txt').read_text()
  ]
  files = [next(path for path in newest if path.name.startswith(name)) / 'embedding.npy' for name in ('six', 'people')]
  assert kept.exists()
  np.save(tmp_path / 'whose.npy', np.repeat(np.arange(6), len(np.load(files[1])) // 6))
  settings = Settings(
    f'{run[0] / "six.bin"},{tmp_path / "whose.npy"}',
    embeddings=','.join(map(str, files)),
    output=str(tmp_path / 'out'),
    replicates=0,
  )
  found, _ = evaluate(settings)
  expected = dict(results[0].metrics)
  expected.pop('xnorm')
  assert found[0].metrics == pytest.approx(expected, abs=1e-12)
  assert found[1].metrics == pytest.approx(results[1].metrics, abs=1e-12)
  assert not (tmp_path / 'thresholds.json').exists()


@pytest.mark.slow
@pytest.mark.parametrize(
  ('changes', 'error', 'message'),
  [
    ({'benchmarks': 'lfw.bin'}, DataError, r'lfw\.bin does not exist'),
    ({'benchmarks': ''}, ConfigError, '--benchmarks names nothing'),
    ({'workdir': ''}, ConfigError, 'either --workdir'),
    ({'embeddings': 'z.npy'}, ConfigError, 'either --workdir'),
    ({'embeddings': 'z.npy', 'workdir': ''}, ConfigError, '--embeddings needs --output'),
    ({'embeddings': 'z.npy', 'workdir': '', 'output': 'o'}, ConfigError, '1 files for 4 benchmarks'),
    ({'step': 7}, CheckpointError, 'no checkpoint of step 7; there are 1, 2'),
    ({'workdir': 'nowhere'}, CheckpointError, 'nowhere.*holds no checkpoint'),
  ],
)
def test_what_cannot_be_measured_is_named(run, changes, error, message):
  with pytest.raises(error, match=message):
    evaluate(_settings(run, **changes))


@pytest.mark.slow
def test_a_report_that_cannot_be_written_is_noticed_before_anything_is_embedded(run, tmp_path, monkeypatch):
  (tmp_path / 'file').write_text('')
  monkeypatch.setattr(cache, 'extract', None)
  with pytest.raises(ConfigError, match=r'--output=.*/file/report cannot be written to'):
    evaluate(_settings(run, output=str(tmp_path / 'file' / 'report')))


@pytest.mark.slow
def test_two_benchmarks_of_one_name(run):
  six = run[0] / 'six.bin'
  with pytest.raises(ConfigError, match='two benchmarks are called six'):
    evaluate(_settings(run, benchmarks=f'{six},{six}'))


@pytest.mark.slow
def test_swapped_colours_are_refused(run, tmp_path, tiny_faces):
  crops = tiny_faces.train[:40][..., ::-1]
  write_pairs(tmp_path / 'bgr.bin', [encode(image) for image in crops], [True, False] * 10)
  settings = _settings(run, benchmarks=str(tmp_path / 'bgr.bin'), replicates=0)
  with pytest.raises(DataError, match=r'bgr: .*probably swapped.*--nocheck_colour'):
    evaluate(settings)
  assert evaluate(settings._replace(check_colour=False))


@pytest.mark.slow
@pytest.mark.parametrize(
  ('spoil', 'error', 'message'),
  [
    (lambda z: z[:-1], EvaluationError, r'six: the embeddings are float32 \(95, 8\), wanted floats \[96, d\]'),
    (lambda z: z.astype(np.int32), DataError, r'z\.npy holds int32 .* --embeddings must name \.npy files of floats'),
    (lambda z: z[0], DataError, r'z\.npy holds float32 \[8\], wanted .* --embeddings must name \.npy files of floats'),
    (lambda z: np.where(np.arange(96)[:, None] == 5, np.nan, z), EvaluationError, 'image 5 is not finite'),
    (lambda z: np.where(np.arange(96)[:, None] == 7, 0, z), EvaluationError, 'image 7 is all zeros'),
  ],
)
def test_embeddings_that_nothing_can_be_said_of(run, tmp_path, spoil, error, message):
  z = np.random.default_rng(0).normal(size=(96, 8)).astype(np.float32)
  np.save(tmp_path / 'z.npy', spoil(z))
  settings = Settings(str(run[0] / 'six.bin'), embeddings=str(tmp_path / 'z.npy'), output=str(tmp_path / 'out'))
  with pytest.raises(error, match=message):
    evaluate(settings)


@pytest.mark.slow
def test_the_command_on_eight_devices_says_what_one_says(run, results, command, tmp_path):
  shutil.copytree(run[0] / 'run' / 'checkpoints', tmp_path / 'run' / 'checkpoints')  # without embeddings made before
  done = command(
    'evaluate',
    f'--workdir={tmp_path / "run"}',
    f'--benchmarks={_settings(run).benchmarks}',
    '--replicates=0',
    '--batch_size=16',
    devices=8,
  )
  assert done.returncode == 0, done.stdout
  assert 'six' in done.stdout and str(tmp_path / 'run' / 'evaluation' / 'evaluation.html') in done.stdout
  found = json.loads((tmp_path / 'run' / 'evaluation' / 'evaluation.json').read_text())['results']
  for one, result in zip(found, results, strict=True):
    assert one['metrics'] == pytest.approx(result.metrics, abs=1e-5)
  done = command('evaluate', f'--workdir={run[0] / "run"}', '--benchmarks=IJBC')
  assert done.returncode == 1 and 'DataError: IJBC does not exist' in done.stdout


# --- people and pictures that the network was trained on


def _copied(photographs, names, folder):
  for name in names:
    shutil.copytree(photographs / name, folder / name)
  return folder


def _on(trained, *benchmarks, **changes):
  return _settings(trained, benchmarks=','.join(map(str, benchmarks)), **changes)


def _everywhere(folder, found, text, times=1):
  """Whether all forms of a report say something."""
  report = folder / 'run' / 'evaluation'
  assert text in ' '.join(terminal_text(*found).split())
  for name in ('evaluation.md', 'evaluation.html'):
    assert (report / name).read_text().count(text) >= times, name
  return json.loads((report / 'evaluation.json').read_text())['results']


@pytest.mark.slow
def test_whoever_was_trained_on_is_left_out_and_said_so(trained, photographs, tmp_path, caplog):
  folder, faces, _ = trained
  found = evaluate(_on(trained, photographs))
  text = '15 of 20 people were trained on (15 by name, 15 by picture) and are left out.'
  assert f'{photographs.name}: {text}' in caplog.text
  written = _everywhere(folder, found, text, times=2)  # under the figures, and under those to quote
  assert written[0]['overlap'] == {
    'people': 20,
    'by_name': 15,
    'by_picture': 15,
    'trained_on': 15,
    'images': 80,
    'pictures': 60,
    'left_out': True,
  }
  assert found[0][0].counts['identities'] == 5 and found[0][0].counts['images'] == 20
  # The figures are those of a benchmark of the others alone.
  kept = _copied(photographs, names(faces, 'validation') + names(faces, 'test'), tmp_path / photographs.name)
  caplog.clear()
  alone = evaluate(_on(trained, kept))[0]
  assert alone[0].metrics == found[0][0].metrics and alone[0].thresholds == found[0][0].thresholds
  assert 'trained on' not in caplog.text and not alone[0].overlap.trained_on
  page = (folder / 'run' / 'evaluation' / 'evaluation.html').read_text()
  files = [str(path.relative_to(kept)) for path in sorted(kept.glob('*/*'))]
  for rows in zip(alone[0].hardest.left.tolist(), alone[0].hardest.right.tolist()):
    assert ''.join(f'<span>{files[row]}</span>' for row in rows) in page
  assert photographs.name in read_thresholds(folder / 'run' / 'thresholds.json')


@pytest.mark.slow
def test_pictures_under_other_names_and_names_with_other_pictures(trained, photographs, tmp_path, caplog):
  _, faces, _ = trained
  known, kept = names(faces, 'train'), names(faces, 'test')
  _copied(photographs, [known[0], known[1], *kept], tmp_path / 'set')
  (tmp_path / 'set' / known[0]).rename(tmp_path / 'set' / 'unknown')
  for path in (tmp_path / 'set' / known[1]).iterdir():
    path.write_bytes(encode(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8), quality=40))
  found, _ = evaluate(_on(trained, tmp_path / 'set'))
  assert '2 of 5 people were trained on (1 by name, 1 by picture) and are left out' in caplog.text
  assert found[0].counts['identities'] == 3


@pytest.mark.slow
def test_nobody_left_is_an_error_with_the_list_of_those_kept_apart(trained, photographs, tmp_path):
  folder, faces, _ = trained
  known, kept = names(faces, 'train'), names(faces, 'test')
  for number, chosen in enumerate((known[:4], [*known[:4], kept[0]])):
    some = _copied(photographs, chosen, tmp_path / f'set{number}')
    wanted = rf'4 of {len(chosen)} people were trained on .* fewer than two .*convert .*--people={folder}/run/{KEPT}'
    with pytest.raises(DataError, match=wanted) as error:
      evaluate(_on(trained, some))
    assert '\n' not in str(error.value)


@pytest.mark.slow
def test_protocols_that_cannot_be_cut_are_measured_whole_with_a_warning_and_without_thresholds(trained, caplog):
  folder, *_ = trained
  thresholds = folder / 'run' / 'thresholds.json'
  moved = folder / PICTURES
  (folder / 'run' / PICTURES).rename(moved)  # as measured by an earlier version
  evaluate(_on(trained, folder / 'six.bin', folder / 'some.bin'))
  assert {'six', 'some'} <= read_thresholds(thresholds).keys()
  moved.rename(folder / 'run' / PICTURES)
  caplog.clear()
  found = evaluate(_on(trained, *(folder / name for name in ('six.bin', 'some.bin', 'IJBC', 'tinyface'))))
  assert found[0][1].counts['pairs'] == 48 and found[0][0].overlap.pictures == 0
  for text in ('some: 5 of 96 images', 'ijbc: 1 of 10 images', 'tinyface: 1 of 25 images'):
    assert text in caplog.text
    written = _everywhere(folder, found, f'{text} are pictures that were trained on; its metrics are too good', times=2)
  assert [one['overlap']['pictures'] for one in written if one['benchmark'] == 'some'] == [5]
  assert 'six: ' not in caplog.text
  _everywhere(folder, found, 'thresholds.json has none of its thresholds')
  assert 'six' in read_thresholds(thresholds) and not {'some', 'ijbc'} & read_thresholds(thresholds).keys()
  assert found[0][1].thresholds  # as the report shows


@pytest.mark.slow
def test_targets_that_were_trained_on_are_named_before_the_first_step(trained, photographs):
  _, _, said = trained
  assert said == [
    'config.eval.targets: some: 5 of 96 images are pictures that were trained on; its metrics are too good to be those '
    'of unseen people.',
    f'config.eval.targets: {photographs.name}: 15 of 20 people were trained on (15 by name, 15 by picture); its '
    'metrics are too good to be those of unseen people.',
  ]


@pytest.mark.slow
def test_runs_that_noted_nothing_and_embeddings_made_elsewhere(run, trained, tmp_path, caplog):
  caplog.set_level(logging.INFO)
  assert all(result.overlap is None for result in evaluate(_settings(run))[0])
  assert caplog.text.count(f'has no {PEOPLE}, no {PICTURES}') == 1
  np.save(tmp_path / 'z.npy', np.random.default_rng(0).normal(size=(96, 8)))
  some = trained[0] / 'some.bin'
  found, _ = evaluate(Settings(str(some), embeddings=str(tmp_path / 'z.npy'), output=str(tmp_path / 'out')))
  assert found[0].overlap is None


@pytest.mark.slow
def test_damaged_lists_stop_an_evaluation(trained, tmp_path):
  for name in (PEOPLE, PICTURES):
    shutil.copytree(trained[0] / 'run' / 'checkpoints', tmp_path / name / 'checkpoints')
    for file in (trained[0] / 'run').glob('trained*'):
      shutil.copy(file, tmp_path / name)
    content = (tmp_path / name / name).read_bytes()
    (tmp_path / name / name).write_bytes(content[:-50] + bytes([content[-50] ^ 1]) + content[-49:])
    with pytest.raises(DataError, match=rf'{name} .*give the training command again'):
      evaluate(_on(trained, trained[0] / 'six.bin', workdir=str(tmp_path / name)))
