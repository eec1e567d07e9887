"""What all plots are made with."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gif_jax.core.storage.files import replacing
from gif_jax.core.texts import for_plot

_DPI = 150


def new_figure(width: float, height: float) -> Figure:
  """An empty figure, size in inches, that leaves pyplot's global state alone."""
  figure = Figure(figsize=(width, height), dpi=_DPI, layout='constrained')
  FigureCanvasAgg(figure)
  return figure


def tidy(axes: Axes, legend: bool = True) -> None:
  """Axes with a light grid and no frame, and with a legend where there is more than one thing to tell apart."""
  axes.grid(True, which='major', color='0.88', linewidth=0.8)
  axes.spines[['top', 'right']].set_visible(False)
  if legend and len(axes.get_legend_handles_labels()[1]) > 1:
    axes.legend(frameon=False, fontsize='small')


def save(figure: Figure, path: str | Path) -> None:
  """Writes a figure in the format that the path ends in. Raises DiskError."""
  with replacing(path) as temporary:
    figure.savefig(temporary, format=Path(path).suffix[1:] or 'png', bbox_inches='tight')


def contact_sheet(images: np.ndarray, path: str | Path, row_labels: Sequence[str] | None = None) -> None:
  """Writes uint8 [rows, cols, h, w, 3] as one sheet, a row of faces per row, with optional labels at the left."""
  rows, cols, h, w, _ = images.shape
  gap = 2
  sheet = np.full((rows, cols, h + gap, w + gap, 3), 255, np.uint8)
  sheet[:, :, :h, :w] = images
  sheet = sheet.transpose(0, 2, 1, 3, 4).reshape(rows * (h + gap), cols * (w + gap), 3)[:-gap, :-gap]
  figure = new_figure(sheet.shape[1] / 100 + (1 if row_labels else 0), sheet.shape[0] / 100)
  axes = figure.add_subplot()
  axes.imshow(sheet, interpolation='nearest')
  axes.set(xticks=[], yticks=[])
  axes.spines[:].set_visible(False)
  if row_labels:
    axes.set_yticks(np.arange(rows) * (h + gap) + h / 2, [*map(for_plot, row_labels)])
    axes.tick_params(length=0)
  save(figure, path)
