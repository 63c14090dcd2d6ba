"""Sigma-zero (Cina et al. 2025, arXiv 2402.01879): the fewest coordinates to change, by a smooth count of them."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .. import losses
from ..card import Card
from ..errors import InputError
from ..loop import Search, Until
from ..rows import Rows
from ..victim import gradient
from .adam import Moments
from .rival import towards_nearest


@dataclass(frozen=True)
class SigmaZero:
    """Adam on the margin less mean(d^2 / (d^2 + sigma)), where d < threshold is set to 0 after each step.

    The threshold rises where the row is fooled, which thins the perturbation out, and falls where it is not. A fooled
    row climbs no margin.

    Departures from the paper. d is in widths of the box, and the margin's gradient is divided by its largest entry
    before the count's is added, so that nothing depends on the scale of inputs and logits. The first gradient is that
    of the wrong class that looks nearest. 200 steps, where the paper takes 100 to 1000.
    """

    until: ClassVar[Until] = "smallest"
    card: ClassVar = Card(norms=("l0",))

    steps: int = 200
    first_step: float = 1.0  # widths of the box; falls along half a cosine to a tenth of it
    sigma: float = 0.001  # squared size of a change that counts half
    threshold: float = 0.3  # at first; widths of the box
    change: float = 0.01  # of the threshold, at each step, in units of the step
    rivals: int = 9  # wrong classes looked at from x, a gradient each

    def __post_init__(self):
        if self.steps < 1 or self.rivals < 1:
            raise InputError(f"steps={self.steps}, rivals={self.rivals}: sigma-zero needs at least one of each.")
        if not (self.first_step > 0 and self.sigma > 0 and 0 <= self.threshold <= 1 and self.change >= 0):
            raise InputError(
                f"first_step={self.first_step}, sigma={self.sigma}, threshold={self.threshold}, change={self.change}: "
                "a positive step and sigma, a threshold from 0 to 1 and a change of at least 0 are needed."
            )

    def search(self, rows: Rows) -> Search:
        rows.x_adv = rows.x
        rows.adam = Moments.none_yet(rows.x)
        rows.threshold = torch.full_like(rows.threat.radius, self.threshold)
        for step in range(self.steps + 1):
            answer = yield gradient(rows.x_adv, losses.margin)
            if step == self.steps:
                return
            grad = towards_nearest(answer, rows, self.rivals)[0] if step == 0 else answer.grad()
            length = self.first_step * (0.1 + 0.45 * (1 + math.cos(math.pi * step / self.steps)))
            turned = rows.adam.turn(self._ascent(rows, grad, answer.fooled))
            change = torch.where(answer.fooled, self.change, -self.change) * length
            rows.threshold = (rows.threshold + change).clamp(0, 1)
            rows.x_adv = self._thinned(rows, rows.x_adv.flatten(1) + turned.flatten(1) * _width(rows) * length)

    def _ascent(self, rows: Rows, grad: Tensor, fooled: Tensor) -> Tensor:
        width = _width(rows)
        slope = grad.flatten(1) * width
        slope = slope / slope.abs().amax(1, keepdim=True).clamp_min(torch.finfo(slope.dtype).tiny)
        delta = (rows.x_adv - rows.x).flatten(1) / width
        count_slope = 2 * self.sigma * delta / (delta.square() + self.sigma).square() / delta.shape[1]
        ahead = torch.where(fooled[:, None], 0.0, slope) - count_slope
        return (ahead / ahead.abs().amax(1, keepdim=True).clamp_min(torch.finfo(ahead.dtype).tiny)).view_as(rows.x)

    @staticmethod
    def _thinned(rows: Rows, z: Tensor) -> Tensor:
        """z [b, d] within the box, and without the changes below the threshold."""
        x, threat = rows.x.flatten(1), rows.threat
        inside = z.clamp(threat.low, threat.high)
        small = (inside - x).abs() < rows.threshold[:, None] * _width(rows)
        return torch.where(small, x, inside).view_as(rows.x)


def _width(rows: Rows) -> Tensor:
    """[b, d]: of the box; 1 where it has none, or no end."""
    width = rows.threat.high - rows.threat.low
    return torch.where((width > 0) & width.isfinite(), width, 1.0)
