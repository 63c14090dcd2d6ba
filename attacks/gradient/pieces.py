"""The parts a gradient attack is put together from: where it starts, where it asks and which way it steps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..errors import unknown
from ..norms import per_row
from ..rows import Rows

Start = Callable[[Rows], Tensor]  # [b, ...], inside the threat set


def at_input(rows: Rows) -> Tensor:
    return rows.x


def at_random(rows: Rows) -> Tensor:
    """Uniform in an L-inf ball; for others in a random direction, at the distance of a uniform point of an L2 ball."""
    shape = rows.x.shape[1:]
    if rows.threat.norm.name == "linf":
        far = per_row(rows.threat.radius, rows.x)
        if rows.threat.unit is not None:
            far = far * rows.threat.unit.view_as(rows.x)
        return rows.threat.project(rows.x + rows.uniform(*shape) * far)
    far = rows.threat.reach(rows.normal(*shape))
    if rows.threat.norm.name == "l0":
        return far
    share = rows.uniform(1, low=0.0, high=1.0).squeeze(1) ** (1 / rows.x[0].numel())
    return rows.threat.project(rows.x + (far - rows.x) * per_row(share, rows.x))


STARTS: dict[str, Start] = {"input": at_input, "random": at_random}


def start_named(name: str) -> Start:
    if name not in STARTS:
        raise unknown("start", name, STARTS)
    return STARTS[name]


def step_length(rows: Rows, share: float | Tensor) -> Tensor:
    """[b]: a share of eps (where that is inf, of the way to the box's furthest corner), in the type of x."""
    eps = rows.threat.eps
    return (torch.where(eps.isinf(), rows.threat.radius.double(), eps) * share).to(rows.x.dtype)


class Direction(Protocol):
    """Where to take the gradient, and what to make of it. Memory lives on `rows`."""

    def init(self, rows: Rows) -> None: ...

    def ask_at(self, rows: Rows, length: Tensor) -> Tensor:
        """[b, ...]: the point whose gradient is wanted."""
        ...

    def turn(self, rows: Rows, grad: Tensor) -> Tensor:
        """[b, ...]: the direction to climb; only its direction counts."""
        ...


@dataclass(frozen=True)
class Steepest:
    """The gradient itself, at the point reached."""

    def init(self, rows):
        pass

    def ask_at(self, rows, length):
        return rows.x_adv

    def turn(self, rows, grad):
        return grad


@dataclass(frozen=True)
class Momentum:
    """Sum of gradients of L1 norm 1 (MI-FGSM, arXiv 1710.06081)."""

    decay: float = 1.0

    def init(self, rows):
        rows.momentum = torch.zeros_like(rows.x)

    def ask_at(self, rows, length):
        return rows.x_adv

    def turn(self, rows, grad):
        size = grad.flatten(1).abs().sum(1).clamp_min(torch.finfo(grad.dtype).tiny)
        rows.momentum = rows.momentum * self.decay + grad / per_row(size, grad)
        return rows.momentum


@dataclass(frozen=True)
class Nesterov(Momentum):
    """Momentum that asks one step ahead (NI-FGSM, arXiv 1908.06281)."""

    def ask_at(self, rows, length):
        return rows.threat.step(rows.x_adv, rows.momentum, length * self.decay)
