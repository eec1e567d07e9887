"""The identity-code table: the one artefact between tokenisation, training and identification."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gif_jax.codes.homogenise import HomogenizeReport
from gif_jax.codes.identities import LabelSpace
from gif_jax.codes.vectors import Transform
from gif_jax.core.errors import UserError
from gif_jax.core.storage.arrays import load_array, load_arrays, new_array, save_array, save_arrays, seal
from gif_jax.core.storage.files import read_json, replacing_folder, write_json

VERSION = 1
ARRAYS = {'codes': np.uint8, 'vectors': np.float16}
UNIT = 1e-3  # how far from 1 the length of a vector may be
SIZES = ('m', 'l', 'v', 'd')
MADE_BY = ('encoder', 'seed', 'label_space', 'settings', 'explained', 'homogenisation')
BLOCK = 1 << 16  # rows copied at a time
KEYS = ('version', *SIZES, *MADE_BY, 'sha256', 'fingerprint')
REMAKE = 'make the table again with `python -m gif_jax tokenize`'
COPY = f'copy the table again, or {REMAKE}'


class TableError(UserError):
  """A table that is missing, damaged, or does not fit what it is used with; the message names the file and the cure."""


class CodeTable(LabelSpace):
  """A directory of memory-mapped arrays, one row per identity.

  codes: uint8 [m, l], unique rows, digits 0..v-1.
  vectors: float16 [m, d], unit rows.
  transform: how encoder features became vectors, or None.
  meta: m, l, v, d, encoder, seed, label_space, settings, explained (share of the variance by each digit alone),
    homogenisation (its report, or None), sha256 of each array, fingerprint; and in an extended table `extends`.
  fingerprint: sha256 over m, l, v, d and the arrays' checksums, which a checkpoint stores.
  extends: fingerprints of the tables whose rows are this table's first ones, unchanged; [] in a table of its own.

  Pickled as its path alone and opened again on first use, so that worker processes share the mapped pages.
  """

  def __init__(self, path: str | os.PathLike):
    """Nothing is read until first use; `open` reads and checks at once."""
    self.path = Path(path).absolute()

  @classmethod
  def open(cls, path: str | os.PathLike) -> 'CodeTable':
    """Maps the table at `path`. Checks meta, files, sizes and types, not the contents: that is `verify`.

    Raises TableError, naming the file and the cure.
    """
    table = cls(path)
    _ = table.codes, table.vectors, table.transform
    return table

  @classmethod
  def write(
    cls,
    path: str | os.PathLike,
    codes: np.ndarray,
    vectors: np.ndarray,
    *,
    v: int,
    encoder: str,
    seed: int,
    label_space: str,
    settings: dict,
    transform: Transform | None = None,
    explained: Iterable[float] = (),
    report: HomogenizeReport | None = None,
    replace: bool = False,
  ) -> 'CodeTable':
    """Writes a table under a temporary name beside `path`, renames it to `path` and opens it.

    Args:
      path: directory to make.
      codes, vectors: uint8 [m, l]; float [m, d], unit rows.
      v, encoder, seed, label_space, settings: go to `meta`.
      transform, explained, report: of `initialise`, `explained_alone` and `homogenise`.
      replace: whether a table that is at `path` gives way to this one.

    Raises TableError where `path` exists and `replace` is False, and for arrays that make no table; DiskError. All
    leave nothing behind.
    """
    path = Path(path).absolute()
    if not replace:
      _check_free(path)
    _check_codes(codes, v, 'codes')
    _check_vectors(vectors, len(codes), 'vectors')
    arrays: dict[str, np.ndarray] = {'codes': np.ascontiguousarray(codes, np.uint8)}
    arrays['vectors'] = np.ascontiguousarray(vectors, np.float16)
    meta = {'version': VERSION, 'm': len(codes), 'l': codes.shape[1], 'v': int(v), 'd': vectors.shape[1]}
    meta |= {'encoder': encoder, 'seed': int(seed), 'label_space': label_space, 'settings': dict(settings)}
    meta |= {'explained': [float(share) for share in explained]}
    meta |= {'homogenisation': dataclasses.asdict(report) if report else None}
    saved = transform.arrays() if transform else {}
    meta |= {'sha256': {name: _sha256(array) for name, array in (arrays | saved).items()}}
    meta |= {'fingerprint': _fingerprint(meta)}
    with replacing_folder(path, replace=replace) as draft:
      for name, array in arrays.items():
        save_array(draft / f'{name}.npy', array)
      if saved:
        save_arrays(draft / 'transform.npz', saved)
      write_json(draft / 'meta.json', meta, checksum=True)
    return cls.open(path)

  def extend(self, path: str | os.PathLike, codes: np.ndarray, vectors: np.ndarray, label_space: str) -> 'CodeTable':
    """Writes a table of this one's rows, unchanged, followed by those of k newcomers, as labels m..m+k-1; opens it.

    Args:
      path: directory to make.
      codes, vectors: uint8 [k, l], unique and in no row of this table; float [k, d], unit rows.
      label_space: of all m + k people.

    All else is copied. Memory for the codes and for BLOCK vectors is needed. Raises TableError where `path` exists, if
    this table is damaged, and for arrays that make no table; DiskError. All leave nothing behind.
    """
    path = Path(path).absolute()
    _check_free(path)
    self.verify()  # new checksums must not vouch for damaged rows
    _check_vectors(vectors, len(codes), 'vectors')
    meta = self.meta | {'m': self.m + len(codes), 'label_space': label_space, 'sha256': dict(self.meta['sha256'])}
    meta |= {'extends': [*self.extends, self.fingerprint]}
    with replacing_folder(path) as draft:
      for name, more in (('codes', codes), ('vectors', vectors)):
        array = _append(draft / f'{name}.npy', getattr(self, name), more)
        meta['sha256'][name] = _sha256(array)
        if name == 'codes':
          _check_codes(array, self.v, 'codes')
      if self.transform:
        save_arrays(draft / 'transform.npz', self.transform.arrays())
      write_json(draft / 'meta.json', meta | {'fingerprint': _fingerprint(meta)}, checksum=True)
    return CodeTable.open(path)

  def rows(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """labels y, int64 [B] -> codes int32 [B, l], code vectors float32 [B, d], of unit length in float32.

    Raises TableError for a label the table does not have.
    """
    self.check(labels)
    vectors = self.vectors[labels].astype(np.float32)
    return self.codes[labels].astype(np.int32), vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

  def check(self, labels: np.ndarray) -> None:
    """Raises TableError for a label the table does not have."""
    labels = np.asarray(labels)
    if labels.dtype.kind not in 'iu':
      raise TableError(f'{self.path}: labels must be integers, got {labels.dtype}')
    bad = labels[(labels < 0) | (labels >= self.m)]
    if bad.size:
      raise TableError(
        f'{self.path}: label {bad[0]} is outside 0..{self.m - 1}: the table holds m={self.m} identities. '
        f'Use the table made from this data set, or make one with `python -m gif_jax tokenize`'
      )

  def verify(self) -> None:
    """Reads everything: checksums, unique codes in range, unit vectors. Raises TableError, naming the file."""
    shapes = {'codes': (self.m, self.l), 'vectors': (self.m, self.d)}
    arrays = {name: _read_array(self.path, name, shape, check=True) for name, shape in shapes.items()}
    if self.transform:
      arrays |= self.transform.arrays()
    for name, array in arrays.items():
      if _sha256(array) != self.meta['sha256'].get(name):
        raise TableError(f'{self.path}: {name} does not match its checksum in meta.json: {COPY}')
    if _fingerprint(self.meta) != self.fingerprint:
      raise TableError(f'{self.path}: the fingerprint in meta.json does not match its sizes and checksums: {COPY}')
    _check_codes(self.codes, self.v, self.path / 'codes.npy')
    _check_vectors(self.vectors, self.m, self.path / 'vectors.npy')

  @cached_property
  def meta(self) -> dict[str, Any]:
    return _read_meta(self.path)

  @property
  def m(self) -> int:
    return self.meta['m']

  @property
  def l(self) -> int:  # noqa: E743
    return self.meta['l']

  @property
  def v(self) -> int:
    return self.meta['v']

  @property
  def d(self) -> int:
    return self.meta['d']

  @property
  def label_space(self) -> str:
    return self.meta['label_space']

  @property
  def fingerprint(self) -> str:
    return self.meta['fingerprint']

  @property
  def extends(self) -> Sequence[str]:
    return self.meta.get('extends', [])

  @cached_property
  def codes(self) -> np.ndarray:
    return _read_array(self.path, 'codes', (self.m, self.l))

  @cached_property
  def vectors(self) -> np.ndarray:
    return _read_array(self.path, 'vectors', (self.m, self.d))

  @cached_property
  def transform(self) -> Transform | None:
    return _read_transform(self.path, self.d) if 'mean' in self.meta['sha256'] else None

  def __getstate__(self) -> dict:
    return {'path': self.path}


def _check_codes(codes: np.ndarray, v: int, name: str | Path) -> None:
  if codes.ndim != 2 or not codes.size or codes.dtype.kind not in 'iu':
    raise TableError(f'{name}: must be integers [m, l], got {codes.dtype} {codes.shape}: {REMAKE}')
  if codes.min() < 0 or codes.max() >= v or v > 256:
    raise TableError(f'{name}: digits span {codes.min()}..{codes.max()}, v={v} allows 0..{min(v, 256) - 1}: {REMAKE}')
  if len(np.unique(codes, axis=0)) < len(codes):
    raise TableError(f'{name}: two identities share a code: {REMAKE}')


def _check_vectors(vectors: np.ndarray, m: int, name: str | Path) -> None:
  if vectors.ndim != 2 or len(vectors) != m:
    raise TableError(f'{name}: must be [{m}, d], one row per code, got {vectors.shape}: {REMAKE}')
  norm = np.sqrt(np.einsum('md,md->m', vectors, vectors, dtype=np.float32))
  bad = np.flatnonzero(~(np.abs(norm - 1) <= UNIT))
  if len(bad):
    raise TableError(f'{name}: the vector of identity {bad[0]} has length {norm[bad[0]]}, not 1: normalise the rows')


def _fingerprint(meta: dict) -> str:
  contents = [[meta[key] for key in SIZES], sorted(meta['sha256'].items())]
  return hashlib.sha256(json.dumps(contents).encode()).hexdigest()


def _sha256(array: np.ndarray) -> str:
  """Of type, shape and values, so that it does not depend on how a file format lays them out."""
  digest = hashlib.sha256(f'{array.dtype.str} {array.shape}'.encode())
  digest.update(np.ascontiguousarray(array).data)
  return digest.hexdigest()


def _check_free(path: Path) -> None:
  if path.exists():
    raise TableError(f'{path} exists: delete it, or write the table to another path')


def _append(file: Path, rows: np.ndarray, more: np.ndarray) -> np.ndarray:
  """Writes `rows` followed by `more` to a .npy file, BLOCK rows at a time, and maps it."""
  array = new_array(file, (len(rows) + len(more), rows.shape[1]), rows.dtype)
  for start in range(0, len(rows), BLOCK):
    array[start : min(start + BLOCK, len(rows))] = rows[start : start + BLOCK]
  array[len(rows) :] = more
  array.flush()
  seal(file)
  return array


def _read_meta(path: Path) -> dict:
  file = path / 'meta.json'
  if not path.is_dir():
    raise TableError(f'{path}: no such table: check the path, or {REMAKE}')
  if not file.exists():
    raise TableError(f'{file} is missing, so {path} is no identity-code table: {REMAKE}')
  meta = read_json(file, TableError, COPY)
  if (version := meta.get('version')) != VERSION:
    raise TableError(f'{file} has format version {version}, this code reads {VERSION}: {REMAKE}')
  if missing := [key for key in KEYS if key not in meta]:
    raise TableError(f'{file} lacks {", ".join(missing)}: {COPY}')
  if not isinstance(meta['sha256'], dict) or not all(isinstance(meta[key], int) for key in SIZES):
    raise TableError(f'{file} must give m, l, v, d as integers and sha256 by array: {COPY}')
  return meta


def _read_array(path: Path, name: str, shape: tuple[int, int], *, check: bool = False) -> np.ndarray:
  return load_array(path / f'{name}.npy', ARRAYS[name], shape, check=check, error=TableError, fix=COPY)


def _read_transform(path: Path, d: int) -> Transform:
  file = path / 'transform.npz'
  arrays = load_arrays(file, error=TableError, fix=COPY)
  if set(arrays) != {'mean', 'components'} or arrays['mean'].ndim != 1 or arrays['components'].ndim != 2:
    raise TableError(f'{file} holds other arrays than mean and components: {COPY}')
  transform = Transform(**arrays)
  if transform.components.shape != (d, len(transform.mean)):
    raise TableError(f'{file} is {transform.components.shape}, meta.json says d={d}: {COPY}')
  return transform
