"""The steps and the way back into ball and box, in Triton: twins of those in reference.py."""

# ruff: noqa: N803
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportOperatorIssue=false, reportAssignmentType=false, reportArgumentType=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from .reference import NEWTON_STEPS

COLUMNS = 1024  # of a row, by one program of step_linf
WORK = {torch.float32: tl.float32, torch.float64: tl.float64}
WIDEST = 4096  # the most columns that a program of the L2 kernels holds at once


def step_linf(x_adv: Tensor, direction: Tensor, length: Tensor, low: Tensor, high: Tensor) -> Tensor:
    rows, width = x_adv.shape
    work = _work(x_adv)
    block = min(COLUMNS, triton.next_power_of_2(width))
    images = [tensor.contiguous() for tensor in (x_adv, direction, low, high)]
    out = torch.empty_like(images[0])
    with torch.cuda.device_of(x_adv):
        _step_linf[(rows, triton.cdiv(width, block))](
            *images,
            length.to(work).contiguous(),
            out,
            width,
            LARGEST=torch.finfo(work).max,
            WORK=WORK[work],
            BLOCK=block,
            enable_fp_fusion=False,
        )
    return out


def step_l2(
    x: Tensor, x_adv: Tensor, direction: Tensor, length: Tensor, radius: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    return _to_ball_and_box(x, x_adv, direction, length, radius, low, high, longest=1.0)


def shrink_l2(x: Tensor, z: Tensor, radius: Tensor, low: Tensor, high: Tensor, longest: float = 1.0) -> Tensor:
    return _to_ball_and_box(x, z, None, radius, radius, low, high, longest)


def _to_ball_and_box(
    x: Tensor,
    z: Tensor,
    direction: Tensor | None,
    length: Tensor,
    radius: Tensor,
    low: Tensor,
    high: Tensor,
    longest: float,
) -> Tensor:
    """shrink_l2 of z + length along direction, or of z itself where there is no direction."""
    rows, width = x.shape
    work = _work(x)
    limits = torch.finfo(work)
    block = min(WIDEST, triton.next_power_of_2(width))
    images = [tensor.contiguous() for tensor in (x, z, z if direction is None else direction, low, high)]
    lengths = [tensor.to(work).contiguous() for tensor in (length, radius)]
    out = torch.empty_like(images[0])
    with torch.cuda.device_of(x):
        _step_l2[(rows,)](
            *images,
            *lengths,
            out,
            width,
            ROUNDS=NEWTON_STEPS,
            STEPS=direction is not None,
            MOST=longest * longest,
            LONGEST_STEP=limits.max**0.25,
            ENOUGH=1 - 8 * limits.eps,
            TINY=limits.tiny,
            LARGEST=limits.max,
            WORK=WORK[work],
            BLOCK=block,
            num_warps=min(16, max(1, block // 256)),
            enable_fp_fusion=False,
        )
    return out


def _work(images: Tensor) -> torch.dtype:
    """What is computed in."""
    return torch.float64 if images.dtype == torch.float64 else torch.float32


@triton.jit
def _exactly(value: tl.constexpr, WORK: tl.constexpr):
    # A bare float may become float32: 1e18 is then off by 1.6e-8, and 1 - 2e-15 is 1.
    return tl.full((), value, WORK)


@triton.jit
def _clamp(value, low, high):
    # Comparisons, since minimum and maximum would turn NaN into a bound.
    return tl.where(value < low, low, tl.where(value > high, high, value))


@triton.jit
def _step_linf(
    x_adv, direction, low, high, length, out, width,
    LARGEST: tl.constexpr, WORK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    at = row * width + column
    reach = tl.minimum(tl.load(length + row).to(WORK), _exactly(LARGEST, WORK))
    way = tl.load(direction + at, mask=inside, other=0.0)
    sign = tl.where(way > 0, 1.0, tl.where(way < 0, -1.0, 0.0)).to(WORK)
    moved = tl.load(x_adv + at, mask=inside, other=0.0).to(WORK) + sign * reach
    lowest = tl.load(low + at, mask=inside, other=0.0).to(WORK)
    highest = tl.load(high + at, mask=inside, other=0.0).to(WORK)
    tl.store(out + at, _clamp(moved, lowest, highest), mask=inside)


@triton.jit
def _image(pointer, at, inside, WORK: tl.constexpr):
    return tl.load(pointer + at, mask=inside, other=0.0).to(WORK)


@triton.jit
def _step_l2(
    x, z, direction, low, high, length, radius, out, width,
    ROUNDS: tl.constexpr, STEPS: tl.constexpr, MOST: tl.constexpr, LONGEST_STEP: tl.constexpr, ENOUGH: tl.constexpr,
    TINY: tl.constexpr, LARGEST: tl.constexpr, WORK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    start = row * width
    nothing = tl.zeros((BLOCK,), tl.float64)
    along, across, size_of = nothing, nothing, nothing
    unit = tl.sum(nothing) + 1
    if STEPS and tl.float64 == WORK:  # in which the squares of float32 never underflow, but its own may
        most = nothing
        for first in range(0, width, BLOCK):
            column = first + tl.arange(0, BLOCK)
            most = tl.maximum(most, tl.abs(_image(direction, start + column, column < width, WORK)))
        unit = tl.maximum(tl.max(most), _exactly(TINY, tl.float64))
    for first in range(0, width, BLOCK):
        column = first + tl.arange(0, BLOCK)
        inside = column < width
        delta = (_image(z, start + column, inside, WORK) - _image(x, start + column, inside, WORK)).to(tl.float64)
        size_of += delta * delta
        if STEPS:
            way = _image(direction, start + column, inside, WORK).to(tl.float64) / unit
            along += way * way
            across += way * delta
    most_squared, largest = _exactly(MOST, tl.float64), _exactly(LARGEST, tl.float64)
    tiny = _exactly(TINY, tl.float64)
    squares = tl.sum(size_of)
    scale = tl.sum(nothing)
    if STEPS:
        reach = tl.minimum(tl.load(length + row).to(tl.float64), _exactly(LONGEST_STEP, tl.float64))
        norm = tl.sqrt(tl.sum(along))
        scale = tl.where(norm > 0, reach / norm, 0.0)
        squares += 2 * scale * tl.sum(across) + scale * scale * tl.sum(along)
    limit = tl.load(radius + row).to(tl.float64)
    target = tl.minimum(limit * limit, largest)
    t = tl.minimum(target / tl.maximum(squares, tiny), most_squared)
    enough = target * _exactly(ENOUGH, tl.float64)

    rounds = 0
    while rounds < ROUNDS:
        total, free = nothing, nothing
        s = tl.sqrt(t)
        for first in range(0, width, BLOCK):
            column = first + tl.arange(0, BLOCK)
            at = start + column
            inside = column < width
            clean = _image(x, at, inside, WORK)
            ahead = _image(z, at, inside, WORK)
            if STEPS:
                ahead += (_image(direction, at, inside, WORK).to(tl.float64) / unit * scale).to(WORK)
            delta = ahead - clean
            moved = clean + (delta.to(tl.float64) * s).to(WORK)
            near = _clamp(moved, _image(low, at, inside, WORK), _image(high, at, inside, WORK))
            tl.store(out + at, near, mask=inside)
            square = tl.where(inside, delta.to(tl.float64) * delta.to(tl.float64), 0.0)
            kept = (near - clean).to(tl.float64)
            full = near != moved
            total += tl.where(inside, tl.where(full, kept * kept, square * t), 0.0)
            free += tl.where(full, 0.0, square)
        size = tl.sum(total)
        short = (size < enough) & (t < most_squared)
        climb = (target - size) / tl.maximum(tl.sum(free), tiny)
        t = tl.where(short, tl.minimum(t + climb, most_squared), t)
        rounds = tl.where(short, rounds + 1, ROUNDS)
