"""Synthetic faces: endless identities, each rendered under endless nuisance, with nothing to download."""

from gif_jax.data.synthetic.render import FaceRenderer

__all__ = ['FaceRenderer']
