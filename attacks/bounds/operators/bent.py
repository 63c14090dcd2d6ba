"""What is not affine: ReLU in its spellings, and the largest of a window."""

from typing import Any

import torch

from ..pieces import Largest, Rectifier
from .making import Made, Makers, Var, need

aten = torch.ops.aten
MAKERS = Makers()


@MAKERS.of(aten.relu.default)
def _relu(out, x) -> Made:
    return Made(Rectifier(), (x,))


@MAKERS.of(aten.clamp.default, aten.clamp_min.default)
def _clamp(out, x, low=None, high=None) -> Made:
    need(low == 0 and high is None, "only a clamp at 0 from below is a ReLU")
    return Made(Rectifier(), (x,))


@MAKERS.of(aten.threshold.default)
def _threshold(out, x, threshold, value) -> Made:
    need(threshold == 0 and value == 0, "only a threshold of 0 is a ReLU")
    return Made(Rectifier(), (x,))


@MAKERS.of(aten.maximum.default)
def _maximum(out, a, b) -> Made:
    x, other = (a, b) if isinstance(a, Var) else (b, a)
    need(not isinstance(other, Var) and not other.any() and x.shape == out, "only the maximum with 0 is a ReLU")
    return Made(Rectifier(), (x,))


@MAKERS.of(aten.leaky_relu.default)
def _leaky_relu(out, x, slope=0.01) -> Made:
    need(0 <= slope <= 1, "its slope is not within 0 to 1")
    return Made(Rectifier(float(slope)), (x,))


@MAKERS.of(aten.max_pool2d_with_indices.default)
def _max_pool2d(out, x, kernel, stride=(), padding=0, dilation=1, ceil_mode=False) -> Made:
    need(len(x.shape) == 4, "its input has no batch")
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
