"""Carlini and Wagner's attack: norm and margin weighed by a constant that is searched for, in L2 and L-inf."""

import math
from collections.abc import Generator
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
from ..victim import Answer, Query, gradient
from .rival import towards_nearest


@dataclass(frozen=True)
class CW:
    """C&W (arXiv 1608.04644): minimise |delta|^2 + c * max(confidence - margin, 0); in L-inf the excess over tau.

    searches: values of c (in L-inf of tau) that a row tries, each with `steps` steps from the best point yet: c falls
        where the row was fooled and grows where it was not, each row by itself.

    Departures. Lengths are in units of the distance to the boundary linearised at x, and in L2 the margin's gradients
    count by their direction alone: the paper's first constant of 0.001 finds nothing once the logits are a thousandth.
    The box is kept by projection, the first of the paper's three ways: its tanh freezes pixels that are exactly 0 or 1.
    In these units the distance term is as steep in all directions, and gradient steps of falling length end closer than
    Adam's.
    """

    until: ClassVar[Until] = "smallest"
    card: ClassVar = Card(norms=("l2", "linf"))

    searches: int = 6
    steps: int = 50
    confidence: float = 0.0  # in units of the clean margin
    constant: float = 4.0  # first c; in a linear world any above 2 ends on the boundary
    rivals: int = 9  # wrong classes looked at from x, a gradient each

    def __post_init__(self):
        if self.searches < 1 or self.steps < 1 or self.confidence < 0 or not self.constant > 0:
            raise InputError(
                f"searches={self.searches}, steps={self.steps}, confidence={self.confidence}, "
                f"constant={self.constant}: one search, one step, a confidence of at least 0 and a positive "
                "constant are the least."
            )

    def search(self, rows: Rows) -> Search:
        linf = rows.threat.norm.name == "linf"
        answer = yield gradient(rows.x, losses.margin)
        rows.x_adv = rows.best = rows.x
        rows.best_grad, margin = towards_nearest(answer, rows, self.rivals)
        rows.unit = margin.abs().to(rows.x.dtype).clamp_min(torch.finfo(rows.x.dtype).tiny)  # of margins
        steepness = NORMS[rows.threat.norm.dual].size(rows.best_grad.flatten(1)).clamp_min(TINY)
        rows.distance = torch.minimum(rows.unit / steepness, rows.threat.radius)
        rows.weight = torch.full_like(rows.distance, 1.05 if linf else self.constant)
        rows.known = torch.zeros_like(rows.distance)  # the weight that fails, or in L-inf the tau that fails
        rows.other = torch.full_like(rows.distance, torch.inf)  # the weight that succeeds
        rows.best_size = torch.full_like(rows.distance, torch.inf)
        for _ in range(self.searches):
            rows.x_adv, rows.grad = rows.best, rows.best_grad
            rows.found = torch.zeros_like(rows.index, dtype=torch.bool)
            rows.smallest = torch.full_like(rows.distance, torch.inf)
            yield from self._minimise(rows, self._towards_tau if linf else self._towards_least)
            # In L2 a smaller c gives the norm more weight; in L-inf a smaller tau does.
            best = torch.minimum(rows.smallest / rows.distance.clamp_min(TINY), rows.weight) if linf else rows.weight
            rows.other = torch.where(rows.found, torch.minimum(best, rows.other), rows.other)
            rows.known = torch.where(rows.found, rows.known, torch.maximum(rows.known, rows.weight))
            middle = (rows.known + rows.other) / 2
            rows.weight = torch.where(rows.other.isfinite(), middle, rows.weight * (1.5 if linf else 5.0))

    def _minimise(self, rows: Rows, move) -> Generator[Query, Answer, None]:
        rows.fooled = torch.zeros_like(rows.found)
        for step in range(self.steps + 1):
            falling = 0.001 + 0.999 * (1 + math.cos(math.pi * step / self.steps)) / 2
            rows.x_adv = move(rows, falling)
            answer = yield gradient(rows.x_adv, losses.margin)
            rows.grad = answer.grad()
            size = rows.threat.norm.size((rows.x_adv - rows.x).flatten(1))
            nearer = answer.fooled & (size < rows.best_size)
            rows.best = torch.where(per_row(nearer, rows.x), rows.x_adv, rows.best)
            rows.best_grad = torch.where(per_row(nearer, rows.x), rows.grad, rows.best_grad)
            rows.best_size = torch.where(nearer, size, rows.best_size)
            rows.smallest = torch.where(answer.fooled, torch.minimum(size, rows.smallest), rows.smallest)
            rows.found = rows.found | answer.fooled
            rows.fooled = answer.fooled & (answer.loss.to(size.dtype) >= self.confidence * rows.unit)

    @staticmethod
    def _towards_least(rows: Rows, falling: float) -> Tensor:
        """A gradient step on |delta|^2 + c * max(-margin, 0): delta in its unit, the margin as steep as at x."""
        pull = (rows.x_adv - rows.x) * 2
        slope = rows.distance / NORMS["l2"].size(rows.grad.flatten(1)).clamp_min(TINY)
        push = torch.where(rows.fooled, torch.zeros_like(slope), rows.weight * slope)
        ahead = rows.x_adv - (pull - rows.grad * per_row(push, pull)) * (0.25 * falling)
        return _in_box(rows, ahead)

    @staticmethod
    def _towards_tau(rows: Rows, falling: float) -> Tensor:
        """A step of signs up the margin, and back down where a coordinate exceeds tau."""
        tau = per_row(rows.weight * rows.distance, rows.x)
        delta = rows.x_adv - rows.x
        excess = (delta.abs() - tau).clamp_min(0) * delta.sign()
        push = torch.where(per_row(rows.fooled, delta), torch.zeros_like(delta), rows.grad.sign())
        return _in_box(rows, rows.x_adv - excess + push * tau * (0.5 * falling))


def _in_box(rows: Rows, z: Tensor) -> Tensor:
    return z.flatten(1).clamp(rows.threat.low, rows.threat.high).view_as(z)
