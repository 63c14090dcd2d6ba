"""A square painted into each image, in one launch, in Triton: the twin of `recolour`."""

# ruff: noqa: N803
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from .triton_steps import clamp

BLOCK = 1024  # numbers of an image, by one program


def recolour(x: Tensor, x_adv: Tensor, corner: Tensor, side: int, colour: Tensor, low: Tensor, high: Tensor) -> Tensor:
    rows, channels, height, width = x.shape
    images = [tensor.contiguous() for tensor in (x, x_adv, low, high)]
    out = torch.empty_like(images[0])
    numbers = channels * height * width
    block = min(BLOCK, triton.next_power_of_2(numbers))
    with torch.cuda.device_of(x):
        _recolour[(rows, triton.cdiv(numbers, block))](
            *images,
            corner,
            corner.stride(0),
            corner.stride(1),
            colour.contiguous(),
            out,
            channels,
            height,
            width,
            side,
            BLOCK=block,
            enable_fp_fusion=False,
        )
    return out


# Triton would compile anew for each kind of side (1, divisible by 16).
@triton.jit(do_not_specialize=["side"])
def _recolour(
    x, x_adv, low, high, corner, stride, apart, colour, out, channels, height, width, side, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    numbers = channels * height * width
    number = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = number < numbers
    at = row * numbers + number
    top = (tl.load(corner + row * stride) * (height - side + 1)).to(tl.int32)
    left = (tl.load(corner + (row * stride + apart)) * (width - side + 1)).to(tl.int32)
    channel = number // (height * width)
    down, right = number // width % height - top, number % width - left
    inside = there & (down >= 0) & (down < side) & (right >= 0) & (right < side)
    painted = tl.load(x + at, mask=inside, other=0.0) + tl.load(
        colour + (row * channels + channel), mask=inside, other=0.0
    )
    value = tl.where(inside, painted, tl.load(x_adv + at, mask=there, other=0.0))
    value = clamp(value, tl.load(low + at, mask=there, other=0.0), tl.load(high + at, mask=there, other=0.0))
    tl.store(out + at, value, mask=there)
