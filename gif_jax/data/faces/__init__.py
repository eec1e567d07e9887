"""Synthetic faces: endless identities, each rendered under endless nuisance, with nothing to download."""

from gif_jax.data.faces.render import FaceRenderer

__all__ = ['FaceRenderer']
