"""Square attack (Andriushchenko et al. 2020, arXiv 1912.00049), for L-inf and L2, and for L1 (arXiv 2103.01208)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .. import losses
from ..card import Card
from ..errors import InputError
from ..images import window
from ..loop import Search
from ..norms import per_row, row_sum
from ..rows import Rows
from ..victim import Access, scores

MILESTONES = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries: there the squares' area halves
DRAWN_AT_ONCE = 64

SquareStart = Callable[[Rows], tuple[Tensor, Tensor]]  # points [b, ...], and [b] bool where to begin as published


@dataclass(frozen=True)
class Square:
    """Random search: change one random square at a time, keep it unless the loss fell. Inputs are [b, C, H, W].

    start: where to begin; else as published.

    L-inf recolours the square with +-eps, in the opposite colour where it has that one; L2 and L1 move the norm of one
    square, and what the budget leaves, into another. A change that leaves the loss as it is, is kept too (as published
    it is not): so the search wanders over the plateaus of models that round or saturate.
    """

    card: ClassVar = Card(Access.SCORES, norms=("linf", "l2", "l1"), eps="finite", images=True)

    queries: int = 5000
    first_share: float = 0.8  # of the pixels, in the first square
    start: SquareStart | None = None
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
            better = answer.loss >= rows.best
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
        colour = _sign(luck[:, 4 : 4 + rows.x.shape[1]]) * rows.threat.radius[:, None]
        return rows.threat.recoloured(rows.x_adv, luck[:, :2], side, colour)

    # -- L2 and L1 --

    def _tiles(self, rows: Rows) -> Tensor:
        """Little hills of random sign, as far as the ball goes; in L1 their tops alone, of norm 1 each."""
        _, channels, height, width = rows.x.shape
        tile = max(1, min(height, width) // 5)
        signs = _sign(rows.uniform(channels, -(-height // tile), -(-width // tile), low=0.0, high=1.0))
        signs = signs.repeat_interleave(tile, 2).repeat_interleave(tile, 3)[:, :, :height, :width]
        power = 2 if rows.threat.norm.name == "l2" else 1
        hill = _hills(tile, rows.x, power)
        hills = hill.repeat(-(-height // tile), -(-width // tile))[:height, :width]
        return rows.threat.reach(signs * hills) if power == 2 else rows.threat.project(rows.x + signs * hills)

    @staticmethod
    def _moved(rows: Rows, side: int, luck: Tensor) -> Tensor:
        """The norm in square `there` and the budget not yet used go into a hill on square `here`, per channel."""
        _, channels, height, width = rows.x.shape
        side = min(max(side, 3) | 1, height, width)  # odd, for a hill with a summit, and more than one pixel
        power = 2 if rows.threat.norm.name == "l2" else 1
        delta = (rows.x_adv - rows.x).flatten(2)
        here, there = (window(luck[:, k], luck[:, k + 1], side, height, width).expand(-1, channels, -1) for k in (0, 2))
        unused = (rows.threat.radius**power - row_sum(_powered(delta.flatten(1), power))).clamp_min(0) / channels
        inside = delta.gather(2, here)
        delta = delta.scatter(2, here, 0.0)
        within = _sums(_powered(inside, power))
        goal = _rooted(within + _sums(_powered(delta.gather(2, there), power)) + unused[:, None, None], power)
        hill = _hills(side, rows.x, power)
        lying = torch.where(luck[:, 4 + channels, None] < 0.5, hill.flatten(), hill.T.flatten())[:, None]
        hill = lying * _sign(luck[:, 4 : 4 + channels])[:, :, None]
        new = hill + inside / _rooted(within, power).clamp_min(1e-12)
        size = _rooted(_sums(_powered(new, power)), power)
        # A hill on the same hill of the other sign: then the new one alone, lest norm be lost.
        new = torch.where(size < 1e-3, hill, new / size.clamp_min(1e-12)) * goal
        if power == 1:
            new = new * channels  # more than there is to spend: the projection then drops what is small, everywhere
        delta = delta.scatter_(2, there, 0.0).scatter_(2, here, new)
        return rows.threat.project(rows.x + delta.view_as(rows.x))


def _powered(values: Tensor, power: int) -> Tensor:
    return values.square() if power == 2 else values.abs()


def _rooted(values: Tensor, power: int) -> Tensor:
    return values.sqrt() if power == 2 else values


def _sums(values: Tensor) -> Tensor:
    """[b, C, n] -> [b, C, 1]."""
    return row_sum(values.flatten(0, 1)).view(*values.shape[:2], 1)


def _sign(uniform: Tensor) -> Tensor:
    """+-1 from numbers in [0, 1)."""
    return (uniform >= 0.5).to(uniform.dtype) * 2 - 1


def _hills(side: int, like: Tensor, power: int) -> Tensor:
    """[side, side], of L1 or L2 norm 1 (`power`): a hill on the upper half and a hollow on the lower, of equal norm."""
    hill, hollow = _hill(side // 2, side, like, power), _hill(side - side // 2, side, like, power)
    both = torch.cat((hill, -hollow))
    return both / _rooted(_powered(both, power).sum(), power)


def _hill(height: int, width: int, like: Tensor, power: int) -> Tensor:
    """[height, width], of norm 1: falls from the middle over nested squares, by 1 / k^2, in L1 by 1 / k^4."""
    y, x = (torch.arange(n, device=like.device) - n // 2 for n in (height, width))
    ring = torch.maximum(y.abs()[:, None], x.abs())
    steps = torch.arange(max(height, width) // 2 + 1, 0, -1, device=like.device, dtype=like.dtype)
    heights = (1 / steps ** (2 if power == 2 else 4)).cumsum(0).flip(0)
    hill = heights[ring]
    return hill / _rooted(_powered(hill, power).sum(), power).clamp_min(1e-12)
