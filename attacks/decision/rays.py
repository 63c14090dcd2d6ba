"""RayS: the sign vector along which the boundary is nearest, by flipping blocks of signs (arXiv 2006.12792)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..card import Card
from ..errors import InputError
from ..loop import Search, Until
from ..rows import Rows
from ..victim import Access, decision


@dataclass(frozen=True)
class RayS:
    """RayS (arXiv 2006.12792): flip the signs of one block after the other, of halves, quarters and so on.

    A flip is kept if the row is still fooled at the radius found so far; the radius along the new signs is then
    halved down to `tolerance` of the box. Rows go on independently: while one narrows its radius down, another tries
    its next block. The radius starts at the furthest corner of the bounds, also where eps is smaller.
    """

    until: ClassVar[Until] = "smallest"
    card: ClassVar = Card(Access.DECISION, norms=("linf",), eps="finite", targeted=False)

    queries: int = 5000
    tolerance: float = 0.001

    def __post_init__(self):
        if self.queries < 1 or not 0 < self.tolerance < 1:
            raise InputError(
                f"queries={self.queries}, tolerance={self.tolerance}: one query and a tolerance in (0, 1) are needed."
            )

    def search(self, rows: Rows) -> Search:
        features = rows.x[0].numel()
        room = torch.maximum(rows.threat.most - rows.x.flatten(1), rows.x.flatten(1) - rows.threat.least).amax(1)
        rows.finest = room * self.tolerance
        rows.radius = rows.upper = room  # the least known to fool along `signs`; along the signs on trial
        rows.lower = torch.zeros_like(room)
        rows.signs = rows.tried = torch.ones_like(rows.x).flatten(1)
        rows.level, rows.block = torch.zeros_like(rows.index), torch.zeros_like(rows.index)
        rows.narrowing = torch.zeros_like(rows.index, dtype=torch.bool)
        for _ in range(self.queries):
            rows.asked = torch.where(rows.narrowing, (rows.lower + rows.upper) / 2, rows.radius)
            answer = yield decision(self._point(rows))
            self._narrow(rows, answer.fooled)
            self._next_block(rows, features)

    @staticmethod
    def _point(rows: Rows) -> Tensor:
        x, threat = rows.x.flatten(1), rows.threat
        return (x + rows.tried * rows.asked[:, None]).clamp(threat.least, threat.most).view_as(rows.x)

    @staticmethod
    def _narrow(rows: Rows, fooled: Tensor) -> None:
        """A trial that fooled becomes the best, and its radius is halved until the interval is fine enough."""
        starts = fooled & ~rows.narrowing
        rows.signs = torch.where(starts[:, None], rows.tried, rows.signs)
        rows.upper = torch.where(fooled, rows.asked, rows.upper)
        rows.radius = torch.where(fooled, rows.asked, rows.radius)
        lower = torch.where(rows.narrowing & ~fooled, rows.asked, rows.lower)
        rows.lower = torch.where(starts, torch.zeros_like(lower), lower)
        rows.narrowing = (starts | rows.narrowing) & (rows.upper - rows.lower > rows.finest)

    @staticmethod
    def _next_block(rows: Rows, features: int) -> None:
        """Rows that are done with a trial put the next block's signs on trial; after the last, blocks half as long."""
        count = torch.pow(2, rows.level)
        length = -(-features // count)
        first = (rows.block * length)[:, None]
        at = torch.arange(features, device=rows.x.device)
        flipped = torch.where((at >= first) & (at < first + length[:, None]), -rows.signs, rows.signs)
        free = ~rows.narrowing
        rows.tried = torch.where(free[:, None], flipped, rows.tried)
        block = rows.block + free
        last = block * length >= features
        deepest = length <= 1
        rows.level = torch.where(last, torch.where(deepest, torch.zeros_like(rows.level), rows.level + 1), rows.level)
        rows.block = torch.where(last, torch.zeros_like(block), block)
