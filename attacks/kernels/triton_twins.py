"""The Triton twins of reference.py, under one name."""

from .triton_ascent import ascend_l2, ascend_linf
from .triton_grid import on_grid
from .triton_keep import keep_better
from .triton_l1 import project_l1
from .triton_losses import cross_entropy, dlr, margin, over_largest, verdict
from .triton_noise import normal, random_words, uniform
from .triton_recolour import recolour
from .triton_rows import take_rows
from .triton_steps import shrink_l2, step_l2, step_linf

__all__ = [
    "ascend_l2",
    "ascend_linf",
    "cross_entropy",
    "dlr",
    "keep_better",
    "margin",
    "normal",
    "on_grid",
    "over_largest",
    "project_l1",
    "random_words",
    "recolour",
    "shrink_l2",
    "step_l2",
    "step_linf",
    "take_rows",
    "uniform",
    "verdict",
]
