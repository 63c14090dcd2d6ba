"""PyTorch's operators as pieces that can be bounded: the list of what a model may be made of.

Each function takes the shape of the output (its batch first) and the operator's own arguments, where what depends on
the model's input is a `Var` and all else is a number, a list or a tensor. It returns a piece and the variables that it
is of, or raises `Unbounded` with the reason.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .pieces import Affine, Bent, Largest, Rectifier, Shape

aten = torch.ops.aten


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
MAKERS: dict[Any, Maker] = {}


def _of(*operators: Any) -> Callable[[Maker], Maker]:
    def entered(maker: Maker) -> Maker:
        MAKERS.update(dict.fromkeys(operators, maker))
        return maker

    return entered


def _need(holds: bool, reason: str) -> None:
    if not holds:
        raise Unbounded(reason)


def _constant(value: Any, like: Shape) -> Tensor:
    """A constant [1, ...] in float64, ready to be laid over tensors of that shape, batch first."""
    value = torch.as_tensor(value).detach().double()
    value = value.reshape((1,) * (len(like) - value.ndim) + tuple(value.shape))
    if len(value) > 1:
        _need(bool((value == value[:1]).all()), "its constant differs from row to row")
    return value[:1]


def _moved(function: Callable[..., Tensor], *inputs: Var, roundings: int = 0) -> Made:
    """A linear function whose coefficients are not negative."""
    return Made(Affine(function, function, roundings=roundings), inputs)


def _axes(dims: int | list[int], ndim: int) -> tuple[int, ...]:
    """The dimensions, counted from the front; none may be the batch."""
    axes = tuple(d % ndim for d in ([dims] if isinstance(dims, int) else dims))
    _need(0 not in axes, "it works across the rows of a batch")
    return axes


# Weights


@_of(aten.convolution.default, aten._convolution.default)
def _convolution(out, x, weight, bias, stride, padding, dilation, transposed, output_padding, groups, *_) -> Made:
    _need(isinstance(x, Var) and isinstance(weight, Tensor), "its weight depends on the input")
    _need(len(x.shape) == weight.ndim, "its input has no batch")
    weight = weight.detach().double()
    how = (stride, padding, dilation, transposed, output_padding, groups)
    taps = math.prod(weight.shape[2:])
    terms = taps * (weight.shape[0] // groups if transposed else weight.shape[1])

    def back(form: Tensor) -> tuple[Tensor]:
        like = form.new_zeros(()).expand(len(form), *x.shape[1:])
        only_input = [True, False, False]
        return (aten.convolution_backward(form, like, weight, None, *how, only_input)[0],)

    shape = (1, len(bias), *[1] * (len(out) - 2)) if bias is not None else None
    return Made(
        Affine(
            lambda z: aten.convolution(z, weight, None, *how),
            lambda z: aten.convolution(z, weight.abs(), None, *how),
            None if bias is None else bias.detach().double().reshape(shape),
            roundings=terms + 1,
            transposed=back,
        ),
        (x,),
    )


@_of(aten.addmm.default)
def _addmm(out, bias, x, weight, *, beta=1, alpha=1) -> Made:
    _need(
        not isinstance(bias, Var) and isinstance(x, Var) and isinstance(weight, Tensor),
        "its weight depends on the input",
    )
    weight = weight.detach().double() * alpha
    return Made(
        Affine(
            lambda z: z @ weight,
            lambda z: z @ weight.abs(),
            _constant(bias, out) * beta,
            roundings=len(weight) + 3,
            transposed=lambda form: (form @ weight.T,),
        ),
        (x,),
    )


@_of(aten.mm.default)
def _mm(out, x, weight) -> Made:
    return _addmm(out, 0.0, x, weight)


@_of(aten.native_batch_norm.default, aten.cudnn_batch_norm.default, aten.miopen_batch_norm.default)
def _batch_norm(out, x, weight, bias, mean, variance, training, momentum, eps) -> Made:
    _need(not training, "it normalises by the batch's own statistics")
    channels = (1, x.shape[1], *[1] * (len(x.shape) - 2))
    scale = (variance.detach().double() + eps).rsqrt()
    scale = (scale if weight is None else scale * weight.detach().double()).reshape(channels)
    shift = mean.detach().double().reshape(channels) * scale
    plus = torch.zeros_like(shift) if bias is None else bias.detach().double().reshape(channels)
    return Made(
        Affine(lambda z: z * scale, lambda z: z * scale.abs(), plus - shift, plus.abs() + shift.abs(), roundings=8),
        (x,),
    )


@_of(aten._native_batch_norm_legit_no_training.default)
def _batch_norm_in_eval(out, x, weight, bias, mean, variance, momentum, eps) -> Made:
    return _batch_norm(out, x, weight, bias, mean, variance, False, momentum, eps)


# Arithmetic


@_of(aten.add.Tensor, aten.add.Scalar)
def _add(out, a, b, alpha=1) -> Made:
    return _sum(out, (a, 1.0), (b, float(alpha)))


@_of(aten.sub.Tensor, aten.sub.Scalar)
def _sub(out, a, b, alpha=1) -> Made:
    return _sum(out, (a, 1.0), (b, -float(alpha)))


@_of(aten.rsub.Tensor, aten.rsub.Scalar)
def _rsub(out, a, b, alpha=1) -> Made:
    return _sum(out, (b, 1.0), (a, -float(alpha)))


def _sum(out: Shape, *terms: tuple[Any, float]) -> Made:
    """The sum of the terms, each with its factor."""
    variable = [(v, factor) for v, factor in terms if isinstance(v, Var)]
    _need(all(v.shape[0] == out[0] and len(v.shape) == len(out) for v, _ in variable), "it spreads its input over rows")
    factors = [factor for _, factor in variable]
    bias = sum(_constant(v, out) * factor for v, factor in terms if not isinstance(v, Var))

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


@_of(aten.mul.Tensor, aten.mul.Scalar)
def _mul(out, a, b) -> Made:
    x, factor = (a, b) if isinstance(a, Var) else (b, a)
    _need(not isinstance(factor, Var), "it multiplies two things that depend on the input")
    return _scaled(out, x, _constant(factor, out))


@_of(aten.div.Tensor, aten.div.Scalar)
def _div(out, x, divisor) -> Made:
    _need(isinstance(x, Var) and not isinstance(divisor, Var), "it divides by what depends on the input")
    return _scaled(out, x, 1 / _constant(divisor, out))


@_of(aten.neg.default)
def _neg(out, x) -> Made:
    return _scaled(out, x, _constant(-1.0, out))


def _scaled(out: Shape, x: Var, factor: Tensor) -> Made:
    _need(len(x.shape) == len(out), "it spreads its input over rows")
    _need(bool(factor.isfinite().all()), "its factor is not finite")
    return Made(Affine(lambda z: z * factor, lambda z: z * factor.abs(), roundings=3), (x,))


# Sums over places


def _reduction(function: Callable[..., Tensor]) -> Maker:
    def made(out, x, dims, keepdim=False, *, dtype=None) -> Made:
        axes = _axes(dims, len(x.shape))
        count = math.prod(x.shape[axis] for axis in axes)
        return _moved(lambda z: function(z, axes, keepdim), x, roundings=count + 1)

    return made


MAKERS[aten.mean.dim] = _reduction(torch.mean)
MAKERS[aten.sum.dim_IntList] = _reduction(torch.sum)


def _average(function: Callable[..., Tensor]) -> Maker:
    def made(out, x, kernel, stride=(), padding=0, ceil_mode=False, count_include_pad=True) -> Made:
        _need(len(x.shape) == len(out), "its input has no batch")
        places = len(x.shape) - 2
        taps = math.prod(kernel) if len(kernel) == places else kernel[0] ** places
        how = (kernel, stride, padding, ceil_mode, count_include_pad)
        return _moved(lambda z: function(z, *how), x, roundings=taps + 1)

    return made


def _adaptive_average(function: Callable[..., Tensor]) -> Maker:
    def made(out, x, size) -> Made:
        _need(len(x.shape) == len(out), "its input has no batch")
        return _moved(lambda z: function(z, size), x, roundings=math.prod(x.shape[2:]) + 1)

    return made


for _operator in (aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default):
    MAKERS[_operator] = _average(_operator)
for _operator in (
    aten.adaptive_avg_pool1d.default,
    aten._adaptive_avg_pool2d.default,
    aten._adaptive_avg_pool3d.default,
):
    MAKERS[_operator] = _adaptive_average(_operator)


# Places


@_of(
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
    _need(out[:1] == x.shape[:1], "it works across the rows of a batch")
    return _moved(lambda z: z.reshape(len(z), *out[1:]), x)


@_of(aten._to_copy.default)
def _converted(out, x, **_) -> Made:
    return _moved(lambda z: z, x, roundings=1)


@_of(aten.expand.default)
def _expand(out, x, size, **_) -> Made:
    _need(len(out) == len(x.shape) and out[0] == x.shape[0], "it works across the rows of a batch")
    return _moved(lambda z: z.expand(len(z), *out[1:]), x)


@_of(aten.permute.default)
def _permute(out, x, dims) -> Made:
    _need(dims[0] % len(dims) == 0, "it works across the rows of a batch")
    return _moved(lambda z: z.permute(dims), x)


@_of(aten.transpose.int)
def _transpose(out, x, a, b) -> Made:
    a, b = _axes([a, b], len(x.shape))
    return _moved(lambda z: z.transpose(a, b), x)


@_of(aten.slice.Tensor)
def _slice(out, x, dim=0, start=None, end=None, step=1) -> Made:
    if out == x.shape and step == 1:
        return _moved(lambda z: z, x)
    (axis,) = _axes(dim, len(x.shape))
    where = (slice(None),) * axis + (slice(*slice(start, end, step).indices(x.shape[axis])),)
    return _moved(lambda z: z[where], x)


@_of(aten.select.int)
def _select(out, x, dim, index) -> Made:
    (axis,) = _axes(dim, len(x.shape))
    return _moved(lambda z: z.select(axis, index), x)


@_of(aten.flip.default)
def _flip(out, x, dims) -> Made:
    axes = _axes(dims, len(x.shape))
    return _moved(lambda z: z.flip(axes), x)


@_of(aten.constant_pad_nd.default)
def _pad(out, x, pad, value=0.0) -> Made:
    _need(len(pad) <= 2 * (len(out) - 1), "it works across the rows of a batch")
    bias = F.pad(torch.zeros(1, *x.shape[1:], dtype=torch.float64), pad, value=value) if value else None
    return Made(Affine(lambda z: F.pad(z, pad), lambda z: F.pad(z, pad), bias, roundings=1), (x,))


@_of(aten.cat.default)
def _cat(out, parts, dim=0) -> Made:
    return _joined(torch.cat, parts, *_axes(dim, len(out)))


@_of(aten.stack.default)
def _stack(out, parts, dim=0) -> Made:
    return _joined(torch.stack, parts, *_axes(dim, len(out)))


def _joined(join: Callable[..., Tensor], parts: list[Any], axis: int) -> Made:
    variable = [part for part in parts if isinstance(part, Var)]
    constants = [None if isinstance(part, Var) else _constant(part, part.shape) for part in parts]

    def linear(*inputs: Tensor) -> Tensor:
        given = iter(inputs)
        n = len(inputs[0])
        return join(
            [next(given) if c is None else torch.zeros_like(c).expand(n, *c.shape[1:]) for c in constants], axis
        )

    zeros = [torch.zeros(1, *part.shape[1:], dtype=torch.float64) if isinstance(part, Var) else part for part in parts]
    bias = join([z if c is None else c for z, c in zip(zeros, constants, strict=True)], axis)
    return Made(Affine(linear, linear, bias), tuple(variable))


@_of(aten.zeros_like.default)
def _zeros_like(out, x, **_) -> Made:
    return _scaled(out, x, _constant(0.0, out))


# What is not affine


@_of(aten.relu.default)
def _relu(out, x) -> Made:
    return Made(Rectifier(), (x,))


@_of(aten.clamp.default, aten.clamp_min.default)
def _clamp(out, x, low=None, high=None) -> Made:
    _need(low == 0 and high is None, "only a clamp at 0 from below is a ReLU")
    return Made(Rectifier(), (x,))


@_of(aten.threshold.default)
def _threshold(out, x, threshold, value) -> Made:
    _need(threshold == 0 and value == 0, "only a threshold of 0 is a ReLU")
    return Made(Rectifier(), (x,))


@_of(aten.maximum.default)
def _maximum(out, a, b) -> Made:
    x, other = (a, b) if isinstance(a, Var) else (b, a)
    _need(not isinstance(other, Var) and not other.any() and x.shape == out, "only the maximum with 0 is a ReLU")
    return Made(Rectifier(), (x,))


@_of(aten.leaky_relu.default)
def _leaky_relu(out, x, slope=0.01) -> Made:
    _need(0 <= slope <= 1, "its slope is not within 0 to 1")
    return Made(Rectifier(float(slope)), (x,))


@_of(aten.max_pool2d_with_indices.default)
def _max_pool2d(out, x, kernel, stride=(), padding=0, dilation=1, ceil_mode=False) -> Made:
    _need(len(x.shape) == 4, "its input has no batch")
    (kh, kw), (ph, pw), (dh, dw) = (_pair(v) for v in (kernel, padding, dilation))
    sh, sw = _pair(stride or kernel)
    height, width = x.shape[2:]
    down = torch.arange(out[2])[:, None] * sh - ph + torch.arange(kh) * dh  # [H', kh]
    across = torch.arange(out[3])[:, None] * sw - pw + torch.arange(kw) * dw
    rows, columns = down[:, None, :, None], across[None, :, None, :]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    places = torch.where(inside, rows * width + columns, -1).flatten(2).flatten(0, 1)
    return Made(Largest(places, out[2:]), (x,))


def _pair(value: Any) -> tuple[int, int]:
    values = [value] if isinstance(value, int) else list(value)
    return (values[0], values[-1])
