"""Where a hyperplane comes nearest to a point within a box, in each norm: the step to a linear boundary.

Shapes: images are flat [b, d], one value per row [b]. No operation mixes rows.
"""

import torch
from torch import Tensor

from .kernels.reference import row_sum

ROUNDS = 64  # of Newton's method, at most: two or three do, and a heavy-tailed normal takes a dozen


def nearest(norm: str, x: Tensor, normal: Tensor, rise: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The point z of the box that is nearest to x in "linf", "l2" or "l1" with normal . (z - x) = rise.

    x is in the box. Returns z [b, d] and whether the box reaches the hyperplane [b] bool; where it does not, z is the
    corner where the normal rises most (falls most, for a negative rise). A row whose rise is 0 or NaN stays.
    """
    largest = normal.abs().amax(1).clamp_min(torch.finfo(x.dtype).tiny)  # squares of a gradient of 1e-25 underflow
    rise = rise.nan_to_num(0.0)
    uphill = normal * (rise.sign() / largest)[:, None]
    need = (rise.abs() / largest).clamp_max(torch.finfo(x.dtype).max)
    enough = need * (1 - 64 * torch.finfo(x.dtype).eps)
    go = _steepest_first if norm == "l1" else _all_together
    z, gained = go(x, uphill, uphill.sign() if norm == "linf" else uphill, need, enough, low, high)
    return z, gained >= enough


def highest_in_l1(x: Tensor, normal: Tensor, radius: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """[b]: the most that normal . (z - x) is for z in the L1 ball of that radius [b] within the box."""
    slope, order = normal.abs().sort(dim=1, descending=True, stable=True)
    room = torch.where(normal > 0, high - x, x - low).gather(1, order)
    before = torch.cat((torch.zeros_like(room[:, :1]), room[:, :-1].cumsum(1)), 1)
    return row_sum(slope * torch.minimum((radius[:, None] - before).clamp_min(0), room))


def _all_together(x, uphill, direction, need, enough, low, high) -> tuple[Tensor, Tensor]:
    """x + t * direction, clamped, with t such that the rise is what is needed: for L2 and L-inf.

    The rise is concave and piecewise linear in t: Newton's method from below never overshoots, and ends.
    """
    rate = row_sum(uphill * direction)
    t = (need / rate.clamp_min(torch.finfo(x.dtype).tiny)).clamp_max(torch.finfo(x.dtype).max)
    for _ in range(ROUNDS):
        ahead = torch.addcmul(x, direction, t[:, None])
        z = ahead.clamp(low, high)
        gained = row_sum((z - x).mul_(uphill))
        short = gained < enough
        if not short.any():
            break
        uncut = torch.eq(ahead, z, out=ahead)  # 1.0 or 0.0: on a CPU a bool in between costs as much as five passes
        rate = row_sum(uncut.mul_(uphill).mul_(direction))
        more = torch.where(short & (rate > 0), (need - gained) / rate, 0.0)
        if not (more > 0).any():
            break
        t = (t + more).clamp_max(torch.finfo(x.dtype).max)
    return z, gained


def _steepest_first(x, uphill, direction, need, enough, low, high) -> tuple[Tensor, Tensor]:
    """One coordinate after the other as far as it can, the steepest first, until the rise is what is needed: for L1."""
    slope, order = uphill.abs().sort(dim=1, descending=True, stable=True)
    room = torch.where(uphill > 0, high - x, x - low).masked_fill(uphill == 0, 0.0).gather(1, order)
    gained = (slope * room).cumsum(1)
    before = torch.cat((torch.zeros_like(gained[:, :1]), gained[:, :-1]), 1)
    left = (need[:, None] - before).clamp_min(0)
    move = torch.minimum(left / slope.clamp_min(torch.finfo(x.dtype).tiny), room)
    move = torch.zeros_like(move).scatter_(1, order, move)
    return torch.where(uphill > 0, x + move, x - move).clamp(low, high), gained[:, -1]
