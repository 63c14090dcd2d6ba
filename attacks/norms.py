"""The norms an attacker may be bound by: how large a perturbation is, how to step in them, how to get back inside.

Shapes: images are flat [b, d]; sizes, radii and lengths are [b]. `low` and `high` [b, d] hold the bounds and the mask.
"""

from typing import Protocol

import torch
from torch import Tensor

from . import kernels
from .kernels import project_l1
from .kernels.reference import row_norm, row_sum

TINY = 1e-12  # floor for a divisor: a row of zeros stays zeros


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """[b] -> [b, 1, ..., 1], to multiply the rows of `like`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


class Norm(Protocol):
    name: str
    dual: str

    def size(self, delta: Tensor) -> Tensor:
        """[b]: how large each row of delta is."""
        ...

    def hair(self, x: Tensor, eps: Tensor) -> Tensor:
        """[b] float64: how much x + delta may measure more than delta, for rounding."""
        ...

    def step(
        self,
        x: Tensor,
        x_adv: Tensor,
        direction: Tensor,
        length: Tensor,
        radius: Tensor,
        low: Tensor,
        high: Tensor,
        progress: float = 1.0,
    ) -> Tensor:
        """From x_adv the move of that length that climbs `direction` most, brought back into ball and box.

        progress: share of the search that is over; L1 moves fewer coordinates at a time as it grows.
        """
        ...

    def project(self, x: Tensor, z: Tensor, radius: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The point of ball and box together that is nearest to z in Euclidean distance."""
        ...

    def reach(self, x: Tensor, direction: Tensor, radius: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """x + s * direction, clamped to the box, with s as large as the radius allows."""
        ...


class Linf:
    name = "linf"
    dual = "l1"

    def size(self, delta: Tensor) -> Tensor:
        return delta.abs().amax(1)

    def hair(self, x: Tensor, eps: Tensor) -> Tensor:
        return torch.zeros_like(eps)  # the threat set rounds the ball's faces inwards instead

    def step(self, x, x_adv, direction, length, radius, low, high, progress=1.0):
        return kernels.step_linf(x_adv, direction, length, low, high)

    def project(self, x, z, radius, low, high):
        ball = radius[:, None]
        return torch.maximum(torch.minimum(z, x + ball), x - ball).clamp(low, high)

    def reach(self, x, direction, radius, low, high):
        return (x + _unit(direction) * _finite(radius, x)[:, None]).clamp(low, high)


class L2:
    name = "l2"
    dual = "l2"

    def size(self, delta: Tensor) -> Tensor:
        return row_norm(delta)

    def hair(self, x: Tensor, eps: Tensor) -> Tensor:
        # Half a unit in the last place for rounding x + delta, and once more for having measured what was rounded.
        return torch.finfo(x.dtype).eps * (self.size(x.double()) + 32 * eps.nan_to_num(posinf=0.0))  # inf - inf is NaN

    def step(self, x, x_adv, direction, length, radius, low, high, progress=1.0):
        return kernels.step_l2(x, x_adv, direction, length, radius, low, high)

    def project(self, x, z, radius, low, high):
        return kernels.shrink_l2(x, z, radius, low, high)

    def reach(self, x, direction, radius, low, high):
        return kernels.shrink_l2(x, x + _unit(direction), radius, low, high, longest=1e9)


class L1:
    name = "l1"
    dual = "linf"
    share = 0.01  # of the coordinates, moved by one step: at least one (SLIDE, arXiv 1904.13000)

    def size(self, delta: Tensor) -> Tensor:
        return row_sum(delta.abs())

    def hair(self, x: Tensor, eps: Tensor) -> Tensor:
        return (
            eps.nan_to_num(posinf=0.0) * 1e-12
        )  # the projection works in float64 and rounds every coordinate towards x

    def step(self, x, x_adv, direction, length, radius, low, high, progress=1.0):
        count = max(1.0, self.share * x.shape[1] * (1 - 2 * progress))  # one from half-way on
        ahead = self.climb(x_adv, direction, length, length.new_full((len(x),), int(count)), low, high)
        return self.project(x, ahead, radius, low, high)

    @staticmethod
    def climb(x_adv: Tensor, direction: Tensor, length: Tensor, count: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The steepest coordinates moved by length / count [b] each, until what the box lets through adds up to length.

        Full coordinates move too, beyond the box: the projection takes equally much from every coordinate, and those
        that the direction still favours must have it to give.
        """
        length = length.clamp_max(torch.finfo(x_adv.dtype).max ** 0.5)  # so that its sums are finite
        quantum = (length / count)[:, None]
        room = torch.where(direction > 0, high - x_adv, x_adv - low).masked_fill(direction == 0, 0.0)
        order = direction.abs().argsort(dim=1, descending=True, stable=True)
        spent = torch.minimum(room, quantum).gather(1, order)
        left = (length[:, None] - (spent.cumsum(1) - spent)).clamp_min(0)
        move = torch.minimum(left, quantum)
        return x_adv + torch.zeros_like(x_adv).scatter_(1, order, move) * direction.sign()

    def project(self, x, z, radius, low, high):
        return project_l1(x, z, radius, low, high)

    def reach(self, x, direction, radius, low, high):
        room = torch.where(direction > 0, high - x, x - low)
        direction = _unit(direction)
        length = direction.abs()
        radius = _finite(radius, x)
        enough = radius * (1 - 8 * torch.finfo(x.dtype).eps)
        scale = _finite(radius / row_sum(length).clamp_min(TINY), x)
        for _ in range(kernels.reference.NEWTON_STEPS):  # sum(min(s |d|, room)) is concave in s, as in shrink_l2
            scaled = length * scale[:, None]
            full = scaled >= room
            size = row_sum(torch.where(full, room, scaled))
            free = row_sum(length.masked_fill(full, 0.0))
            short = (size < enough) & (free > 0)
            if not short.any():
                break
            scale = _finite(torch.where(short, scale + (radius - size) / free, scale), x)
        return self.project(x, x + direction * scale[:, None], radius, low, high)


class L0:
    """Size is the number of coordinates that differ; a radius or length of 3.7 allows three."""

    name = "l0"
    dual = "l0"

    def size(self, delta: Tensor) -> Tensor:
        return row_sum((delta != 0).to(delta.dtype))

    def hair(self, x: Tensor, eps: Tensor) -> Tensor:
        return torch.zeros_like(eps)

    def step(self, x, x_adv, direction, length, radius, low, high, progress=1.0):
        """The coordinates that gain most by moving to their bound are moved; then the largest changes stay."""
        bound = torch.where(direction > 0, high, low)
        gain = direction * (bound - x_adv)
        ahead = torch.where(_largest(gain, length.ceil()) & (gain > 0), bound, x_adv)
        return self.project(x, ahead, radius, low, high)

    def project(self, x, z, radius, low, high):
        clamped = z.clamp(low, high)
        nearer = (clamped - x) * (2 * z - clamped - x)  # (z - x)^2 - (z - clamped)^2
        return torch.where(_largest(nearer, radius), clamped, x)

    def reach(self, x, direction, radius, low, high):
        bound = torch.where(direction > 0, high, low)
        gain = direction.abs() * (bound != x)
        return torch.where(_largest(gain, radius) & (gain > 0), bound, x)


def _largest(values: Tensor, count: Tensor) -> Tensor:
    """[b, d] bool: the count [b] largest values of each row; of equal ones the first."""
    order = values.argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(values.shape[1], device=order.device).expand_as(order)
    )
    return rank < count.floor()[:, None]


def _unit(direction: Tensor) -> Tensor:
    """Each row over its largest entry: the squares of a gradient of 1e-25 underflow."""
    return direction / direction.abs().amax(1, keepdim=True).clamp_min(torch.finfo(direction.dtype).tiny)


def _finite(values: Tensor, like: Tensor) -> Tensor:
    """Infinity becomes the largest number, since inf * 0 is NaN."""
    return values.clamp_max(torch.finfo(like.dtype).max)


NORMS: dict[str, Norm] = {"linf": Linf(), "l2": L2(), "l1": L1(), "l0": L0()}
