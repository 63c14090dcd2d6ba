"""The losses with their slopes and verdicts, one launch each, in Triton: twins of those in reference.py."""

# ruff: noqa: N803
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportOperatorIssue=false, reportAssignmentType=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from .reference import CERTAIN, FAR


def margin(
    logits: Tensor, labels: Tensor, targeted: bool, versus: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    return _launch("margin", logits, labels, targeted, versus)


def dlr(logits: Tensor, labels: Tensor, targeted: bool, versus: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    return _launch("dlr" if logits.shape[1] > 2 else "margin", logits, labels, targeted, versus)


def cross_entropy(
    logits: Tensor, labels: Tensor, targeted: bool, versus: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    return _launch("cross_entropy", logits, labels, targeted, None)


def verdict(logits: Tensor, labels: Tensor, targeted: bool) -> Tensor:
    return _launch("verdict", logits, labels, targeted, None)[2]


def over_largest(slope: Tensor) -> Tensor:
    slope = slope.contiguous()
    rows, classes = slope.shape
    out = torch.empty_like(slope)
    block = triton.next_power_of_2(classes)
    with torch.cuda.device_of(slope):
        _over_largest[(rows,)](
            slope,
            out,
            classes,
            TINY=torch.finfo(slope.dtype).tiny,
            BLOCK=block,
            num_warps=min(16, max(1, block // 256)),
            enable_fp_fusion=False,
        )
    return out


def _launch(
    loss: str, logits: Tensor, labels: Tensor, targeted: bool, versus: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    logits, labels = logits.contiguous(), labels.contiguous()
    rows, classes = logits.shape
    slopes = loss != "verdict"
    value = torch.empty(rows if slopes else 0, dtype=logits.dtype, device=logits.device)
    slope = torch.empty_like(logits) if slopes else value
    reached = torch.empty(rows, dtype=torch.bool, device=logits.device)
    double = logits.dtype == torch.float64
    block = triton.next_power_of_2(classes)
    with torch.cuda.device_of(logits):
        _loss[(rows,)](
            logits,
            labels,
            labels if versus is None else versus.contiguous(),
            value,
            slope,
            reached,
            classes,
            LOSS=loss,
            TARGETED=targeted,
            VERSUS=versus is not None,
            TOP=min(classes, 4 if targeted else 3),
            ROUNDING=CERTAIN * torch.finfo(torch.float64 if double else torch.float32).eps,
            FARTHEST=FAR,
            WORK=tl.float64 if double else tl.float32,
            BLOCK=block,
            num_warps=min(16, max(1, block // 256)),
            enable_fp_fusion=False,
        )
    return value, slope, reached


@triton.jit
def _largest(values):
    """Where the largest is, the first of equals; NaN counts as the largest."""
    return tl.argmax(tl.where(values != values, float("inf"), values), 0)


@triton.jit
def _over_largest(slope, out, classes, TINY: tl.constexpr, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    inside = column < classes
    at = tl.program_id(0).to(tl.int64) * classes + column
    values = tl.load(slope + at, mask=inside, other=0.0)
    largest = tl.maximum(tl.max(tl.abs(values)), tl.full((), TINY, values.dtype))
    tl.store(out + at, values / largest, mask=inside)


@triton.jit
def _entry(values, column, at):
    return tl.sum(tl.where(column == at, values, 0.0))


@triton.jit
def _margin(z, column, label_at, rival_at, label, rival, SIGN: tl.constexpr):
    slope = tl.where(column == label_at, SIGN, tl.where(column == rival_at, -SIGN, 0.0))
    return SIGN * (label - rival), slope.to(z.dtype)


@triton.jit
def _over_spread(value, slope, z, column, TOP: tl.constexpr):
    """Value and slope over the spread: the first of the TOP largest logits less the mean of the third and after."""
    at = _largest(z)
    first, tail = _entry(z, column, at), 0.0
    spread_slope = tl.where(column == at, 1.0, 0.0)
    left = tl.where(column == at, float("-inf"), z)
    left = tl.where(column == _largest(left), float("-inf"), left)
    for _ in tl.static_range(TOP - 2):
        at = _largest(left)
        tail += _entry(z, column, at)
        spread_slope -= tl.where(column == at, 1.0 / (TOP - 2), 0.0)
        left = tl.where(column == at, float("-inf"), left)
    spread = first - tail / (TOP - 2)
    spread = tl.where(spread == 0, 1.0, spread)
    ratio = value / spread
    return ratio, (slope - spread_slope * ratio) / spread


@triton.jit
def _cross_entropy(z, column, label_at, label, SIGN: tl.constexpr):
    top = tl.max(z)
    parts = tl.exp(z - top)
    total = tl.sum(parts)
    # 1 - p rounds to 0 from a margin of 17 on (float32); the sum of the others' probabilities does not.
    others = tl.where(column == label_at, 0.0, parts / total)
    slope = tl.where(column == label_at, tl.sum(others) * SIGN, others * -SIGN)
    return SIGN * (label - top - tl.log(total)), slope


@triton.jit
def _loss(
    logits, labels, versus, value, slope, reached, classes,
    LOSS: tl.constexpr, TARGETED: tl.constexpr, VERSUS: tl.constexpr, TOP: tl.constexpr, ROUNDING: tl.constexpr,
    FARTHEST: tl.constexpr, WORK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    SIGN: tl.constexpr = 1.0 if TARGETED else -1.0
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < classes
    at = row * classes + column
    z = tl.load(logits + at, mask=inside, other=float("-inf")).to(WORK)
    label_at = tl.load(labels + row)
    others = tl.where(column == label_at, float("-inf"), z)
    rival_at = _largest(others).to(tl.int64)
    label = _entry(z, column, label_at)
    rival = _entry(others, column, rival_at)

    largest = tl.minimum(tl.max(tl.where(inside, tl.abs(z), 0.0)), FARTHEST * tl.maximum(tl.abs(label), tl.abs(rival)))
    finite = tl.sum((inside & ~(tl.abs(z) < float("inf"))).to(tl.int32)) == 0
    tl.store(reached + row, (SIGN * (label - rival) > ROUNDING * largest) & finite)

    if LOSS != "verdict":
        if VERSUS:
            rival_at = tl.load(versus + row)
            rival = _entry(z, column, rival_at)
        if LOSS == "cross_entropy":
            loss, climb = _cross_entropy(z, column, label_at, label, SIGN)
        else:
            loss, climb = _margin(z, column, label_at, rival_at, label, rival, SIGN)
            if LOSS == "dlr":
                loss, climb = _over_spread(loss, climb, z, column, TOP)
        tl.store(value + row, loss)
        tl.store(slope + at, climb, mask=inside)
