"""The report of an audit in words: every number with what it means and what to do about it."""

from collections.abc import Iterator, Mapping
from typing import Any

from gif_jax.core.texts import markdown


def describe(report: dict[str, Any]) -> str:
  """audit.md, made of what is in audit.json."""
  parts = [
    f'# Audit of {markdown(", ".join(report["inputs"]))}',
    '![](audit.png)',
    _summary(report),
    *(_input(name, facts) for name, facts in report['inputs'].items()),
    _duplicates(report['duplicates']),
    _evaluation(report['evaluation']),
    _similar(report['similar_people'], report['encoder']),
    _FILES,
  ]
  return '\n\n'.join(filter(None, parts)) + '\n'


def faults(report: dict[str, Any]) -> Iterator[str]:
  """One sentence for everything that should be looked at; nothing for a data set without faults."""
  for name, facts in report['inputs'].items():
    yield from (f'{name}: {fault}.' for fault in _faults_of_input(facts))
  for kind, word in (('exact', 'byte for byte'), ('near', 'nearly')):
    if count := report['duplicates'][kind]['across_people']['images']:
      yield f'{_many(count, "picture is", "pictures are")} there under two names, {word}: label noise (duplicates.csv).'
    if count := report['duplicates'][kind]['within_a_person']['images']:
      yield f'{_many(count, "picture", "pictures")} of a person repeated, {word}: harmless.'
  for name, overlap in report['evaluation'].items():
    if overlap['people']:
      who = _many(overlap['people'], 'person is', 'people are')
      yield f'{name}: {who} trained on whose pictures are in it (in_evaluation.txt).'
    if overlap.get('similar_people'):
      who = _many(overlap['similar_people'], 'person looks', 'people look')
      yield f'{name}: {who} like somebody in it (overlapping_people.csv).'
  similar = report['similar_people']
  if similar and similar['pairs']:
    who = _many(similar['pairs'], 'pair of people looks', 'pairs of people look')
    yield f'{who} alike and may be the same (similar_people.csv).'


def _many(count: int, one: str, several: str) -> str:
  return f'{count:,} {one if count == 1 else several}'


def _faults_of_input(facts: dict[str, Any]) -> Iterator[str]:
  yield from facts['labels']
  if count := facts['undecodable']:
    yield f'{_many(count, "image", "images")} cannot be decoded (skipped.tsv)'
  if count := facts['skipped']:
    yield f'{_many(count, "file or record was", "files or records were")} left out when it was opened (skipped.tsv)'
  if count := facts['odd_sizes']:
    many = _many(count, 'picture is', 'pictures are')
    yield f'{many} of an odd size among those of {facts["usual_size"]} (odd_sizes.tsv)'
  if count := facts['people_without_decodable_image']:
    yield f'{_many(count, "person has", "people have")} no image that can be decoded'
  if count := facts['kinds'].get('blank'):
    yield f'{_many(count, "image shows", "images show")} nothing, one colour all over (skipped.tsv)'
  if facts['colour']['swapped']:
    yield 'red and blue are probably swapped'


def _summary(report: dict[str, Any]) -> str:
  listed = list(faults(report))
  if not listed:
    return 'Nothing was found that should be looked at.'
  return 'To be looked at:\n\n' + '\n'.join(f'- {markdown(fault)}' for fault in listed)


def _input(name: str, facts: dict[str, Any]) -> str:
  per_person, stored = facts['images_per_person'], facts['bytes_per_image']
  rows = {
    'images': f'{facts["images"]:,}',
    'people': f'{facts["people"]:,}',
    'images of a person': f'{per_person["min"]:g} to {per_person["max"]:g}, median {per_person["median"]:g}, mean '
    f'{per_person["mean"]:g}',
    'people with 1 image': f'{facts["people_with_1_image"]:,}',
    'people with less than 5, 10 images': ', '.join(f'{facts[f"people_with_less_than_{k}"]:,}' for k in (5, 10)),
    'bytes': f'{facts["bytes"]:,}; an image {stored["min"]:g} to {stored["max"]:g}, median {stored["median"]:g}',
    'sizes': _counted(facts['sizes']) + (' ...' if facts['kinds_of_size'] > len(facts['sizes']) else ''),
    'not square': f'{facts["not_square"]:,}',
    'kinds': _counted(facts['kinds']),
    'cannot be decoded': f'{facts["undecodable"]:,}',
    'left out when opened': f'{facts["skipped"]:,}',
    'files that are no images': f'{facts["not_images"]:,}',
    'of an odd size': f'{facts["odd_sizes"]:,}',
  }
  table = '| | |\n| --- | --- |\n' + '\n'.join(f'| {key} | {value} |' for key, value in rows.items())
  return '\n\n'.join([f'## {markdown(name)}', markdown(facts['where']), table, *_advice(facts)])


def _counted(counts: Mapping[str, int]) -> str:
  return ', '.join(f'{key}: {count:,}' for key, count in counts.items())


def _advice(facts: dict[str, Any]) -> Iterator[str]:
  """What the numbers of one input mean, where they mean something."""
  if facts['labels']:
    yield 'Labels: ' + '; '.join(facts['labels']) + '.'
  if facts['undecodable'] or facts['skipped']:
    yield (
      'Training stops at an image that cannot be decoded. `python -m gif_jax convert` leaves such images out, and '
      'writes which; skipped.tsv lists them with their reasons.'
    )
  if facts['odd_sizes']:
    yield (
      'Whole scenes among crops teach a network backgrounds, and thumbnails little. Look at those in odd_sizes.tsv, '
      'take out the lines of those that are right, and leave the others out: `python -m gif_jax convert '
      '--without_images=odd_sizes.tsv` (skipped.tsv serves as well). `python -m gif_jax align` cuts faces out of '
      'scenes.'
    )
  if facts['people_with_1_image']:
    yield (
      'With one image of a person nothing can be learned about how faces of one person differ; such people still '
      'serve as others to be told apart from. `convert --min_images=5` leaves people with fewer out.'
    )
  if facts['not_square'] or facts['kinds_of_size'] > 1:
    yield (
      'Images that are not square are fitted into a square, on black. Faces should be cut alike everywhere: '
      '`python -m gif_jax align` finds and cuts them.'
    )
  if set(facts['kinds']) - {'colour', 'undecodable', 'blank'}:
    yield (
      'Grey images are trained on as they are, with three equal channels. CMYK is read without its profile: '
      'colours are approximate.'
    )
  if facts['colour']['images']:
    yield _colour(facts['colour'])


def _colour(colour: dict[str, Any]) -> str:
  means = f'In the middle of the pictures red is {colour["red"]:g} on average, blue {colour["blue"]:g}'
  if not colour['swapped']:
    return f'{means}: as skin is, so channels are in order.'
  return (
    f'**{means}; blue is above red in {100 * colour["blue_above_red"]:.0f} % of the pictures. Skin is the other way '
    'round: red and blue are probably swapped**, as they are where OpenCV (BGR) wrote what another library (RGB) read. '
    'Look at a few pictures. To put them in order, read each with cv2.imread and write image[..., ::-1] with '
    'cv2.imwrite, as PNG, which loses nothing: a network trained on them as they are would see other colours in use.'
  )


def _duplicates(counts: dict[str, Any]) -> str:
  rows = [
    f'| {title}, {kind} | {counts[kind][relation]["images"]:,} | {counts[kind][relation]["pairs"]:,} |'
    for relation, title in (('across_people', 'of two people: label noise'), ('within_a_person', 'of one: harmless'))
    for kind in ('exact', 'near')
  ]
  text = (
    'Exact: the same bytes. Near: the pictures correlate by 0.98 or more and their difference hashes differ in at most '
    '3 of 64 bits (6 from top to bottom), as when a picture is stored again with another quality or size. '
  )
  if any(counts[kind]['across_people']['images'] for kind in counts):
    text += (
      'A picture under two names is wrong under one of them, or the two are one person. duplicates.csv lists them, '
      'those of two people first. Where they are one person, write `1,,FIRST_PERSON,SECOND_PERSON` into '
      'similar_people.csv and unite them with `convert --same`; else remove the picture that is wrong.'
    )
  head = ['| the same picture | repeats another | pairs |', '| --- | --- | --- |']
  return '\n'.join(['## The same picture twice', '', *head, *rows, '', text.strip()])


def _evaluation(overlaps: dict[str, Any]) -> str:
  if not overlaps:
    return ''
  rows = [
    f'| {markdown(name)} | {one["images"]:,} | {one["found"]:,} | {one["training_images"]:,} | {one["people"]:,} '
    f'({one["exact_people"]:,}) | {one.get("similar_people", "not looked for")} |'
    for name, one in overlaps.items()
  ]
  text = (
    'People of an evaluation set must not be trained on: its figures would be too good. in_evaluation.txt names those '
    'whose pictures are in one; leave them out with `convert --without=in_evaluation.txt`. overlapping_people.csv '
    'lists the same people, and those who only look like somebody there, the most similar first: look at them, and '
    'add to in_evaluation.txt whom you find to be the same.'
  )
  head = '| set | its images | of them in the data | training images | people (same bytes) | people who look alike |'
  return '\n'.join(['## Also in evaluation sets', '', head, '| --- ' * 6 + '|', *rows, '', text])


def _similar(similar: dict[str, Any] | None, encoder: str) -> str:
  if not similar:
    return (
      '## People who may be the same\n\nNot looked for: give --encoder=backbone and --encoder_path=RUN, a network '
      'trained before, to find people who are there under two names.'
    )
  return (
    '## People who may be the same\n\n'
    f'Pairs with a cosine of mean embeddings of {similar["floor"]:g} or more, by {markdown(encoder)}: '
    f'{similar["pairs"]:,} of {similar["people"]:,} people (with at most {similar["each_at_most"]} others each). '
    'similar_people.csv lists them, the most similar first. Look at them, write 1 under `same` where two are '
    'one person, and put them together: `python -m gif_jax convert --input=... --same=similar_people.csv '
    '--output=...`.\n\n' + _trust(encoder)
  )


def _trust(encoder: str) -> str:
  if encoder != 'pixels':
    return ''
  return (
    '**The encoder pixels finds only pictures that look the same, not people who are.** Give a trained network '
    '(--encoder=backbone --encoder_path=RUN) for that.'
  )


_FILES = """## Files

- audit.json: all figures
- skipped.tsv: images that cannot be used, files that are no images, with reasons
- odd_sizes.tsv: pictures of an odd size among the others
- duplicates.csv: pictures that are there twice
- in_evaluation.txt, overlapping_people.csv: people who are in an evaluation set, or may be
- similar_people.csv: people who may be the same"""
