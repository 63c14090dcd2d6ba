"""Fast minimum-norm attack (Pintor et al. 2021, arXiv 2102.12827): the boundary's distance in L-inf, L2 or L1."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .. import losses
from ..card import Card
from ..errors import InputError
from ..loop import Search, Until
from ..norms import NORMS, TINY, Norm, per_row
from ..rows import Rows
from ..victim import gradient


@dataclass(frozen=True)
class FMN:
    """Climb the margin inside a ball that shrinks where the row is fooled and grows where it is not.

    Until a row is fooled for the first time, the ball's radius is a little more than the distance to a linear boundary,
    and never falls. A step is a share of the radius along the sign (L-inf) or the unit gradient: the paper's steps of a
    fixed Euclidean length leave two rows in three of a robust MNIST model without any success in 50 steps.
    """

    until: ClassVar[Until] = "smallest"
    card: ClassVar = Card(norms=("linf", "l2", "l1"))

    steps: int = 100
    first_step: float = 1.0  # share of the radius; falls along half a cosine to a hundredth of it
    gamma: float = 0.05  # first change of the radius; falls to gamma_last
    gamma_last: float = 0.001

    def __post_init__(self):
        if self.steps < 1:
            raise InputError(f"steps={self.steps}: FMN needs at least one step.")

    def search(self, rows: Rows) -> Search:
        norm, threat = rows.threat.norm, rows.threat
        dual = NORMS[norm.dual]
        rows.x_adv = rows.x
        rows.radius = rows.smallest = torch.full_like(threat.radius, torch.inf)
        for step in range(self.steps + 1):
            answer = yield gradient(rows.x_adv, losses.margin)
            if step == self.steps:
                return
            grad, fooled = answer.grad(), answer.fooled
            size = norm.size((rows.x_adv - rows.x).flatten(1))
            rows.smallest = torch.where(fooled, torch.minimum(size, rows.smallest), rows.smallest)
            falling = (1 + math.cos(math.pi * step / self.steps)) / 2
            gamma = self.gamma_last + (self.gamma - self.gamma_last) * falling
            reached_once = rows.smallest.isfinite()
            to_boundary = size + answer.loss.abs().to(size.dtype) / dual.size(grad.flatten(1)).clamp_min(TINY)
            shrunk = torch.minimum(rows.radius * (1 - gamma), rows.smallest)
            first_guess = to_boundary if step == 0 else torch.maximum(to_boundary, rows.radius)
            grown = torch.where(reached_once, rows.radius, first_guess) * (1 + gamma)
            rows.radius = torch.minimum(torch.where(fooled, shrunk, grown), rows.threat.radius)
            within = rows.radius.clamp_max(torch.finfo(size.dtype).max ** 0.25)
            length = within * self.first_step * (0.01 + 0.99 * falling)
            ahead = rows.x_adv + self._direction(norm, grad) * per_row(length, grad)
            rows.x_adv = rows.threat.project(ahead, within)

    @staticmethod
    def _direction(norm: Norm, grad: Tensor) -> Tensor:
        if norm.name == "linf":
            return grad.sign()
        return grad / per_row(NORMS["l2"].size(grad.flatten(1)).clamp_min(TINY), grad)
