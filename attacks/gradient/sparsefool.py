"""SparseFool: a walk finds the normal of the boundary, along which few coordinates are moved (arXiv 1811.02248)."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from .. import hyperplanes, losses
from ..card import Card
from ..errors import InputError
from ..loop import Search, Until
from ..norms import row_sum
from ..rows import Rows
from ..victim import decision, gradient
from .rival import towards_nearest


@dataclass(frozen=True)
class SparseFool:
    """SparseFool (arXiv 1811.02248), for L0 and L1.

    Each round walks `inner` DeepFool steps in L2 to a point near the boundary, takes the normal there, and moves as few
    coordinates of the point reached so far as bring it `overshoot` times as far, the steepest first, each to its bound.
    """

    until: ClassVar[Until] = "smallest"  # the points of the inner walk are dense
    card: ClassVar = Card(norms=("l0", "l1"))

    steps: int = 20
    inner: int = 3
    overshoot: float = 1.05  # of the way to the hyperplane; the paper's lambda, 3, trades sparsity for speed
    rivals: int = 9  # wrong classes looked at from x, a gradient each

    def __post_init__(self):
        if self.steps < 1 or self.inner < 1 or self.rivals < 1 or not self.overshoot >= 1:
            raise InputError(
                f"steps={self.steps}, inner={self.inner}, rivals={self.rivals}, overshoot={self.overshoot}: at least 1 "
                "of each is needed."
            )

    def search(self, rows: Rows) -> Search:
        rows.x_adv = rows.x
        for step in range(self.steps):
            rows.point = rows.x_adv
            for inner in range(self.inner):
                answer = yield gradient(rows.point, losses.margin)
                grad, margin = towards_nearest(answer, rows, self.rivals if step == inner == 0 else 1)
                self._step(rows, "l2", rows.point.flatten(1), grad.flatten(1), 1.02 * -margin.to(rows.x.dtype))
            answer = yield gradient(rows.point, losses.margin)
            normal = answer.grad().flatten(1)
            margin = answer.loss.to(rows.x.dtype)
            rise = row_sum(normal * (rows.point - rows.x_adv).flatten(1)) - margin
            self._step(rows, "l1", rows.x_adv.flatten(1), normal, self.overshoot * rise)
            rows.x_adv = rows.point
        yield decision(rows.x_adv)

    @staticmethod
    def _step(rows: Rows, norm: str, at: torch.Tensor, normal: torch.Tensor, rise: torch.Tensor) -> None:
        z, _ = hyperplanes.nearest(norm, at, normal, rise, rows.threat.low, rows.threat.high)
        rows.point = z.view_as(rows.x)
