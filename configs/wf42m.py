"""`joint`: WebFace42M (2 059 906 people, 42 474 557 images, 112x112) with r50 or r100.

python -m gif_jax.main --config=configs/wf42m.py:r100 --config.data.path=DIR

The recipe is that of ms1mv3.py, as arcface_torch's for 8 GPUs, which reports 97.70 (r100) TAR@FAR=1e-4 on IJB-C; the
paper of GIF 98.42. For 16 x 128 images a step arcface_torch doubles optim.lr and warms up for 2 of 20 epochs.
The code vectors of `joint` lie on the hosts: 4.2 GB on disk, divided among the processes, and as much memory as page
cache, or steps wait for the disk; checkpoints take 4.2 to 6.3 GB each. RecordIO is read through an index of its 42
million records; converting once saves that pass in every new run.
With `r100,softmax` arcface_torch's heads and losses too: CosFace with Partial FC, r = 0.2.
Not run on the real set yet.
"""

from gif_jax.configs import ms1mv3


def get_config(form='r50'):
  return ms1mv3.get_config(form, m=2_059_906, combined=(1.0, 0.0, 0.4), sample_rate=0.2)
