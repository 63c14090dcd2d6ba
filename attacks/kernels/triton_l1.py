"""The projection onto the L1 ball and the box together, without a sort, in Triton: the twin of `project_l1`."""

# ruff: noqa: N803
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportOperatorIssue=false, reportAssignmentType=false

import torch
import triton
import triton.language as tl
from torch import Tensor

ROUNDS = 200  # at most; some ten do, for what is sought lies on a line between corners
WIDEST = 4096  # the most columns that a program holds at once: a wider row is read again in every round


def project_l1(x: Tensor, z: Tensor, radius: Tensor, low: Tensor, high: Tensor) -> Tensor:
    rows, width = x.shape
    images = [tensor.contiguous() for tensor in (x, z, low, high)]
    out = torch.empty_like(images[0])
    block = min(WIDEST, triton.next_power_of_2(width))
    with torch.cuda.device_of(x):
        _project[(rows,)](
            *images,
            radius.double().contiguous(),
            out,
            width,
            MOST=ROUNDS,
            DOUBLE=x.dtype == torch.float64,
            BLOCK=block,
            num_warps=min(16, max(1, block // 256)),
            enable_fp_fusion=False,
        )
    return out


@triton.jit
def _length_and_room(x, z, low, high, at, there):
    """In float64, where the differences are exact."""
    clean = tl.load(x + at, mask=there, other=0.0).to(tl.float64)
    delta = tl.load(z + at, mask=there, other=0.0).to(tl.float64) - clean
    up = tl.load(high + at, mask=there, other=0.0).to(tl.float64) - clean
    down = clean - tl.load(low + at, mask=there, other=0.0).to(tl.float64)
    return clean, delta, tl.maximum(tl.where(delta > 0, up, down), 0.0)


@triton.jit
def _moved(x, z, low, high, start, width, cut, BLOCK: tl.constexpr):
    """What all coordinates together move by where `cut` is taken from each."""
    total = tl.zeros((BLOCK,), tl.float64)
    for first in range(0, width, BLOCK):
        column = first + tl.arange(0, BLOCK)
        _, delta, room = _length_and_room(x, z, low, high, start + column, column < width)
        total += tl.minimum(tl.maximum(tl.abs(delta) - cut, 0.0), room)
    return tl.sum(total)


@triton.jit
def _next_towards(value, goal, DOUBLE: tl.constexpr):
    """The float next to value on the way to goal."""
    bits = value.to(tl.int64 if DOUBLE else tl.int32, bitcast=True)
    away = (goal > value) == (value > 0)  # further from zero
    bits = tl.where(away, bits + 1, bits - 1)
    return tl.where(value == 0, goal * 0.0, bits.to(tl.float64 if DOUBLE else tl.float32, bitcast=True))


@triton.jit
def _project(
    x, z, low, high, radius, out, width, MOST: tl.constexpr, DOUBLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    start = row * width
    target = tl.load(radius + row)
    longest = tl.zeros((BLOCK,), tl.float64)
    for first in range(0, width, BLOCK):
        column = first + tl.arange(0, BLOCK)
        _, delta, _ = _length_and_room(x, z, low, high, start + column, column < width)
        longest = tl.maximum(longest, tl.abs(delta))
    # The sum falls from `above` at the cut `least` to `below` at `most`: regula falsi, as in the Illinois algorithm.
    least = tl.sum(tl.zeros((BLOCK,), tl.float64))
    most = tl.max(longest)
    above = _moved(x, z, low, high, start, width, least, BLOCK) - target
    below = -target
    most = tl.where(above <= 0, least, most)
    rounds = tl.where(above <= 0, MOST, 0)
    weight_above, weight_below, side = above, below, 0
    while rounds < MOST:
        share = weight_above / tl.maximum(weight_above - weight_below, 1e-300)
        cut = least + (most - least) * share
        cut = tl.where((cut > least) & (cut < most), cut, least + (most - least) * 0.5)
        over = _moved(x, z, low, high, start, width, cut, BLOCK) - target
        if over > 0:
            least = cut
            weight_above = over
            weight_below = tl.where(side == 1, weight_below * 0.5, weight_below)
            side = 1
        else:
            most = cut
            weight_below = over
            weight_above = tl.where(side == 2, weight_above * 0.5, weight_above)
            side = 2
        done = ((over <= 0) & (over >= -1e-13 * target)) | (most - least <= 1e-16 * most)
        rounds = tl.where(done, MOST, rounds + 1)
    for first in range(0, width, BLOCK):
        column = first + tl.arange(0, BLOCK)
        there = column < width
        at = start + column
        clean, delta, room = _length_and_room(x, z, low, high, at, there)
        moved = tl.minimum(tl.maximum(tl.abs(delta) - most, 0.0), room)
        exact = tl.where(delta < 0, clean - moved, clean + moved)
        origin = tl.load(x + at, mask=there, other=0.0)
        nearest = exact.to(origin.dtype)
        beyond = tl.abs(nearest.to(tl.float64) - clean) > moved
        nearest = tl.where(beyond, _next_towards(nearest, origin, DOUBLE), nearest)
        lowest = tl.load(low + at, mask=there, other=0.0)
        highest = tl.load(high + at, mask=there, other=0.0)
        nearest = tl.where(nearest < lowest, lowest, tl.where(nearest > highest, highest, nearest))
        tl.store(out + at, tl.where(delta != delta, delta.to(origin.dtype), nearest), mask=there)
