"""The norms an attacker may be bound by: how large a perturbation is, how to step in them, how to get back inside.

Shapes: images are flat [b, d]; sizes, radii and lengths are [b]. `low` and `high` [b, d] hold the bounds (and the mask).
"""

from typing import ClassVar, Protocol

import torch
from torch import Tensor

from . import kernels
from .kernels.reference import row_sum

TINY = 1e-12  # floor for a divisor: a row of zeros stays zeros


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """[b] -> [b, 1, ..., 1], to multiply the rows of `like`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


class Norm(Protocol):
    name: ClassVar[str]
    dual: ClassVar[str]

    def size(self, delta: Tensor) -> Tensor:
        """[b]: how large each row of delta is."""
        ...

    def hair(self, x: Tensor, eps: Tensor) -> Tensor:
        """[b] float64: how much x + delta may measure more than delta, for rounding."""
        ...

    def step(
        self, x: Tensor, x_adv: Tensor, direction: Tensor, length: Tensor, radius: Tensor, low: Tensor, high: Tensor
    ) -> Tensor:
        """From x_adv the move of at most that length that climbs `direction` most, brought back into ball and box."""
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

    def step(self, x, x_adv, direction, length, radius, low, high):
        return kernels.step_linf(x_adv, direction, length, low, high)

    def project(self, x, z, radius, low, high):
        ball = radius[:, None]
        return torch.maximum(torch.minimum(z, x + ball), x - ball).clamp(low, high)

    def reach(self, x, direction, radius, low, high):
        largest = direction.abs().amax(1).clamp_min(torch.finfo(x.dtype).tiny)
        return (x + direction / largest[:, None] * radius[:, None]).clamp(low, high)


class L2:
    name = "l2"
    dual = "l2"

    def size(self, delta: Tensor) -> Tensor:
        return row_sum(delta * delta).sqrt()

    def hair(self, x: Tensor, eps: Tensor) -> Tensor:
        return _rounding(x) * (self.size(x.double()) + 32 * eps)

    def step(self, x, x_adv, direction, length, radius, low, high):
        return kernels.step_l2(x, x_adv, direction, length, radius, low, high)

    def project(self, x, z, radius, low, high):
        return kernels.shrink_l2(x, z, radius, low, high)

    def reach(self, x, direction, radius, low, high):
        return kernels.shrink_l2(x, x + direction, radius, low, high, longest=1e9)


class L1:
    name = "l1"
    dual = "linf"
    share = 0.01  # of the coordinates, moved by one step: at least one (SLIDE, arXiv 1904.13000)

    def size(self, delta: Tensor) -> Tensor:
        return row_sum(delta.abs())

    def hair(self, x: Tensor, eps: Tensor) -> Tensor:
        return _rounding(x) * (self.size(x.double()) + 32 * eps)

    def step(self, x, x_adv, direction, length, radius, low, high):
        count = max(1, int(self.share * x.shape[1]))
        ahead = self.climb(x_adv, direction, length, length.new_full((len(x),), count), low, high)
        return self.project(x, ahead, radius, low, high)

    @staticmethod
    def climb(x_adv: Tensor, direction: Tensor, length: Tensor, count: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The steepest coordinates moved by length / count [b] each, or as far as the box lets them, until length is spent."""
        room = torch.where(direction > 0, high - x_adv, x_adv - low) * (direction != 0)
        room = torch.minimum(room, (length / count)[:, None])
        order = direction.abs().argsort(dim=1, descending=True, stable=True)
        sorted_room = room.gather(1, order)
        spent_before = sorted_room.cumsum(1) - sorted_room
        move = torch.minimum((length[:, None] - spent_before).clamp_min(0), sorted_room)
        return x_adv + torch.zeros_like(x_adv).scatter_(1, order, move) * direction.sign()

    def project(self, x, z, radius, low, high):
        return project_l1(x, z, radius, low, high)

    def reach(self, x, direction, radius, low, high):
        room = torch.where(direction > 0, high - x, x - low)
        length = direction.abs()
        scale = radius / row_sum(length).clamp_min(TINY)
        for _ in range(kernels.reference.NEWTON_STEPS):  # sum(min(s |d|, room)) is concave in s, as in shrink_l2
            scaled = length * scale[:, None]
            full = scaled >= room
            free = row_sum(torch.where(full, 0.0, length)).clamp_min(TINY)
            scale = scale + (radius - row_sum(torch.where(full, room, scaled))).clamp_min(0) / free
        return (x + direction * scale[:, None]).clamp(low, high)


class L0:
    """Size is the number of coordinates that differ; a radius or length of 3.7 allows three."""

    name = "l0"
    dual = "l0"

    def size(self, delta: Tensor) -> Tensor:
        return row_sum((delta != 0).to(delta.dtype))

    def hair(self, x: Tensor, eps: Tensor) -> Tensor:
        return torch.zeros_like(eps)

    def step(self, x, x_adv, direction, length, radius, low, high):
        """Coordinates that gain most, were they moved to their bound, are moved there; then the largest changes stay."""
        bound = torch.where(direction > 0, high, low)
        gain = direction * (bound - x_adv)
        ahead = torch.where(_largest(gain, length.ceil()) & (gain > 0), bound, x_adv)
        return self.project(x, ahead, radius, low, high)

    def project(self, x, z, radius, low, high):
        z = z.clamp(low, high)
        return torch.where(_largest((z - x).abs(), radius), z, x)

    def reach(self, x, direction, radius, low, high):
        bound = torch.where(direction > 0, high, low)
        return torch.where(_largest(direction.abs() * (bound != x), radius), bound, x)


def project_l1(x: Tensor, z: Tensor, radius: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Euclidean projection on the L1 ball round x and the box together (arXiv 2103.01208), exact, O(d log d).

    Where the ball binds, coordinate i moves by clamp(|d_i| - cut, 0, room_i): the sum of these is piecewise linear in
    `cut`, with corners at |d_i| and |d_i| - room_i; the corners are sorted, the sum is taken at each, and the cut
    that gives the radius lies on a line between two of them.
    """
    delta = (z - x).double()
    length = delta.abs()
    room = torch.where(delta > 0, high - x, x - low).double().clamp_min(0)
    radius = radius.double().clamp_max(torch.finfo(torch.float64).max / 4)
    corners = torch.cat((length, (length - room).clamp_min(0)), 1)  # walking down: a coordinate starts, then is full
    turns = torch.cat((torch.ones_like(length), -torch.ones_like(length)), 1)
    corners, order = corners.sort(dim=1, descending=True)
    slope = turns.gather(1, order).cumsum(1)
    gaps = corners[:, :-1] - corners[:, 1:]
    sums = torch.cat((torch.zeros_like(corners[:, :1]), (gaps * slope[:, :-1]).cumsum(1)), 1)  # at each corner
    last = ((sums <= radius[:, None]).sum(1, keepdim=True) - 1).clamp_min(0)
    rest = radius[:, None] - sums.gather(1, last)
    cut = (corners.gather(1, last) - rest / slope.gather(1, last).clamp_min(1)).clamp_min(0)
    cut = torch.where(row_sum(torch.minimum(length, room))[:, None] <= radius[:, None], 0.0, cut)
    moved = torch.minimum((length - cut).clamp_min(0), room) * delta.sign()
    return (x.double() + moved).to(x.dtype).clamp(low, high)


def _largest(values: Tensor, count: Tensor) -> Tensor:
    """[b, d] bool: the count [b] largest values of each row; of equal ones the first."""
    order = values.argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(values.shape[1], device=order.device).expand_as(order)
    )
    return rank < count.floor()[:, None]


def _rounding(x: Tensor) -> float:
    return torch.finfo(x.dtype).eps / 2


NORMS: dict[str, Norm] = {"linf": Linf(), "l2": L2(), "l1": L1(), "l0": L0()}
