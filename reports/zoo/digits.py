"""The handwritten digits of scikit-learn, on the 8-bit grid, and the third of them that no classifier is trained on."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

LEVELS = 16  # scikit-learn counts ink from 0 to 16


def held_out() -> tuple[Tensor, Tensor]:
    """x [599, 1, 8, 8] float32 in [0, 1], each value k / 255 with whole k; y [599] int64, 0 to 9."""
    return _part(held=True)


def training() -> tuple[Tensor, Tensor]:
    """x [1198, 1, 8, 8] and y [1198], as in `held_out`, and none of them there."""
    return _part(held=False)


def _part(held: bool) -> tuple[Tensor, Tensor]:
    ink, y = (np.asarray(part) for part in load_digits(return_X_y=True))
    chosen = _is_held_out(y) == held
    x = (np.round(255 * ink[chosen] / LEVELS) / 255).astype(np.float32)
    return torch.from_numpy(x).view(-1, 1, 8, 8), torch.from_numpy(y[chosen].astype(np.int64))


def _is_held_out(y: np.ndarray) -> np.ndarray:
    """[B] bool: every third of the examples sorted by class, so that each class gives a third of its own."""
    held = np.zeros(len(y), dtype=bool)
    held[np.argsort(y, kind="stable")[1::3]] = True
    return held
