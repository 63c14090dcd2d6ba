"""Fast adaptive boundary attack: step on the linearised boundary, leaning towards the input (arXiv 1907.02044)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .. import hyperplanes, losses
from ..card import Card
from ..errors import InputError
from ..loop import Search, Until
from ..norms import TINY, per_row, row_sum
from ..rows import Rows
from ..victim import Answer, decision, gradient
from .rival import towards_nearest


@dataclass(frozen=True)
class FAB:
    """FAB (arXiv 1907.02044), for L-inf, L2 and L1.

    Each step projects the point and the input onto the boundary, linearised at the point, within the box, goes a little
    beyond both and mixes them; a point that has crossed is first drawn back towards the input by `beta`. The line from
    the input to the best point is halved at the end. Restarts set out from a random point half as far as the best.

    Departures: the wrong class that is nearest from the input is found once, by `rivals` gradients, and after that each
    step costs the one gradient of the margin where the paper takes one per class; and a point that has crossed lends
    its own linearisation, which spares the second pass at the point drawn back.
    """

    until: ClassVar[Until] = "smallest"
    card: ClassVar = Card(norms=("linf", "l2", "l1"))

    steps: int = 100
    restarts: int = 1
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9
    halvings: int = 4
    rivals: int = 9

    def __post_init__(self):
        if self.steps < 1 or self.restarts < 1 or self.rivals < 1 or self.halvings < 0:
            raise InputError(
                f"steps={self.steps}, restarts={self.restarts}, rivals={self.rivals}, halvings={self.halvings}: FAB "
                "needs one of each, and no negative number of halvings."
            )
        if not (0 <= self.alpha_max <= 1 and self.eta >= 1 and 0 <= self.beta <= 1):
            raise InputError(
                f"alpha_max={self.alpha_max}, eta={self.eta}, beta={self.beta}: alpha_max and beta from 0 to 1 and an "
                "eta of at least 1 are needed."
            )

    def search(self, rows: Rows) -> Search:
        rows.best = rows.x
        rows.smallest = torch.full_like(rows.threat.radius, torch.inf)
        for start in range(self.restarts):
            rows.x_adv = rows.x if start == 0 else self._random_start(rows)
            for step in range(self.steps):
                answer = yield gradient(rows.x_adv, losses.margin)
                self._remember(rows, answer)
                rows.x_adv = self._step(rows, answer, self.rivals if start == step == 0 else 1)
        rows.near, rows.far = torch.zeros_like(rows.smallest), torch.ones_like(rows.smallest)
        for _ in range(self.halvings):
            rows.middle = (rows.near + rows.far) / 2
            answer = yield decision(rows.x + (rows.best - rows.x) * per_row(rows.middle, rows.x))
            rows.far = torch.where(answer.fooled, rows.middle, rows.far)
            rows.near = torch.where(answer.fooled, rows.near, rows.middle)

    @staticmethod
    def _remember(rows: Rows, answer: Answer) -> None:
        size = rows.threat.norm.size((rows.x_adv - rows.x).flatten(1))
        better = answer.fooled & (size < rows.smallest)
        rows.best = torch.where(per_row(better, rows.x), rows.x_adv, rows.best)
        rows.smallest = torch.where(better, size, rows.smallest)

    def _step(self, rows: Rows, answer: Answer, rivals: int) -> Tensor:
        normal, margin = towards_nearest(answer, rows, rivals)
        normal, margin = normal.flatten(1), margin.to(rows.x.dtype)
        x, at = rows.x.flatten(1), rows.x_adv.flatten(1)
        back = torch.where(answer.fooled[:, None], x + self.beta * (at - x), at)

        def onto_boundary(point: Tensor) -> tuple[Tensor, Tensor]:
            """From the point to the boundary, overshot; and how far that is [b]."""
            threat = rows.threat
            rise = -margin - row_sum(normal * (point - at))
            z, _ = hyperplanes.nearest(threat.norm.name, point, normal, rise, threat.low, threat.high)
            return point + self.eta * (z - point), threat.norm.size(z - point)

        from_back, far = onto_boundary(back)
        from_x, farther = onto_boundary(x)
        alpha = (far / (far + farther).clamp_min(TINY)).clamp_max(self.alpha_max)[:, None]
        mixed = (1 - alpha) * from_back + alpha * from_x
        return mixed.clamp(rows.threat.low, rows.threat.high).view_as(rows.x)

    @staticmethod
    def _random_start(rows: Rows) -> Tensor:
        x, threat = rows.x.flatten(1), rows.threat
        drawn = rows.uniform(*rows.x.shape[1:]).flatten(1)
        within = torch.minimum(rows.smallest, threat.radius) / 2
        start = threat.norm.reach(x, drawn, within, threat.low, threat.high)
        return start.clamp(threat.low, threat.high).view_as(rows.x)
