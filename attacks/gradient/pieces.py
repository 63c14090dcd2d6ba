"""The parts a gradient attack is put together from: where it starts, where it asks and which way it steps."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from ..card import NORMS
from ..errors import InputError, unknown
from ..losses import Loss
from ..norms import per_row, row_sum
from ..rows import Rows
from ..victim import Answer

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


def far_off(rows: Rows) -> Tensor:
    """In a random direction as far as the threat set goes; in L-inf, a random corner."""
    drawn = rows.normal(*rows.x.shape[1:])
    return rows.threat.reach(drawn.sign() if rows.threat.norm.name == "linf" else drawn)


@dataclass(frozen=True)
class Coarse:
    """As far off, in blocks of one value, `cells` of them along an image's shorter side: what convolutions answer to.

    Other shapes than [b, C, H, W] have no blocks.
    """

    cells: int

    def __call__(self, rows: Rows) -> Tensor:
        if rows.x.ndim != 4:
            return far_off(rows)
        channels, height, width = rows.x.shape[1:]
        side = max(1, min(height, width) // self.cells)
        drawn = rows.normal(channels, -(-height // side), -(-width // side))
        drawn = drawn.repeat_interleave(side, 2).repeat_interleave(side, 3)[:, :, :height, :width]
        return rows.threat.reach(drawn.sign() if rows.threat.norm.name == "linf" else drawn)


def constant(progress: float) -> float:
    return 1.0


def cosine(progress: float) -> float:
    """From 1 to 0 along half a wave."""
    return (1 + math.cos(math.pi * progress)) / 2


SCHEDULES: dict[str, Callable[[float], float]] = {"constant": constant, "cosine": cosine}


def schedule_named(name: str) -> Callable[[float], float]:
    if name not in SCHEDULES:
        raise unknown("schedule", name, SCHEDULES)
    return SCHEDULES[name]


STARTS: dict[str, Start] = {"input": at_input, "random": at_random}


def start_named(name: str | Start) -> Start:
    if callable(name):
        return name
    if name not in STARTS:
        raise unknown("start", name, STARTS)
    return STARTS[name]


def step_length(rows: Rows, share: float | Tensor) -> Tensor:
    """[b]: a share of eps (where that is inf, of the way to the box's furthest corner), in the type of x."""
    eps = rows.threat.eps
    return (torch.where(eps.isinf(), rows.threat.radius.double(), eps) * share).to(rows.x.dtype)


def gradients(answer: Answer, loss: Loss, rows: Rows) -> Tensor:
    """[q, b, ...]: the loss's gradients at q tries of each row, all over that row's largest slope in any of them.

    So they can be added up: `answer.grad()` divides each by a slope of its own. That largest slope, [b], is left in
    rows.steepness; where it underflows, as softmax saturates in every try, the gradients are 0.
    """
    assert answer.logits is not None
    tries, logits = len(answer.logits), answer.logits.flatten(0, 1)
    climb = loss(logits if logits.dtype == torch.float64 else logits.float(), rows.aim.repeat(tries))
    slope = climb.slope.nan_to_num(0.0, 0.0, 0.0).unflatten(0, (tries, -1))
    rows.steepness = slope.abs().amax((0, 2)).to(rows.x.dtype)
    floor = torch.finfo(slope.dtype).tiny
    return answer.grad_of(slope / rows.steepness.to(slope.dtype).clamp_min(floor)[:, None])


class Direction(Protocol):
    """Where to take the gradient, what to make of it, and how to move. Memory lives on `rows`."""

    norms: ClassVar[tuple[str, ...]]  # those it is made for

    def init(self, rows: Rows) -> None: ...

    def ask_at(self, rows: Rows, length: Tensor) -> Tensor:
        """[b, ...], or [p, b, ...] for p points of each row: where gradients are wanted."""
        ...

    def turn(self, rows: Rows, grad: Tensor) -> Tensor:
        """[b, ...]: the direction to climb, from the gradients at the points of `ask_at`; its length does not count."""
        ...

    def move(self, rows: Rows, direction: Tensor, length: Tensor, progress: float) -> Tensor:
        """[b, ...]: from rows.x_adv, inside the threat set."""
        ...


class View(Protocol):
    """What the model is shown of the points where gradients are wanted, and how its gradients come back to them.

    What is shown may lie outside the threat set; then it is no candidate, whatever the model says.
    """

    images: ClassVar[bool]  # it needs inputs [B, C, H, W]

    def show(self, rows: Rows, points: Tensor) -> Tensor:
        """[p, b, ...] -> [m * p, b, ...]: m sights of each point."""
        ...

    def pull(self, rows: Rows, grads: Tensor) -> Tensor:
        """[m * p, b, ...] -> [p, b, ...]: the gradients of the mean over the sights in the points themselves."""
        ...


@dataclass(frozen=True)
class Scattered:
    """Each point `copies` times, strewn uniformly: the mean gradient of a model that is random or rough.

    share: of eps, each coordinate in L-inf, and the noise's root mean square L2 norm in other norms.
    last: what is left of it at the search's end; it fades geometrically, so that an ascent finds its way on a smoothed
        loss and ends on the loss itself (graduated optimisation, arXiv 1503.03712).
    """

    images: ClassVar[bool] = False

    copies: int = 8
    share: float = 0.1
    last: float = 1.0

    def show(self, rows: Rows, points: Tensor) -> Tensor:
        strewn = rows.uniform(self.copies, *rows.x.shape[1:]).transpose(0, 1)
        share = self.share * self.last**rows.progress
        if rows.threat.norm.name != "linf":
            share *= math.sqrt(3 / rows.x[0].numel())
        within = per_row(step_length(rows, share), rows.x)
        low, high = (bound.view_as(rows.x) for bound in (rows.threat.low, rows.threat.high))
        return torch.cat([(points + one * within).clamp(low, high) for one in strewn])

    def pull(self, rows: Rows, grads: Tensor) -> Tensor:
        return grads.unflatten(0, (self.copies, -1)).mean(0)


@dataclass(frozen=True)
class Steepest:
    """The gradient itself, at the point reached."""

    norms: ClassVar[tuple[str, ...]] = NORMS

    def init(self, rows):
        pass

    def ask_at(self, rows, length):
        return rows.x_adv

    def turn(self, rows, grad):
        return grad

    def move(self, rows, direction, length, progress):
        return rows.threat.step(rows.x_adv, direction, length, progress=progress)


@dataclass(frozen=True)
class Proportional(Steepest):
    """The gradient itself; all coordinates move in proportion to it, the largest by the step's length.

    In L1 the projection then says which of them stay moved.
    """

    def move(self, rows, direction, length, progress):
        if rows.threat.mask is not None:
            direction = direction * rows.threat.mask.view_as(direction)
        largest = direction.flatten(1).abs().amax(1).clamp_min(torch.finfo(direction.dtype).tiny)
        return rows.threat.project(rows.x_adv + direction * per_row(length / largest, direction))


@dataclass(frozen=True)
class Momentum(Steepest):
    """Sum of gradients of L1 norm 1 (MI-FGSM, arXiv 1710.06081)."""

    decay: float = 1.0

    def init(self, rows):
        rows.momentum = torch.zeros_like(rows.x)

    def turn(self, rows, grad):
        size = row_sum(grad.flatten(1).abs()).clamp_min(torch.finfo(grad.dtype).tiny)
        rows.momentum = rows.momentum * self.decay + grad / per_row(size, grad)
        return rows.momentum


@dataclass(frozen=True)
class Nesterov(Momentum):
    """Momentum that asks one step ahead (NI-FGSM, arXiv 1908.06281)."""

    def ask_at(self, rows, length):
        return rows.threat.step(rows.x_adv, rows.momentum, length * self.decay)


@dataclass(frozen=True)
class Adam(Steepest):
    """The running mean of the gradients over the root of that of their squares (arXiv 1412.6980).

    Each gradient is divided by its largest entry first, so that `floor` is a share of it. In L-inf that is done for
    each coordinate, as published, which moves by the quotient of the step's length. In other norms a row has one mean
    square for all its coordinates: with one for each the steps would leave the steepest direction, and end elsewhere.
    """

    mean_decay: float = 0.9
    square_decay: float = 0.999
    floor: float = 1e-8

    def __post_init__(self):
        if not (0 <= self.mean_decay < 1 and 0 <= self.square_decay < 1 and self.floor > 0):
            raise InputError(
                f"mean_decay={self.mean_decay}, square_decay={self.square_decay}, floor={self.floor}: "
                "decays from 0 to below 1 and a positive floor are needed."
            )

    def init(self, rows):
        rows.mean = torch.zeros_like(rows.x)
        rows.square = rows.mean if rows.threat.norm.name == "linf" else torch.zeros_like(rows.length)
        rows.turns = 0

    def turn(self, rows, grad):
        largest = grad.flatten(1).abs().amax(1).clamp_min(torch.finfo(grad.dtype).tiny)
        grad = grad / per_row(largest, grad)
        square = grad * grad if rows.threat.norm.name == "linf" else row_sum((grad * grad).flatten(1))
        rows.turns += 1
        rows.mean = rows.mean * self.mean_decay + grad * (1 - self.mean_decay)
        rows.square = rows.square * self.square_decay + square * (1 - self.square_decay)
        root = (rows.square / (1 - self.square_decay**rows.turns)).sqrt() + self.floor
        return rows.mean / (1 - self.mean_decay**rows.turns) / (root if root.ndim > 1 else per_row(root, grad))

    def move(self, rows, direction, length, progress):
        if rows.threat.norm.name not in ("linf", "l2"):
            return super().move(rows, direction, length, progress)
        if rows.threat.unit is not None:
            direction = direction * rows.threat.unit.view_as(direction)
        return rows.threat.project(rows.x_adv + direction * per_row(length, direction))
