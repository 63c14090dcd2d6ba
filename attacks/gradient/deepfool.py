"""DeepFool and SuperDeepFool: walk to the nearest boundary as if it were flat (arXiv 1511.04599, 2303.12481)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .. import hyperplanes, losses
from ..card import Card
from ..errors import InputError
from ..loop import Search, Until
from ..norms import per_row, row_sum
from ..rows import Rows
from ..victim import decision, gradient
from .rival import towards_nearest


@dataclass(frozen=True)
class DeepFool:
    """DeepFool (arXiv 1511.04599; L2, L-inf, L1), and with `project` SuperDeepFool (arXiv 2303.12481).

    Each step goes to the boundary linearised at the point, within the box, and `overshoot` of the way further, at each
    step that much more. A row that has crossed halves the line back to x or, with `project`, moves to where the
    boundary linearised at its point comes nearest to x, which the last of the line's halvings then tightens.

    Departures: the first `cautious` steps go half of the way. To make up for what the box cuts off they are longer than
    the paper's, and one such step from x often lands far beyond the boundary. The nearest of the wrong classes is found
    at x, by `rivals` gradients, and followed from there by the gradient of the margin; the paper takes the gradients of
    all classes at every step. The paper stops beyond the boundary by its overshoot; here the point is drawn back to it.
    """

    until: ClassVar[Until] = "smallest"
    card: ClassVar = Card(norms=("l2", "linf", "l1"))

    steps: int = 12
    cautious: int = 3
    overshoot: float = 0.02
    halvings: int = 4
    rivals: int = 9
    project: bool = False

    def __post_init__(self):
        if min(self.cautious, self.halvings, self.overshoot) < 0 or self.rivals < 1 or self.steps <= self.cautious:
            raise InputError(
                f"steps={self.steps}, cautious={self.cautious}, rivals={self.rivals}, halvings={self.halvings}, "
                f"overshoot={self.overshoot}: more steps than cautious ones, one rival and no negative number are "
                "needed."
            )

    def search(self, rows: Rows) -> Search:
        rows.x_adv = rows.end = rows.x
        rows.smallest = torch.full_like(rows.threat.radius, torch.inf)
        rows.near, rows.far = torch.zeros_like(rows.smallest), torch.ones_like(rows.smallest)
        rows.on_line = torch.zeros_like(rows.smallest, dtype=torch.bool)
        for step in range(self.steps):
            answer = yield gradient(rows.x_adv, losses.margin)
            self._learn(rows, answer.fooled)
            normal, margin = towards_nearest(answer, rows, 1 if step else self.rivals)
            ahead = self._to_boundary(rows, normal, margin, rows.x_adv, self._share(step))
            if self.project:
                back = self._to_boundary(rows, normal, margin, rows.x, 1.0)
                rows.x_adv = torch.where(per_row(answer.fooled, rows.x), back, ahead)
            else:
                self._halve(rows, ahead)
        answer = yield decision(rows.x_adv)
        self._learn(rows, answer.fooled)
        for _ in range(self.halvings):
            self._halve(rows, rows.x_adv)
            answer = yield decision(rows.x_adv)
            self._learn(rows, answer.fooled)

    def _share(self, step: int) -> float:
        """How much of the way to the boundary that step goes."""
        return 0.5 if step < self.cautious else 1 + self.overshoot * (step - self.cautious + 1)

    @staticmethod
    def _learn(rows: Rows, fooled: Tensor) -> None:
        """The point asked about halves the line from x to its end, or is a smaller success: the end of a new line."""
        middle = (rows.near + rows.far) / 2
        rows.far = torch.where(rows.on_line & fooled, middle, rows.far)
        rows.near = torch.where(rows.on_line & ~fooled, middle, rows.near)
        size = rows.threat.norm.size((rows.x_adv - rows.x).flatten(1))
        new = fooled & ~rows.on_line & (size < rows.smallest)
        rows.end = torch.where(per_row(new, rows.x), rows.x_adv, rows.end)
        rows.smallest = torch.where(new, size, rows.smallest)
        rows.near, rows.far = rows.near.masked_fill(new, 0.0), rows.far.masked_fill(new, 1.0)

    @staticmethod
    def _halve(rows: Rows, otherwise: Tensor) -> None:
        """Ask next about the middle of the line, where there is one."""
        rows.on_line = rows.smallest.isfinite()
        middle = rows.x + (rows.end - rows.x) * per_row((rows.near + rows.far) / 2, rows.x)
        rows.x_adv = torch.where(per_row(rows.on_line, rows.x), middle, otherwise)

    @staticmethod
    def _to_boundary(rows: Rows, normal: Tensor, margin: Tensor, point: Tensor, times: float) -> Tensor:
        """From `point` that many times as far as the boundary linearised at x_adv, in the box."""
        threat, at, point = rows.threat, rows.x_adv.flatten(1), point.flatten(1)
        normal = normal.flatten(1)
        rise = times * (-margin.to(normal.dtype) - row_sum(normal * (point - at)))
        z, _ = hyperplanes.nearest(threat.norm.name, point, normal, rise, threat.low, threat.high)
        return z.view_as(rows.x)


def superdeepfool(steps: int = 20, halvings: int = 7, rivals: int = 9) -> DeepFool:
    """SuperDeepFool (arXiv 2303.12481): each crossing is followed by a projection onto the boundary's normal."""
    return DeepFool(steps, cautious=0, halvings=halvings, rivals=rivals, project=True)
