"""The way to the 8-bit grid inside the ball, in one launch, in Triton: the twin of `on_grid`."""

# ruff: noqa: N803
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportOperatorIssue=false, reportArgumentType=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from .triton_steps import WORK, clamp, computed_in, exactly, image

BLOCK = 1024  # numbers by one program


def on_grid(x: Tensor, x_adv: Tensor, levels: int) -> Tensor:
    x, x_adv = x.contiguous(), x_adv.contiguous()
    numbers = x.numel()
    out = torch.empty_like(x_adv)
    block = min(BLOCK, triton.next_power_of_2(numbers))
    with torch.cuda.device_of(x):
        _on_grid[(triton.cdiv(numbers, block), x_adv.numel() // numbers)](
            x, x_adv, out, numbers, LEVELS=levels, WORK=WORK[computed_in(x)], BLOCK=block, enable_fp_fusion=False
        )
    return out


@triton.jit
def _on_grid(x, x_adv, out, numbers, LEVELS: tl.constexpr, WORK: tl.constexpr, BLOCK: tl.constexpr):
    there = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = there < numbers
    at = tl.program_id(1).to(tl.int64) * numbers + there
    levels = exactly(LEVELS, WORK)
    clean = image(x, there, inside, WORK)
    steps = (image(x_adv, at, inside, WORK) - clean) * levels
    nudge = exactly(1e-3, WORK)
    up, down = tl.floor(steps + nudge), tl.ceil(steps - nudge)
    whole = tl.where(steps > 0, up, tl.where(steps < 0, down, steps))
    k = clamp(tl.floor(clean * levels + exactly(0.5, WORK)) + whole, exactly(0.0, WORK), levels)
    # A plain division of float32 is off by a unit in the last place: no longer the grid point.
    k = k / levels if tl.float64 == WORK else tl.div_rn(k, levels)
    tl.store(out + at, k, mask=inside)
