"""Adding, and scaling by constants."""

from typing import Any

import torch
from torch import Tensor

from ..pieces import Affine, Shape
from .making import Made, Makers, Var, constant, need

aten = torch.ops.aten
MAKERS = Makers()


@MAKERS.of(aten.add.Tensor, aten.add.Scalar)
def _add(out, a, b, alpha=1) -> Made:
    return _sum(out, (a, 1.0), (b, float(alpha)))


@MAKERS.of(aten.sub.Tensor, aten.sub.Scalar)
def _sub(out, a, b, alpha=1) -> Made:
    return _sum(out, (a, 1.0), (b, -float(alpha)))


@MAKERS.of(aten.rsub.Tensor, aten.rsub.Scalar)
def _rsub(out, a, b, alpha=1) -> Made:
    return _sum(out, (b, 1.0), (a, -float(alpha)))


def _sum(out: Shape, *terms: tuple[Any, float]) -> Made:
    """The sum of the terms, each with its factor."""
    variable = [(v, factor) for v, factor in terms if isinstance(v, Var)]
    need(all(v.shape[0] == out[0] and len(v.shape) == len(out) for v, _ in variable), "it spreads its input over rows")
    factors = [factor for _, factor in variable]
    bias = sum(constant(v, out) * factor for v, factor in terms if not isinstance(v, Var))

    def combined(inputs, factors):
        total = sum(z * factor for z, factor in zip(inputs, factors, strict=True))
        return total.expand(len(total), *out[1:])  # type: ignore[union-attr]  # a constant may be the wider one

    return Made(
        Affine(
            lambda *z: combined(z, factors),
            lambda *z: combined(z, [abs(factor) for factor in factors]),
            bias if isinstance(bias, Tensor) else None,
            roundings=3,
        ),
        tuple(v for v, _ in variable),
    )


@MAKERS.of(aten.mul.Tensor, aten.mul.Scalar)
def _mul(out, a, b) -> Made:
    x, factor = (a, b) if isinstance(a, Var) else (b, a)
    need(not isinstance(factor, Var), "it multiplies two things that depend on the input")
    return _scaled(out, x, constant(factor, out))


@MAKERS.of(aten.div.Tensor, aten.div.Scalar)
def _div(out, x, divisor) -> Made:
    need(isinstance(x, Var) and not isinstance(divisor, Var), "it divides by what depends on the input")
    return _scaled(out, x, 1 / constant(divisor, out))


@MAKERS.of(aten.neg.default)
def _neg(out, x) -> Made:
    return _scaled(out, x, constant(-1.0, out))


@MAKERS.of(aten.zeros_like.default)
def _zeros_like(out, x, **_) -> Made:
    return _scaled(out, x, constant(0.0, out))


def _scaled(out: Shape, x: Var, factor: Tensor) -> Made:
    need(len(x.shape) == len(out), "it spreads its input over rows")
    need(bool(factor.isfinite().all()), "its factor is not finite")
    return Made(Affine(lambda z: z * factor, lambda z: z * factor.abs(), roundings=3), (x,))
