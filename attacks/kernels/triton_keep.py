"""What the loop keeps of a step, in one launch that reads no image of a row that reached nothing, in Triton."""

# ruff: noqa: N803
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportOperatorIssue=false, reportAssignmentType=false

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024  # columns at a time


def keep_better(
    kept: tuple[Tensor, ...],
    working: Tensor,
    reached: Tensor,
    x: Tensor,
    x_adv: Tensor,
    low: Tensor,
    high: Tensor,
    eps: Tensor,
    norm: str,
    levels: int | None,
    step: int,
    spent: tuple[int, int, Tensor],
    ends: str | None,
) -> None:
    rows, width = x.shape
    asked, taken, confirmed = spent
    images = [image.contiguous() for image in (x, x_adv, low, high)]
    block = min(BLOCK, triton.next_power_of_2(width))
    with torch.cuda.device_of(x):
        _keep[(rows,)](
            *kept,
            working,
            reached.contiguous(),
            *images,
            eps,
            confirmed,
            step,
            asked,
            taken,
            width,
            ENDS=ends or "never",
            NORM=norm,
            LEVELS=0.0 if levels is None else float(levels),
            BLOCK=block,
            enable_fp_fusion=False,
        )


@triton.jit
def _part(moved, clean, so_far, NORM: tl.constexpr, LEVELS: tl.constexpr):
    delta = tl.abs(moved.to(tl.float64) - clean.to(tl.float64))
    if LEVELS != 0:
        delta = tl.floor(delta * LEVELS + 0.5)
    if NORM == "linf":
        return tl.maximum(so_far, delta)
    if NORM == "l2":
        return so_far + delta * delta
    if NORM == "l1":
        return so_far + delta
    return so_far + tl.where(delta != 0, 1.0, 0.0)


@triton.jit(do_not_specialize=["step", "asked", "taken"])
def _keep(
    best, size, found_at, passes, fooled, queries, backwards, working, reached, x, x_adv, low, high, eps, confirmed,
    step, asked, taken, width,
    ENDS: tl.constexpr, NORM: tl.constexpr, LEVELS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    nearest, already = tl.load(size + row), tl.load(fooled + row).to(tl.int32)
    at_work = tl.load(working + row).to(tl.int32) != 0
    if at_work & (tl.load(reached + row).to(tl.int32) != 0):
        start = row * width
        parts = tl.zeros((BLOCK,), tl.float64)
        outside = tl.zeros((BLOCK,), tl.int32)
        for first in range(0, width, BLOCK):
            column = first + tl.arange(0, BLOCK)
            there = column < width
            at = start + column
            moved = tl.load(x_adv + at, mask=there, other=0.0)
            clean = tl.load(x + at, mask=there, other=0.0)
            lowest = tl.load(low + at, mask=there, other=0.0)
            highest = tl.load(high + at, mask=there, other=0.0)
            # A comparison with NaN is false, so that a broken candidate is never inside.
            outside += tl.where(there & ~((moved >= lowest) & (moved <= highest)), 1, 0)
            parts = _part(moved, clean, parts, NORM, LEVELS)
        total = tl.max(parts) if NORM == "linf" else tl.sum(parts)
        if NORM == "l2":
            total = tl.sqrt(total)
        allowed = tl.load(eps + row)
        if LEVELS != 0:
            if NORM != "l0":
                total = total / LEVELS
            allowed += 1e-9 / LEVELS
        if (tl.sum(outside) == 0) & (total <= allowed) & (total < nearest):
            nearest = total
            for first in range(0, width, BLOCK):
                column = first + tl.arange(0, BLOCK)
                there = column < width
                at = start + column
                tl.store(best + at, tl.load(x_adv + at, mask=there), mask=there)
            tl.store(size + row, total)
            tl.store(found_at + row, step)
            if already == 0:
                tl.store(passes + row, asked + taken + tl.load(confirmed + row))
                tl.store(fooled + row, True)
            already += 1
    done = at_work & (already > 0)
    if ENDS == "smallest":
        done = done & (nearest == 0)
    if done & (ENDS != "never"):
        tl.store(queries + row, asked + tl.load(confirmed + row))
        tl.store(backwards + row, taken)
        tl.store(working + row, False)
