"""Square attack (Andriushchenko et al. 2020, arXiv 1912.00049), for L-inf and L2, and for L1 (arXiv 2103.01208)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .. import losses
from ..card import Card
from ..errors import InputError
from ..loop import Search
from ..norms import per_row, row_sum
from ..rows import Rows
from ..victim import Access, scores

MILESTONES = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries: there the squares' area halves
DRAWN_AT_ONCE = 64


@dataclass(frozen=True)
class Square:
    """Random search: change one random square at a time, keep it where the loss rose. Inputs are [b, C, H, W].

    start: the points [b, ...] to begin with, and [b] bool where to begin as published all the same.

    L-inf recolours the square with +-eps; L2 and L1 move the norm of one square, and what the budget leaves, into
    another.
    """

    card: ClassVar = Card(Access.SCORES, norms=("linf", "l2", "l1"), eps="finite", images=True)

    queries: int = 5000
    first_share: float = 0.8  # of the pixels, in the first square
    start: Callable[[Rows], tuple[Tensor, Tensor]] | None = None
    loss: str | losses.Loss = "margin"

    def __post_init__(self):
        losses.named(self.loss)
        if self.queries < 1:
            raise InputError(f"queries={self.queries}: Square needs at least one.")

    def search(self, rows: Rows) -> Search:
        linf = rows.threat.norm.name == "linf"
        propose = self._recoloured if linf else self._moved
        rows.x_adv = self._stripes(rows) if linf else self._tiles(rows)
        if self.start is not None:
            points, unless = self.start(rows)
            rows.x_adv = torch.where(per_row(unless, points), rows.x_adv, points)
        loss = losses.named(self.loss)
        answer = yield scores(rows.x_adv, loss)
        rows.best = answer.loss
        for query in range(1, self.queries):
            if query % DRAWN_AT_ONCE == 1 or query == 1:
                rows.luck = rows.uniform(DRAWN_AT_ONCE, 4 + 2 * rows.x.shape[1], low=0.0, high=1.0)
            luck = rows.luck[:, (query - 1) % DRAWN_AT_ONCE]
            rows.tried = propose(rows, self.side(query, *rows.x.shape[2:]), luck)
            answer = yield scores(rows.tried, loss)
            better = answer.loss > rows.best
            rows.best = torch.where(better, answer.loss, rows.best)
            rows.x_adv = torch.where(per_row(better, rows.x), rows.tried, rows.x_adv)

    def side(self, query: int, height: int, width: int) -> int:
        """The square's side: its share of the pixels halves at the milestones, stretched to our number of queries."""
        share = self.first_share / 2 ** sum(query / self.queries * 10_000 > m for m in MILESTONES)
        return min(max(1, round((share * height * width) ** 0.5)), height, width)

    # -- L-inf --

    @staticmethod
    def _stripes(rows: Rows) -> Tensor:
        """Vertical stripes of +-eps, one wide."""
        _, channels, _, width = rows.x.shape
        stripes = _sign(rows.uniform(channels, 1, width, low=0.0, high=1.0))
        return rows.threat.project(rows.x + stripes * per_row(rows.threat.radius, rows.x))

    @staticmethod
    def _recoloured(rows: Rows, side: int, luck: Tensor) -> Tensor:
        _, channels, height, width = rows.x.shape
        inside = _square(luck[:, 0], luck[:, 1], side, height, width)
        colour = _sign(luck[:, 4 : 4 + channels])[:, :, None, None] * per_row(rows.threat.radius, rows.x)
        return rows.threat.project(torch.where(inside, rows.x + colour, rows.x_adv))

    # -- L2 and L1 --

    def _tiles(self, rows: Rows) -> Tensor:
        """A grid of little hills of random sign, taken as far as the ball goes."""
        _, channels, height, width = rows.x.shape
        tile = max(1, min(height, width) // 5)
        signs = _sign(rows.uniform(channels, -(-height // tile), -(-width // tile), low=0.0, high=1.0))
        signs = signs.repeat_interleave(tile, 2).repeat_interleave(tile, 3)[:, :, :height, :width]
        hill = _hill(tile, rows.x, 2)
        hills = hill.repeat(-(-height // tile), -(-width // tile))[:height, :width]
        return rows.threat.reach(signs * hills)

    @staticmethod
    def _moved(rows: Rows, side: int, luck: Tensor) -> Tensor:
        """The norm in square `there` and the budget not yet used go into a hill on square `here`, per channel."""
        _, channels, height, width = rows.x.shape
        side = min(max(side, 3) | 1, height, width)  # odd, for a hill with a summit, and more than one pixel
        power = 2 if rows.threat.norm.name == "l2" else 1
        delta = rows.x_adv - rows.x
        here = _square(luck[:, 0], luck[:, 1], side, height, width)
        there = _square(luck[:, 2], luck[:, 3], side, height, width)
        budget = rows.threat.radius**power
        unused = (budget - row_sum(_powered(delta, power).flatten(1))).clamp_min(0) / channels
        window = _powered(delta * (here | there), power).sum((2, 3))  # [b, C]
        goal = _rooted(window + unused[:, None], power)
        size_here = _rooted(_powered(delta * here, power).sum((2, 3)), power)
        hill = _hill_on(here, side, rows.x, power) * _sign(luck[:, 4 : 4 + channels])[:, :, None, None]
        new = hill + delta * here / per_row_channel(size_here.clamp_min(1e-12))
        size = per_row_channel(_rooted(_powered(new, power).sum((2, 3)), power))
        cancelled = size < 1e-3  # a hill on the same hill of the other sign: then the new one alone, lest norm be lost
        new = torch.where(cancelled, hill, new / size.clamp_min(1e-12)) * per_row_channel(goal)
        return rows.threat.project(rows.x + torch.where(here, new, torch.where(there, 0.0, delta)))


def _powered(values: Tensor, power: int) -> Tensor:
    return values.square() if power == 2 else values.abs()


def _rooted(values: Tensor, power: int) -> Tensor:
    return values.sqrt() if power == 2 else values


def per_row_channel(values: Tensor) -> Tensor:
    """[b, C] -> [b, C, 1, 1]."""
    return values[:, :, None, None]


def _sign(uniform: Tensor) -> Tensor:
    """+-1 from numbers in [0, 1)."""
    return (uniform >= 0.5).to(uniform.dtype) * 2 - 1


def _square(top: Tensor, left: Tensor, side: int, height: int, width: int) -> Tensor:
    """[b, 1, H, W] bool: a square of that side per row; top and left are luck [b] in [0, 1)."""
    top = (top * (height - side + 1)).floor()[:, None]
    left = (left * (width - side + 1)).floor()[:, None]
    y = torch.arange(height, device=top.device)
    x = torch.arange(width, device=top.device)
    in_rows = (y >= top) & (y < top + side)  # [b, H]
    in_columns = (x >= left) & (x < left + side)  # [b, W]
    return (in_rows[:, :, None] & in_columns[:, None, :])[:, None]


def _hill(side: int, like: Tensor, power: int) -> Tensor:
    """[side, side], of L1 or L2 norm 1 (`power`): high in the middle and falling by 1 / k^2 over nested rectangles."""
    at = torch.arange(side, device=like.device)
    ring = torch.minimum(torch.minimum(at[:, None], at[None, :]), side - 1 - torch.maximum(at[:, None], at[None, :]))
    deepest = (side + 1) // 2
    falls = 1.0 / torch.arange(deepest, 0, -1, device=like.device, dtype=like.dtype).square()
    hill = falls.cumsum(0)[ring]
    return hill / _rooted(_powered(hill, power).sum(), power)


def _hill_on(square: Tensor, side: int, like: Tensor, power: int) -> Tensor:
    """[b, 1, H, W]: the hill, laid on each row's square."""
    y = square.any(3).long().cumsum(2).squeeze(1) - 1  # [b, H]: place within the square
    x = square.any(2).long().cumsum(2).squeeze(1) - 1
    hill = _hill(side, like, power)
    return hill[y.clamp(0, side - 1)[:, :, None], x.clamp(0, side - 1)[:, None, :]][:, None] * square
