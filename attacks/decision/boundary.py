"""Boundary attack: a random walk along the decision boundary, towards the input (arXiv 1712.04248)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..card import Card
from ..errors import InputError
from ..loop import Search, Until
from ..norms import NORMS, TINY, per_row, row_sum
from ..rows import Rows
from ..victim import Access, decision
from .pieces import find_start, to_boundary


@dataclass(frozen=True)
class Boundary:
    """The Boundary attack (arXiv 1712.04248), for L2, with at most `queries` forwards.

    Each step is a random one on the sphere round x, of a length relative to the distance, followed by one towards x;
    both lengths are fitted to each row's own success, as in the paper: the first so that half of the proposals stay
    adversarial, the second so that a fifth do. `tries` proposals are asked together, and the nearest of those that fool
    is taken.
    """

    until: ClassVar[Until] = "smallest"
    card: ClassVar = Card(Access.DECISION, norms=("l2",), eps="finite", targeted=False)

    queries: int = 5000
    tries: int = 5
    spherical: float = 0.1
    inward: float = 0.1
    adaptation: float = 1.3
    starts: int = 40
    halvings: int = 10

    def __post_init__(self):
        if min(self.queries, self.tries, self.starts) < 1 or self.halvings < 0:
            raise InputError(
                f"queries={self.queries}, tries={self.tries}, starts={self.starts}, halvings={self.halvings}: at least "
                "one query, try and start are needed."
            )
        if not (self.spherical > 0 and self.inward > 0 and self.adaptation > 1):
            raise InputError(
                f"spherical={self.spherical}, inward={self.inward}, adaptation={self.adaptation}: positive steps and "
                "an adaptation above 1 are needed."
            )

    def search(self, rows: Rows) -> Search:
        yield from find_start(rows, self.starts)
        yield from to_boundary(rows, self.halvings)
        rows.around = torch.full_like(rows.threat.radius, self.spherical)
        rows.toward = torch.full_like(rows.threat.radius, self.inward)
        spent = self.starts + self.halvings
        while spent + 2 * self.tries <= self.queries:
            spent += 2 * self.tries
            rows.drawn = rows.normal(self.tries, *rows.x.shape[1:])
            sphere = torch.stack([self._on_sphere(rows, rows.drawn[:, k]) for k in range(self.tries)])
            nearer = torch.stack([self._inside(rows, point) for point in sphere])
            rows.proposed = torch.cat((sphere, nearer)).transpose(0, 1)
            answer = yield decision(rows.proposed.transpose(0, 1), many=True)
            if len(answer.fooled) < 2 * self.tries:
                return  # the budget is spent
            self._take_nearest(rows, answer.fooled)
            self._adapt(rows, answer.fooled)

    @staticmethod
    def _on_sphere(rows: Rows, drawn: Tensor) -> Tensor:
        """A random step at right angles to the way to x, and back to the same distance."""
        delta, drawn = (rows.x_adv - rows.x).flatten(1), drawn.flatten(1)
        size = NORMS["l2"].size(delta).clamp_min(TINY)
        unit = delta / size[:, None]
        drawn = drawn - unit * _dot(drawn, unit)[:, None]
        drawn = drawn / NORMS["l2"].size(drawn).clamp_min(TINY)[:, None]
        turned = unit + drawn * rows.around[:, None]
        turned = turned * (size / NORMS["l2"].size(turned))[:, None]
        return _in_bounds(rows, rows.x + turned.view_as(rows.x))

    @staticmethod
    def _inside(rows: Rows, point: Tensor) -> Tensor:
        return point + (rows.x - point) * per_row(rows.toward.clamp_max(0.9), rows.x)

    @staticmethod
    def _take_nearest(rows: Rows, fooled: Tensor) -> None:
        smallest = NORMS["l2"].size((rows.x_adv - rows.x).flatten(1))
        for k, hit in enumerate(fooled):
            size = NORMS["l2"].size((rows.proposed[:, k] - rows.x).flatten(1))
            better = hit & (size < smallest)
            rows.x_adv = torch.where(per_row(better, rows.x), rows.proposed[:, k], rows.x_adv)
            smallest = torch.where(better, size, smallest)

    def _adapt(self, rows: Rows, fooled: Tensor) -> None:
        on_sphere, nearer = (part.to(rows.x.dtype).sum(0) / self.tries for part in fooled.split(self.tries))
        rows.around = _fitted(rows.around, on_sphere, 0.5, self.adaptation)
        rows.toward = _fitted(rows.toward, nearer, 0.2, self.adaptation).clamp(1e-6, 0.5)


def _fitted(length: Tensor, share: Tensor, wanted: float, by: float) -> Tensor:
    return torch.where(share > wanted, length * by, torch.where(share < wanted, length / by, length)).clamp(1e-6, 2.0)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return row_sum(a * b)


def _in_bounds(rows: Rows, z: Tensor) -> Tensor:
    return z.flatten(1).clamp(rows.threat.least, rows.threat.most).view_as(z)
