"""Adam (arXiv 1412.6980) for each coordinate of each row."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..columns import PerRow

MEAN_DECAY, SQUARE_DECAY = 0.9, 0.999
FLOOR = 1e-8  # of the root of the mean square, next to gradients whose largest entry is about 1


@dataclass
class Moments(PerRow):
    """The running means of the gradients and of their squares. Lives on `rows`."""

    mean: Tensor  # [b, ...]
    square: Tensor  # [b, ...]
    turns: int = 0

    @classmethod
    def none_yet(cls, like: Tensor) -> "Moments":
        return cls(torch.zeros_like(like), torch.zeros_like(like))

    def turn(self, grad: Tensor) -> Tensor:
        """[b, ...]: the step for a learning rate of 1, from the next gradient."""
        self.turns += 1
        self.mean = self.mean * MEAN_DECAY + grad * (1 - MEAN_DECAY)
        self.square = self.square * SQUARE_DECAY + grad * grad * (1 - SQUARE_DECAY)
        mean, square = self.mean / (1 - MEAN_DECAY**self.turns), self.square / (1 - SQUARE_DECAY**self.turns)
        return mean / (square.sqrt() + FLOOR)
