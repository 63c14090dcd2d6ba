"""What does every operator's maker share: the variables that it is told of, the piece that it gives, its refusal?

A maker takes the shape of the output (its batch first) and the operator's own arguments, where what depends on the
model's input is a `Var` and all else is a number, a list or a tensor. It returns a piece and the variables that it is
of, or raises `Unbounded` with the reason.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..pieces import Affine, Bent, Shape


@dataclass(frozen=True)
class Var:
    """The output of a node: its place among the nodes and its shape, batch first."""

    node: int
    shape: Shape


class Made(NamedTuple):
    piece: Affine | Bent
    inputs: tuple[Var, ...]


class Unbounded(Exception):  # noqa: N818  # caught where the node's name is known
    """Why an operator with these arguments cannot be bounded."""


Maker = Callable[..., Made]


class Makers(dict[Any, Maker]):
    """What makes a piece of each operator."""

    def of(self, *operators: Any) -> Callable[[Maker], Maker]:
        def entered(maker: Maker) -> Maker:
            self.update(dict.fromkeys(operators, maker))
            return maker

        return entered


def need(holds: bool, reason: str) -> None:
    if not holds:
        raise Unbounded(reason)


def constant(value: Any, like: Shape) -> Tensor:
    """A constant [1, ...] in float64, ready to be laid over tensors of that shape, batch first."""
    value = torch.as_tensor(value).detach().double()
    value = value.reshape((1,) * (len(like) - value.ndim) + tuple(value.shape))
    if len(value) > 1:
        need(bool((value == value[:1]).all()), "its constant differs from row to row")
    return value[:1]


def moved(function: Callable[..., Tensor], *inputs: Var, roundings: int = 0) -> Made:
    """A linear function whose coefficients are not negative."""
    return Made(Affine(function, function, roundings=roundings), inputs)


def axes_of(dims: int | list[int], ndim: int) -> tuple[int, ...]:
    """The dimensions, counted from the front; none may be the batch."""
    axes = tuple(d % ndim for d in ([dims] if isinstance(dims, int) else dims))
    need(0 not in axes, "it works across the rows of a batch")
    return axes
