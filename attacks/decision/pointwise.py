"""Pointwise attack: from salt and pepper noise, put back every value that is not needed (arXiv 1805.09190)."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..card import Card
from ..errors import InputError
from ..loop import Search, Until
from ..norms import per_row
from ..rows import Rows
from ..victim import Access, decision


@dataclass(frozen=True)
class Pointwise:
    """The pointwise attack (arXiv 1805.09190), for L0.

    A row starts from the weakest of `starts` draws of salt and pepper that fools it, each with a larger share of the
    values at a bound. Then values are put back, in random order, a block at a time; a block that is needed is halved
    and tried again, so that hundreds of idle values go in one query where the paper resets one by one.
    """

    until: ClassVar[Until] = "smallest"
    card: ClassVar = Card(Access.DECISION, norms=("l0",), targeted=False)

    queries: int = 2000
    starts: int = 20

    def __post_init__(self):
        if self.queries < 1 or self.starts < 1:
            raise InputError(f"queries={self.queries}, starts={self.starts}: at least one of each is needed.")

    def search(self, rows: Rows) -> Search:
        yield from self._start(rows)
        features = rows.x[0].numel()
        rows.order = rows.uniform(features, low=0.0, high=1.0).argsort(dim=1, stable=True)
        rows.place = rows.order.argsort(dim=1)  # [b, d]: where each value stands in the row's order
        rows.at = torch.zeros_like(rows.index)
        rows.block = torch.full_like(rows.index, max(1, features // 4))
        for _ in range(self.queries):
            rows.reset = (rows.place >= rows.at[:, None]) & (rows.place < (rows.at + rows.block)[:, None])
            rows.tried = torch.where(rows.reset.view_as(rows.x), rows.x, rows.x_adv)
            answer = yield decision(rows.tried)
            free = answer.fooled & rows.started
            rows.x_adv = torch.where(per_row(free, rows.x), rows.tried, rows.x_adv)
            alone = rows.block == 1
            moves = free | alone
            at = torch.where(moves, rows.at + rows.block, rows.at)
            rows.block = torch.where(free, rows.block * 2, (rows.block // 2).clamp_min(1)).clamp_max(features)
            rows.at = torch.where(at >= features, torch.zeros_like(at), at)

    def _start(self, rows: Rows) -> Search:
        """rows.x_adv: salt and pepper of the least share that fools; rows.started [b]: whether any did."""
        rows.x_adv = rows.x
        rows.started = torch.zeros_like(rows.index, dtype=torch.bool)
        rows.luck = rows.uniform(*rows.x.shape[1:], low=0.0, high=1.0)
        rows.side = rows.uniform(*rows.x.shape[1:])
        for k in range(1, self.starts + 1):
            low, high = (bound.view_as(rows.x) for bound in (rows.threat.least, rows.threat.most))
            noisy = torch.where(rows.side < 0, low, high)
            rows.tried = torch.where(rows.luck < k / self.starts, noisy, rows.x)
            answer = yield decision(rows.tried)
            first = answer.fooled & ~rows.started
            rows.x_adv = torch.where(per_row(first, rows.x), rows.tried, rows.x_adv)
            rows.started = rows.started | first
