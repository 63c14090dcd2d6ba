"""HopSkipJump: the boundary's normal from decisions at random points beside it (arXiv 1904.02144)."""

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch

from ..card import Card
from ..errors import InputError
from ..loop import Search, Until
from ..norms import NORMS, TINY, per_row
from ..rows import Rows
from ..victim import Access, Answer, Query, decision
from .pieces import find_start, to_boundary, tries_at_once


@dataclass(frozen=True)
class HopSkipJump:
    """HopSkipJump (arXiv 1904.02144), for L2 and L-inf, with at most `queries` forwards.

    From a point on the boundary: estimate the normal by `evaluations` * sqrt(round) decisions, step along it as far as
    still fools (steps are halved), go back to the boundary towards x. All of a round's decisions are asked together.

    Departures: the paper asks at 1/d of the distance, where few differences are left in float32; and it begins with 100
    evaluations, which end no closer with 2,000 queries and further off with 300 (MNIST).
    """

    until: ClassVar[Until] = "smallest"
    card: ClassVar = Card(Access.DECISION, norms=("l2", "linf"), eps="finite", targeted=False)

    queries: int = 5000
    evaluations: int = 30
    halvings: int = 10
    starts: int = 40
    width: float = 0.01  # how far from the boundary decisions are asked, of the distance to x in L2
    steps: int = 6  # lengths of a step that are tried, each half the last

    def __post_init__(self):
        if min(self.queries, self.evaluations, self.starts, self.steps, self.halvings) < 1 or not self.width > 0:
            raise InputError(
                f"queries={self.queries}, evaluations={self.evaluations}, halvings={self.halvings}, "
                f"starts={self.starts}, steps={self.steps}, width={self.width}: one of each and a positive width are "
                "the least."
            )

    def search(self, rows: Rows) -> Search:
        yield from find_start(rows, self.starts)
        for part in self.rounds(rows, self.starts):
            yield from part

    def rounds(self, rows: Rows, spent: int = 0) -> Iterator[Search]:
        """From rows.x_adv, which fools, to the boundary, and each round from there; rows.x_adv holds what each found.

        spent: forwards that each row has cost already.
        """
        yield to_boundary(rows, self.halvings)
        spent += self.halvings
        for round_ in range(1, self.queries + 1):
            evaluations = int(self.evaluations * math.sqrt(round_))
            spent += evaluations + self.steps + self.halvings
            if spent > self.queries:
                return
            yield self._round(rows, round_, evaluations)

    def _round(self, rows: Rows, round_: int, evaluations: int) -> Search:
        yield from self._normal(rows, evaluations)
        yield from self._step(rows, round_)
        yield from to_boundary(rows, self.halvings)
        self._keep_smaller(rows)

    def _normal(self, rows: Rows, evaluations: int) -> Generator[Query, Answer, None]:
        """rows.normal_ [b, ...]: the mean of the unit directions that lead beyond the boundary, less the rest's."""
        rows.best, rows.best_size = rows.x_adv, rows.threat.norm.size((rows.x_adv - rows.x).flatten(1))
        rows.width = NORMS["l2"].size((rows.x_adv - rows.x).flatten(1)) * self.width
        rows.beyond, rows.total = torch.zeros_like(rows.x), torch.zeros_like(rows.x)
        rows.count = torch.zeros_like(rows.threat.radius)
        asked, some = 0, tries_at_once(rows)
        while asked < evaluations:
            count = min(some, evaluations - asked)
            asked += count
            drawn = rows.normal(count, *rows.x.shape[1:])
            flat = drawn.flatten(2)
            size = torch.linalg.vector_norm(flat, dim=2).clamp_min(TINY)
            rows.drawn = (flat / size[:, :, None]).view_as(drawn)  # [b, q, ...]
            low, high = (bound.view_as(rows.x) for bound in (rows.threat.least, rows.threat.most))
            points = rows.x_adv + rows.drawn.transpose(0, 1) * per_row(rows.width, rows.x)
            points = torch.minimum(torch.maximum(points, low), high)
            rows.drawn = (points - rows.x_adv).transpose(0, 1)
            answer = yield decision(points, many=True)
            for k, fooled in enumerate(answer.fooled):
                rows.beyond = rows.beyond + rows.drawn[:, k] * per_row(fooled.to(rows.x.dtype), rows.x)
                rows.total = rows.total + rows.drawn[:, k]
                rows.count = rows.count + fooled.to(rows.x.dtype)
        share = rows.count / evaluations  # the paper's baseline: the mean of the decisions, as +-1
        rows.normal_ = rows.beyond - rows.total * per_row(share, rows.x)
        one_sided = (share == 0) | (share == 1)
        sign = torch.where(share == 0, -1.0, 1.0).to(rows.x.dtype)
        rows.normal_ = torch.where(per_row(one_sided, rows.x), rows.total * per_row(sign, rows.x), rows.normal_)

    def _step(self, rows: Rows, round_: int) -> Generator[Query, Answer, None]:
        """rows.x_adv: from the boundary along the normal by the longest of the halved steps that fools."""
        if rows.threat.norm.name == "linf":
            rows.direction = rows.normal_.sign()
        else:
            size = NORMS["l2"].size(rows.normal_.flatten(1)).clamp_min(TINY)
            rows.direction = rows.normal_ / per_row(size, rows.x)
        rows.length = rows.best_size / math.sqrt(round_)
        low, high = (bound.view_as(rows.x) for bound in (rows.threat.least, rows.threat.most))
        lengths = [rows.length * 0.5**k for k in range(self.steps)]
        ahead = [rows.x_adv + rows.direction * per_row(length, rows.x) for length in lengths]
        points = torch.minimum(torch.maximum(torch.stack(ahead), low), high)
        rows.ahead = points.transpose(0, 1)
        answer = yield decision(points, many=True)
        for k in reversed(range(len(answer.fooled))):
            rows.x_adv = torch.where(per_row(answer.fooled[k], rows.x), rows.ahead[:, k], rows.x_adv)

    @staticmethod
    def _keep_smaller(rows: Rows) -> None:
        size = rows.threat.norm.size((rows.x_adv - rows.x).flatten(1))
        rows.x_adv = torch.where(per_row(size < rows.best_size, rows.x), rows.x_adv, rows.best)
