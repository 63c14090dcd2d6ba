"""What only moves numbers to other places."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..pieces import Affine
from .making import Made, Makers, Var, axes_of, constant, moved, need

aten = torch.ops.aten
MAKERS = Makers()


@MAKERS.of(
    aten.view.default,
    aten._unsafe_view.default,
    aten.reshape.default,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
    aten.alias.default,
    aten.clone.default,
    aten.detach.default,
    aten.lift_fresh_copy.default,
)
def _view(out, x, *_, **__) -> Made:
    need(out[:1] == x.shape[:1], "it works across the rows of a batch")
    return moved(lambda z: z.reshape(len(z), *out[1:]), x)


@MAKERS.of(aten._to_copy.default)
def _converted(out, x, **_) -> Made:
    return moved(lambda z: z, x, roundings=1)


@MAKERS.of(aten.expand.default)
def _expand(out, x, size, **_) -> Made:
    need(len(out) == len(x.shape) and out[0] == x.shape[0], "it works across the rows of a batch")
    return moved(lambda z: z.expand(len(z), *out[1:]), x)


@MAKERS.of(aten.permute.default)
def _permute(out, x, dims) -> Made:
    need(dims[0] % len(dims) == 0, "it works across the rows of a batch")
    return moved(lambda z: z.permute(dims), x)


@MAKERS.of(aten.transpose.int)
def _transpose(out, x, a, b) -> Made:
    a, b = axes_of([a, b], len(x.shape))
    return moved(lambda z: z.transpose(a, b), x)


@MAKERS.of(aten.slice.Tensor)
def _slice(out, x, dim=0, start=None, end=None, step=1) -> Made:
    if out == x.shape and step == 1:
        return moved(lambda z: z, x)
    (axis,) = axes_of(dim, len(x.shape))
    where = (slice(None),) * axis + (slice(*slice(start, end, step).indices(x.shape[axis])),)
    return moved(lambda z: z[where], x)


@MAKERS.of(aten.select.int)
def _select(out, x, dim, index) -> Made:
    (axis,) = axes_of(dim, len(x.shape))
    return moved(lambda z: z.select(axis, index), x)


@MAKERS.of(aten.flip.default)
def _flip(out, x, dims) -> Made:
    axes = axes_of(dims, len(x.shape))
    return moved(lambda z: z.flip(axes), x)


@MAKERS.of(aten.constant_pad_nd.default)
def _pad(out, x, pad, value=0.0) -> Made:
    need(len(pad) <= 2 * (len(out) - 1), "it works across the rows of a batch")
    bias = F.pad(torch.zeros(1, *x.shape[1:], dtype=torch.float64), pad, value=value) if value else None
    return Made(Affine(lambda z: F.pad(z, pad), lambda z: F.pad(z, pad), bias, roundings=1), (x,))


@MAKERS.of(aten.cat.default)
def _cat(out, parts, dim=0) -> Made:
    return _joined(torch.cat, parts, *axes_of(dim, len(out)))


@MAKERS.of(aten.stack.default)
def _stack(out, parts, dim=0) -> Made:
    return _joined(torch.stack, parts, *axes_of(dim, len(out)))


def _joined(join: Callable[..., Tensor], parts: list[Any], axis: int) -> Made:
    variable = [part for part in parts if isinstance(part, Var)]
    constants = [None if isinstance(part, Var) else constant(part, part.shape) for part in parts]

    def linear(*inputs: Tensor) -> Tensor:
        given = iter(inputs)
        n = len(inputs[0])
        return join(
            [next(given) if c is None else torch.zeros_like(c).expand(n, *c.shape[1:]) for c in constants], axis
        )

    zeros = [torch.zeros(1, *part.shape[1:], dtype=torch.float64) if isinstance(part, Var) else part for part in parts]
    bias = join([z if c is None else c for z, c in zip(zeros, constants, strict=True)], axis)
    return Made(Affine(linear, linear, bias), tuple(variable))
