"""Decoupled direction and norm (Rony et al. 2019, arXiv 1811.09600): the boundary's distance in L2."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .. import losses
from ..card import Card
from ..errors import InputError
from ..loop import Search, Until
from ..norms import NORMS, TINY, per_row
from ..rows import Rows
from ..victim import gradient
from .rival import towards_nearest


@dataclass(frozen=True)
class DDN:
    """The gradient turns the perturbation; its length grows where the row is not fooled and shrinks where it is.

    Departures from the paper. The first length is the distance to the boundary linearised at x, and a step a share of
    the length, so that nothing depends on the inputs' scale. The length's change falls as the step does, from a row's
    first success on: with the paper's constant 5 % the result ends up to 5 % above the boundary. The margin is climbed
    where the paper climbs cross entropy, whose gradient vanishes on saturated models, and the first gradient is that of
    the wrong class that looks nearest. Where the box cuts the perturbation, the rest is lengthened to the sphere.
    """

    until: ClassVar[Until] = "smallest"
    card: ClassVar = Card(norms=("l2",))

    steps: int = 100
    first_step: float = 1.0  # share of the length; falls along half a cosine to a hundredth of it
    gamma: float = 0.3  # first change of the length; from the first success on it falls to gamma_last
    gamma_last: float = 0.001
    rivals: int = 9  # wrong classes looked at from x, a gradient each

    def __post_init__(self):
        if self.steps < 1 or self.rivals < 1:
            raise InputError(f"steps={self.steps}, rivals={self.rivals}: DDN needs at least one of each.")
        if not (self.first_step > 0 and 0 <= self.gamma_last <= self.gamma < 1):
            raise InputError(
                f"first_step={self.first_step}, gamma={self.gamma}, gamma_last={self.gamma_last}: "
                "a positive step and 0 <= gamma_last <= gamma < 1 are needed."
            )

    def search(self, rows: Rows) -> Search:
        l2 = NORMS["l2"]
        rows.x_adv = rows.x
        rows.reached_once = torch.zeros_like(rows.threat.radius, dtype=torch.bool)
        for step in range(self.steps + 1):
            answer = yield gradient(rows.x_adv, losses.margin)
            if step == self.steps:
                return
            if step == 0:
                grad, margin = towards_nearest(answer, rows, self.rivals)
                slope = l2.size(grad.flatten(1))
                rows.length = margin.abs().to(slope.dtype) / slope.clamp_min(TINY)
            else:
                grad = answer.grad()
            rows.reached_once = rows.reached_once | answer.fooled
            falling = (1 + math.cos(math.pi * step / self.steps)) / 2
            gamma = self.gamma_last + (self.gamma - self.gamma_last) * falling
            gamma = torch.where(rows.reached_once, gamma, self.gamma)
            rows.length = rows.length * torch.where(answer.fooled, 1 - gamma, 1 + gamma)
            rows.length = torch.minimum(rows.length, rows.threat.radius)
            share = self.first_step * (0.01 + 0.99 * falling)
            rows.x_adv = self._turned(rows, grad, rows.length * share)

    @staticmethod
    def _turned(rows: Rows, grad: Tensor, step: Tensor) -> Tensor:
        """As far as rows.length along the perturbation, after a step [b] along the gradient."""
        size = NORMS["l2"].size(grad.flatten(1)).clamp_min(TINY)
        delta = rows.x_adv - rows.x + grad * per_row(step / size, grad)
        x, threat = rows.x.flatten(1), rows.threat
        length = rows.length.clamp_max(torch.finfo(rows.length.dtype).max ** 0.25)
        reached = threat.norm.reach(x, delta.flatten(1), length, threat.low, threat.high)
        return reached.view_as(rows.x)
