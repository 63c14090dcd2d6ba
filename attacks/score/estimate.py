"""Gradient ascent on a gradient that is estimated from scores at random points nearby: NES and SPSA."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from .. import losses
from ..card import Card
from ..errors import InputError
from ..loop import Search
from ..norms import per_row
from ..rows import Rows
from ..victim import Access, Answer, Query, decision, scores

AT_ONCE = 2**18  # numbers of one row's tries that are asked in one pass


@dataclass(frozen=True)
class EstimatedAscent:
    """Each step asks `pairs` pairs x +- width * eps * u and climbs the sum of the u, weighed by their difference.

    What is asked lies inside the threat set (for L-inf; in the bounds for others), so that it may be a success itself.
    A step goes `share` of eps along the momentum of the estimates, steepest in the threat's norm; both papers step by
    fixed lengths in the units of their images instead.
    """

    card: ClassVar = Card(Access.SCORES, norms=("linf", "l2"), eps="finite")

    directions: Literal["normal", "signs"] = "normal"
    steps: int = 100
    pairs: int = 25
    width: float = 0.1
    share: float = 0.1
    decay: float = 0.5
    loss: str | losses.Loss = "margin"

    def __post_init__(self):
        losses.named(self.loss)
        if self.directions not in ("normal", "signs"):
            raise InputError(f"directions={self.directions!r}: normal or signs is needed.")
        if self.steps < 1 or self.pairs < 1 or not (self.width > 0 and self.share > 0 and 0 <= self.decay < 1):
            raise InputError(
                f"steps={self.steps}, pairs={self.pairs}, width={self.width}, share={self.share}, decay={self.decay}: "
                "at least one step and one pair, a positive width and share and a decay from 0 to below 1 are needed."
            )

    def search(self, rows: Rows) -> Search:
        rows.x_adv = rows.x
        rows.momentum = torch.zeros_like(rows.x)
        for step in range(1, self.steps + 1):
            estimate = yield from self._estimate(rows)
            largest = estimate.flatten(1).abs().amax(1).clamp_min(torch.finfo(estimate.dtype).tiny)
            rows.momentum = rows.momentum * self.decay + estimate / per_row(largest, estimate)
            length = rows.threat.radius * self.share
            rows.x_adv = rows.threat.step(rows.x_adv, rows.momentum, length, progress=step / self.steps)
        yield decision(rows.x_adv)

    def _estimate(self, rows: Rows) -> Generator[Query, Answer, Tensor]:
        """[b, ...]: sum over the directions u of (loss(x + width u) - loss(x - width u)) u."""
        rows.estimate = torch.zeros_like(rows.x)
        left, most = self.pairs, max(1, AT_ONCE // (2 * rows.x[0].numel()))
        while left:
            some = min(left, most)
            left -= some
            rows.drawn = self._directions(rows, some)  # [b, some, ...]
            apart = rows.drawn.transpose(0, 1) * per_row(rows.threat.radius * self.width, rows.x)
            low, high = (bound.view_as(rows.x) for bound in (rows.threat.low, rows.threat.high))
            asked = torch.cat((rows.x_adv + apart, rows.x_adv - apart)).clamp(low, high)
            answer = yield scores(asked, losses.named(self.loss), many=True)
            if len(answer.fooled) < 2 * some:
                return rows.estimate  # no more tries could be paid for: the budget is spent
            gained = (answer.loss[:some] - answer.loss[some:]).to(rows.x.dtype)
            for i in range(some):
                rows.estimate = rows.estimate + rows.drawn[:, i] * per_row(gained[i], rows.x)
        return rows.estimate

    def _directions(self, rows: Rows, count: int) -> Tensor:
        shape = (count, *rows.x.shape[1:])
        if self.directions == "normal":
            return rows.normal(*shape)
        drawn = rows.uniform(*shape)
        return (drawn >= 0).to(drawn.dtype) * 2 - 1


def nes(steps: int = 100, pairs: int = 25, width: float = 0.1, share: float = 0.1) -> EstimatedAscent:
    """Natural evolution strategies: antithetic normal directions (arXiv 1804.08598)."""
    return EstimatedAscent("normal", steps, pairs, width, share)


def spsa(steps: int = 100, pairs: int = 25, width: float = 0.1, share: float = 0.1) -> EstimatedAscent:
    """Simultaneous perturbation stochastic approximation: directions of random signs (arXiv 1802.05666)."""
    return EstimatedAscent("signs", steps, pairs, width, share)
