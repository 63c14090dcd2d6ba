"""Sums and averages over places."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .making import Made, Maker, Makers, axes_of, moved, need

aten = torch.ops.aten
MAKERS = Makers()


def _reduction(function: Callable[..., Tensor]) -> Maker:
    def made(out, x, dims, keepdim=False, *, dtype=None) -> Made:
        axes = axes_of(dims, len(x.shape))
        count = math.prod(x.shape[axis] for axis in axes)
        return moved(lambda z: function(z, axes, keepdim), x, roundings=count + 1)

    return made


MAKERS[aten.mean.dim] = _reduction(torch.mean)
MAKERS[aten.sum.dim_IntList] = _reduction(torch.sum)


def _average(function: Callable[..., Tensor]) -> Maker:
    def made(out, x, kernel, stride=(), padding=0, ceil_mode=False, count_include_pad=True) -> Made:
        need(len(x.shape) == len(out), "its input has no batch")
        places = len(x.shape) - 2
        taps = math.prod(kernel) if len(kernel) == places else kernel[0] ** places
        how = (kernel, stride, padding, ceil_mode, count_include_pad)
        return moved(lambda z: function(z, *how), x, roundings=taps + 1)

    return made


def _adaptive_average(function: Callable[..., Tensor]) -> Maker:
    def made(out, x, size) -> Made:
        need(len(x.shape) == len(out), "its input has no batch")
        return moved(lambda z: function(z, size), x, roundings=math.prod(x.shape[2:]) + 1)

    return made


for _operator in (aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default):
    MAKERS[_operator] = _average(_operator)
for _operator in (
    aten.adaptive_avg_pool1d.default,
    aten._adaptive_avg_pool2d.default,
    aten._adaptive_avg_pool3d.default,
):
    MAKERS[_operator] = _adaptive_average(_operator)
