"""How the scaling benchmark names forms and writes numbers, in its tables and in its plot."""

NAMES = {
  'fixed': '`fixed`',
  'joint': '`joint`',
  'joint_device': '`joint`, rows on devices',
  'pfc': 'Partial FC {rate}',
  'softmax': 'full softmax',
  'torch pfc': 'PyTorch: Partial FC {rate}',
  'torch softmax': 'PyTorch: full softmax',
}
TITLES = {'classifier': 'Classifier alone', 'whole': 'Whole train step'}


def shown_number(m: int) -> str:
  """A number of people, in few characters."""
  return f'{m:.4g}'.replace('e+0', 'e')


def three_digits(x: float) -> str:
  """Three digits of it, without an exponent."""
  return f'{x:.3g}' if x < 999.5 else f'{float(f"{x:.3g}"):.0f}'


def shown_size(n: float) -> str:
  """Bytes, in MB or GB."""
  return f'{three_digits(n / 1e9)} GB' if n >= 1e9 else f'{n / 1e6:.3g} MB'
