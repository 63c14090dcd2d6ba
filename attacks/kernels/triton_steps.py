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


Best = tuple[Tensor, Tensor, Tensor]  # better [b] bool, best and best_grad [b, d], contiguous
Inertia = tuple[Tensor, Tensor, float]  # the step ahead and the point before, [b, d]; the share of the last move


def step_linf(
    x_adv: Tensor, direction: Tensor, length: Tensor, low: Tensor, high: Tensor, unit: Tensor | None = None
) -> Tensor:
    return linf(x_adv, direction, length, low, high, unit)


def linf(
    x_adv: Tensor,
    direction: Tensor,
    length: Tensor,
    low: Tensor,
    high: Tensor,
    unit: Tensor | None,
    before: Tensor | None = None,
    inertia: float = 0.0,
    best: Best | None = None,
) -> Tensor:
    """step_linf; with `before` it keeps up the last move, and with `best` it remembers where that is better."""
    rows, width = x_adv.shape
    work = computed_in(x_adv)
    block = min(COLUMNS, triton.next_power_of_2(width))
    optional = [x_adv if tensor is None else tensor for tensor in (unit, before)]
    images = [tensor.contiguous() for tensor in (x_adv, direction, low, high, *optional)]
    out = torch.empty_like(images[0])
    with torch.cuda.device_of(x_adv):
        _step_linf[(rows, triton.cdiv(width, block))](
            *images,
            *(best or (length, x_adv, x_adv)),
            length.to(work).contiguous(),
            out,
            width,
            UNIT=unit is not None,
            INERTIA=None if before is None else inertia,
            REMEMBERS=best is not None,
            LARGEST=torch.finfo(work).max,
            WORK=WORK[work],
            BLOCK=block,
            enable_fp_fusion=False,
        )
    return out


def step_l2(
    x: Tensor, x_adv: Tensor, direction: Tensor, length: Tensor, radius: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    return to_ball_and_box(x, x_adv, direction, length, radius, low, high)


def shrink_l2(x: Tensor, z: Tensor, radius: Tensor, low: Tensor, high: Tensor, longest: float = 1.0) -> Tensor:
    return to_ball_and_box(x, z, None, radius, radius, low, high, longest)


def to_ball_and_box(
    x: Tensor,
    z: Tensor,
    direction: Tensor | None,
    length: Tensor,
    radius: Tensor,
    low: Tensor,
    high: Tensor,
    longest: float = 1.0,
    best: Best | None = None,
    mixed: Inertia | None = None,
) -> Tensor:
    """shrink_l2 of z + length along direction, or of z itself where there is no direction.

    best: where that is better, z and direction are remembered on the way.
    mixed: what is shrunk is not z but the step ahead of it, with inertia.
    """
    rows, width = x.shape
    work = computed_in(x)
    limits = torch.finfo(work)
    block = min(WIDEST, triton.next_power_of_2(width))
    ahead, before, inertia = mixed or (z, z, None)
    images = [tensor.contiguous() for tensor in (x, z, z if direction is None else direction, low, high, ahead, before)]
    lengths = [tensor.to(work).contiguous() for tensor in (length, radius)]
    out = torch.empty_like(images[0])
    with torch.cuda.device_of(x):
        _step_l2[(rows,)](
            *images,
            *(best or (radius, z, z)),
            *lengths,
            out,
            width,
            ROUNDS=NEWTON_STEPS,
            STEPS=direction is not None,
            INERTIA=inertia,
            REMEMBERS=best is not None,
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


def computed_in(images: Tensor) -> torch.dtype:
    """What is computed in."""
    return torch.float64 if images.dtype == torch.float64 else torch.float32


@triton.jit
def exactly(value: tl.constexpr, WORK: tl.constexpr):
    # A bare float may become float32: 1e18 is then off by 1.6e-8, and 1 - 2e-15 is 1.
    return tl.full((), value, WORK)


@triton.jit
def clamp(value, low, high):
    # Comparisons, since minimum and maximum would turn NaN into a bound.
    return tl.where(value < low, low, tl.where(value > high, high, value))


@triton.jit
def image(pointer, at, inside, WORK: tl.constexpr):
    return tl.load(pointer + at, mask=inside, other=0.0).to(WORK)


@triton.jit
def _remember(better, this, grad, best, best_grad, at, inside):
    """A row's best point and gradient, where this is better."""
    if better.to(tl.int32) != 0:
        tl.store(best + at, tl.load(this + at, mask=inside), mask=inside)
        tl.store(best_grad + at, tl.load(grad + at, mask=inside), mask=inside)


@triton.jit
def _with_inertia(here, ahead, before, INERTIA: tl.constexpr, WORK: tl.constexpr):
    return (ahead - here) * exactly(1 - INERTIA, WORK) + here + (here - before) * exactly(INERTIA, WORK)


@triton.jit
def _step_linf(
    x_adv, direction, low, high, unit, before, better, best, best_grad, length, out, width,
    UNIT: tl.constexpr, INERTIA: tl.constexpr, REMEMBERS: tl.constexpr,
    LARGEST: tl.constexpr, WORK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    at = row * width + column
    reach = tl.minimum(tl.load(length + row).to(WORK), exactly(LARGEST, WORK))
    way = tl.load(direction + at, mask=inside, other=0.0)
    sign = tl.where(way > 0, 1.0, tl.where(way < 0, -1.0, 0.0)).to(WORK)
    if UNIT:
        sign *= image(unit, at, inside, WORK)
    here = image(x_adv, at, inside, WORK)
    lowest, highest = image(low, at, inside, WORK), image(high, at, inside, WORK)
    moved = clamp(here + sign * reach, lowest, highest)
    if INERTIA is not None:
        moved = _with_inertia(here, moved, image(before, at, inside, WORK), INERTIA, WORK)
        moved = clamp(moved, lowest, highest)
    if REMEMBERS:
        _remember(tl.load(better + row), x_adv, direction, best, best_grad, at, inside)
    tl.store(out + at, moved, mask=inside)


@triton.jit
def _mixed(z, ahead, before, at, inside, INERTIA: tl.constexpr, WORK: tl.constexpr):
    """What is on its way back: z itself or, with inertia, the step ahead of it."""
    here = image(z, at, inside, WORK)
    if INERTIA is not None:
        here = _with_inertia(here, image(ahead, at, inside, WORK), image(before, at, inside, WORK), INERTIA, WORK)
    return here


@triton.jit
def _step_l2(
    x, z, direction, low, high, ahead, before, better, best, best_grad, length, radius, out, width,
    ROUNDS: tl.constexpr, STEPS: tl.constexpr, INERTIA: tl.constexpr, REMEMBERS: tl.constexpr, MOST: tl.constexpr,
    LONGEST_STEP: tl.constexpr, ENOUGH: tl.constexpr, TINY: tl.constexpr,
    LARGEST: tl.constexpr, WORK: tl.constexpr, BLOCK: tl.constexpr,
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
            most = tl.maximum(most, tl.abs(image(direction, start + column, column < width, WORK)))
        unit = tl.maximum(tl.max(most), exactly(TINY, tl.float64))
    for first in range(0, width, BLOCK):
        column = first + tl.arange(0, BLOCK)
        inside = column < width
        at = start + column
        moved = _mixed(z, ahead, before, at, inside, INERTIA, WORK)
        delta = (moved - image(x, at, inside, WORK)).to(tl.float64)
        size_of += delta * delta
        if REMEMBERS:
            _remember(tl.load(better + row), z, direction, best, best_grad, at, inside)
        if STEPS:
            way = image(direction, at, inside, WORK).to(tl.float64) / unit
            along += way * way
            across += way * delta
    most_squared, largest = exactly(MOST, tl.float64), exactly(LARGEST, tl.float64)
    tiny = exactly(TINY, tl.float64)
    squares = tl.sum(size_of)
    scale = tl.sum(nothing)
    if STEPS:
        reach = tl.minimum(tl.load(length + row).to(tl.float64), exactly(LONGEST_STEP, tl.float64))
        norm = tl.sqrt(tl.sum(along))
        scale = tl.where(norm > 0, reach / norm, 0.0)
        squares += 2 * scale * tl.sum(across) + scale * scale * tl.sum(along)
    limit = tl.load(radius + row).to(tl.float64)
    target = tl.minimum(limit * limit, largest)
    t = tl.minimum(target / tl.maximum(squares, tiny), most_squared)
    enough = target * exactly(ENOUGH, tl.float64)

    rounds = 0
    while rounds < ROUNDS:
        total, free = nothing, nothing
        s = tl.sqrt(t)
        for first in range(0, width, BLOCK):
            column = first + tl.arange(0, BLOCK)
            at = start + column
            inside = column < width
            clean = image(x, at, inside, WORK)
            moved = _mixed(z, ahead, before, at, inside, INERTIA, WORK)
            if STEPS:
                moved += (image(direction, at, inside, WORK).to(tl.float64) / unit * scale).to(WORK)
            delta = moved - clean
            moved = clean + (delta.to(tl.float64) * s).to(WORK)
            near = clamp(moved, image(low, at, inside, WORK), image(high, at, inside, WORK))
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
