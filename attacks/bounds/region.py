"""The inputs that a threat allows, and the least that a linear form takes on them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..threat_set import ThreatSet

OFF_GRID = 2e-3  # of a level: how far an input on the grid, and what the model is shown of it, may lie from it
NEWTON_STEPS = 8  # each raises the bound or leaves it; it holds after any number of them
HUGE = 1e150  # longest multiple of a form: its square is still finite


@dataclass(frozen=True)
class Region:
    """A ball and a box round each of b inputs, in float64; it holds whatever `ThreatSet.size` lets through."""

    norm: str
    x: Tensor  # [b, d] clean
    eps: Tensor  # [b]
    low: Tensor  # [b, d] the least each coordinate can be, box and ball together
    high: Tensor  # [b, d]
    hair: float  # how far each coordinate may lie from where the norm is told that it lies

    @classmethod
    def of(cls, threat: ThreatSet) -> "Region":
        """Raises InputError where some coordinate is bounded neither by the ball nor by the bounds of the data."""
        x, low, high = (values.double().flatten(1) for values in (threat.x, threat.low, threat.high))
        eps = threat.eps * (1 + 1e-12)  # a size is measured in float64, to about 1e-14 of it
        hair = 0.0 if threat.levels is None or threat.norm.name == "linf" else OFF_GRID / threat.levels
        if threat.norm.name in ("l2", "l1"):
            low, high = (torch.maximum(low, x - eps[:, None] - hair), torch.minimum(high, x + eps[:, None] + hair))
        if not bool((low.isfinite() & high.isfinite()).all()):
            raise InputError(
                f"The threat {threat.norm.name} leaves some inputs unbounded; give it finite bounds or a finite eps."
            )
        return cls(threat.norm.name, x, eps, low, high, hair)

    def least(self, form: Tensor, rows: Tensor) -> Tensor:
        """[N] lower bound of form . x over the region of row rows[i]; form is [N, d], rows [N] int64."""
        x, slope = self.x[rows], form.abs()
        room = torch.where(form > 0, x - self.low[rows], self.high[rows] - x)
        gain = GAINS[self.norm](slope, room, self.eps[rows]) + self.hair * slope.sum(1)
        return (form * x).sum(1) - gain


# The most that slope . move can be, [N], where slope and room are [N, d], both >= 0, 0 <= move <= room and the size of
# move is at most eps [N]. Exact but for L2, where it is an upper bound that the Newton steps bring down.


def _gain_box(slope: Tensor, room: Tensor, eps: Tensor) -> Tensor:
    return (slope * room).sum(1)


def _gain_l2(slope: Tensor, room: Tensor, eps: Tensor) -> Tensor:
    """The dual of the problem, at move = min(t slope, room): true for every t > 0, and exact where |move| = eps."""
    t = eps / slope.square().sum(1).sqrt().clamp_min(1 / HUGE)
    for _ in range(NEWTON_STEPS):
        scaled = slope * t.clamp(max=HUGE)[:, None]
        full = scaled >= room
        free = slope.masked_fill(full, 0.0).square().sum(1)
        left = eps.square() - room.masked_fill(~full, 0.0).square().sum(1)
        longer = (free > 0) & (left > t.square() * free)
        if not longer.any():
            break
        t = torch.where(longer, (left / free).sqrt(), t)
    t = t.clamp(1 / HUGE, HUGE)
    move = torch.minimum(slope * t[:, None], room)
    dual = (slope * move).sum(1) + (eps.square() - move.square().sum(1)) / (2 * t)
    dual = torch.where(eps > 0, dual, 0.0)
    return torch.fmin(dual, _gain_box(slope, room, eps))  # eps = inf gives NaN there and leaves the box


def _gain_l1(slope: Tensor, room: Tensor, eps: Tensor) -> Tensor:
    order = slope.argsort(dim=1, descending=True)
    room = room.gather(1, order)
    move = torch.minimum((eps[:, None] - (room.cumsum(1) - room)).clamp_min(0), room)
    return (slope.gather(1, order) * move).sum(1)


def _gain_l0(slope: Tensor, room: Tensor, eps: Tensor) -> Tensor:
    gains = (slope * room).sort(dim=1, descending=True).values
    allowed = torch.arange(gains.shape[1], device=gains.device) < eps[:, None].floor()
    return (gains * allowed).sum(1)


GAINS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "linf": _gain_box,  # the box holds the ball
    "l2": _gain_l2,
    "l1": _gain_l1,
    "l0": _gain_l0,
}
