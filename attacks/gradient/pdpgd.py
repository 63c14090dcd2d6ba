"""Primal-dual proximal gradient descent: a norm and the boundary, one multiplier per row (arXiv 2106.01538)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .. import losses
from ..card import Card
from ..errors import InputError
from ..loop import Search, Until
from ..norms import NORMS, TINY, project_l1
from ..rows import Rows
from ..victim import gradient
from .rival import towards_nearest


@dataclass(frozen=True)
class PDPGD:
    """Minimal-norm attack (arXiv 2106.01538): climb the margin while a row is not fooled, shrink the norm always.

    The multiplier weighs the margin against the norm: it grows while the row is not fooled and falls while it is. In
    units of the distance to the boundary linearised at x, and with the gradient measured in the dual norm, 1 is its
    exact value on a linear model; so nothing depends on the scale of logits or inputs. The margin stands in for the
    paper's cross entropy, and its push ends at the boundary, so that both steps shrink to the same point.
    """

    until: ClassVar[Until] = "smallest"
    card: ClassVar = Card(norms=("linf", "l2", "l1"))

    steps: int = 200
    first_step: float = 0.5  # share of the distance to the linearised boundary; falls along half a cosine
    last_step: float = 0.002
    multiplier: float = 2.0
    rivals: int = 9  # wrong classes looked at from x, a gradient each
    change: float = 0.1  # of the multiplier, in one step; falls as the step does

    def __post_init__(self):
        if self.steps < 1 or not 0 < self.last_step <= self.first_step or not (self.multiplier > 0 and self.change > 0):
            raise InputError(
                f"steps={self.steps}, first_step={self.first_step}, last_step={self.last_step}, "
                f"multiplier={self.multiplier}, change={self.change}: at least one step and positive numbers are "
                "needed, the last step no larger than the first."
            )

    def search(self, rows: Rows) -> Search:
        dual, shrink = NORMS[rows.threat.norm.dual], SHRINK[rows.threat.norm.name]
        rows.x_adv = rows.x
        rows.multiplier = torch.full_like(rows.threat.radius, self.multiplier)
        for step in range(self.steps + 1):
            answer = yield gradient(rows.x_adv, losses.margin)
            if step == self.steps:
                return
            grad, margin = towards_nearest(answer, rows, 1 if step else self.rivals)
            grad = grad.flatten(1)
            steepness = dual.size(grad).clamp_min(TINY)
            if step == 0:
                rows.distance = torch.minimum(margin.abs().to(grad.dtype) / steepness, rows.threat.radius)
            grad = grad / steepness[:, None]
            falling = (1 + math.cos(math.pi * step / self.steps)) / 2
            share = self.last_step + (self.first_step - self.last_step) * falling
            length = rows.distance * share / NORMS["l2"].size(grad).square().clamp_min(TINY)
            push = torch.where(answer.fooled, torch.zeros_like(length), length * rows.multiplier)
            delta = shrink((rows.x_adv - rows.x).flatten(1) + grad * push[:, None], length)
            rows.x_adv = (rows.x.flatten(1) + delta).clamp(rows.threat.low, rows.threat.high).view_as(rows.x)
            change = 1 + self.change * max(falling, 0.05)
            rows.multiplier = torch.where(answer.fooled, rows.multiplier / change, rows.multiplier * change)


def _shrink_l2(delta: Tensor, by: Tensor) -> Tensor:
    size = NORMS["l2"].size(delta).clamp_min(TINY)
    return delta * (1 - by / size).clamp_min(0)[:, None]


def soft_threshold(delta: Tensor, by: Tensor) -> Tensor:
    return (delta.abs() - by[:, None]).clamp_min(0) * delta.sign()


def _shrink_linf(delta: Tensor, by: Tensor) -> Tensor:
    """Moreau: what is left of a vector less its projection on the ball of the dual norm."""
    everywhere = torch.full_like(delta, torch.finfo(delta.dtype).max / 4)
    return delta - project_l1(torch.zeros_like(delta), delta, by, -everywhere, everywhere)


# The proximal maps of by [b] times each norm, on flat delta [b, d].
SHRINK: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "linf": _shrink_linf,
    "l2": _shrink_l2,
    "l1": soft_threshold,
}
