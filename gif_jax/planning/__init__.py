"""What a training needs on a machine that is not there: compiled for it, by the compilers that it would be compiled by.

Needs no accelerator. GPUs need the extra `plan-gpu`, TPUs `plan-tpu` (setup.cfg).
"""
