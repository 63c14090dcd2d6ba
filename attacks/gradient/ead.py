"""Elastic net attack: the margin against the sum of changes and a little of their squares (arXiv 1709.04114)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from .. import losses
from ..card import Card
from ..errors import InputError
from ..loop import Search, Until
from ..norms import NORMS, TINY
from ..rows import Rows
from ..victim import gradient
from .pdpgd import soft_threshold
from .rival import towards_nearest


@dataclass(frozen=True)
class EAD:
    """EAD (arXiv 1709.04114): minimise c * max(-margin, 0) + |delta|_1 + ridge * |delta|_2^2 by shrinkage (ISTA).

    searches: values of c that a row tries, each with `steps` steps from x: c falls where it was fooled and grows where
        it was not. A coordinate moves if c times its slope, over the steepest, exceeds 1: c = 1 moves none.

    As in `CW`, lengths are in units of the distance to the boundary linearised at x (here in L1), so that nothing
    depends on the scale of the logits; the paper's beta is 1 in them. The smallest in L1 is kept (its decision rule
    "L1").
    """

    until: ClassVar[Until] = "smallest"
    card: ClassVar = Card(norms=("l1",))

    searches: int = 9
    steps: int = 40
    constant: float = 2.0
    ridge: float = 0.01
    rivals: int = 9  # wrong classes looked at from x, a gradient each

    def __post_init__(self):
        if self.searches < 1 or self.steps < 1 or not self.constant > 1 or self.ridge < 0:
            raise InputError(
                f"searches={self.searches}, steps={self.steps}, constant={self.constant}, ridge={self.ridge}: at least "
                "one search and one step, a constant above 1 and a ridge of at least 0 are needed."
            )

    def search(self, rows: Rows) -> Search:
        answer = yield gradient(rows.x, losses.margin)
        first, margin = towards_nearest(answer, rows, self.rivals)
        rows.first = first.flatten(1)
        steepest = NORMS["linf"].size(rows.first).clamp_min(TINY)
        rows.unit = torch.minimum(margin.abs().to(steepest.dtype) / steepest, rows.threat.radius)
        rows.constant = torch.full_like(rows.unit, self.constant)
        rows.fails, rows.works = torch.ones_like(rows.unit), torch.full_like(rows.unit, torch.inf)
        for _ in range(self.searches):
            rows.grad, rows.x_adv = rows.first, rows.x
            rows.fooled = rows.found = torch.zeros_like(rows.index, dtype=torch.bool)
            for step in range(self.steps):
                self._step(rows, 0.002 + 0.998 * (1 + math.cos(math.pi * step / self.steps)) / 2)
                answer = yield gradient(rows.x_adv, losses.margin)
                rows.grad, rows.fooled = answer.grad().flatten(1), answer.fooled
                rows.found = rows.found | answer.fooled
            rows.works = torch.where(rows.found, torch.minimum(rows.works, rows.constant), rows.works)
            rows.fails = torch.where(rows.found, rows.fails, torch.maximum(rows.fails, rows.constant))
            middle = (rows.fails * rows.works).sqrt()
            rows.constant = torch.where(rows.works.isfinite(), middle, rows.constant * 3)

    def _step(self, rows: Rows, falling: float) -> None:
        slope = rows.grad / NORMS["linf"].size(rows.grad).clamp_min(TINY)[:, None]
        length = rows.unit * (0.5 * falling)
        push = torch.where(rows.fooled, torch.zeros_like(length), length * rows.constant)
        delta = (rows.x_adv - rows.x).flatten(1) * (1 - 2 * self.ridge * falling) + slope * push[:, None]
        delta = soft_threshold(delta, length)
        rows.x_adv = (rows.x.flatten(1) + delta).clamp(rows.threat.low, rows.threat.high).view_as(rows.x)
