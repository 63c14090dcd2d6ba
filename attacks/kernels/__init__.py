"""Fused operations. Each has one name and one signature, a reference and a Triton twin; here one is chosen."""

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

from . import reference

_TRITON = find_spec("triton") is not None
_BLOCK = 2**15  # numbers that torch handles on one thread, and a core's cache holds some of


def _on(device_of: Tensor):
    """The module whose kernels run where this tensor lives."""
    if _TRITON and device_of.is_cuda:
        from . import triton_twins

        return triton_twins
    return reference


def _in_blocks(step: Callable[..., Tensor], *rows: Tensor, **options: float) -> Tensor:
    """A step of many small operations, on a CPU a few rows at a time: to wake threads for each costs more than it."""
    images = rows[0]
    count = max(1, _BLOCK // images.shape[1])
    if not images.is_cpu or len(images) <= count:
        return step(*rows, **options)
    return torch.cat([step(*some, **options) for some in zip(*(each.split(count) for each in rows), strict=True)])


def step_linf(x_adv, direction, length, low, high, unit=None):
    units = () if unit is None else (unit,)
    return _in_blocks(_on(x_adv).step_linf, x_adv, direction, length, low, high, *units)


def step_l2(x, x_adv, direction, length, radius, low, high):
    return _in_blocks(_on(x).step_l2, x, x_adv, direction, length, radius, low, high)


def shrink_l2(x, z, radius, low, high, longest=1.0):
    return _in_blocks(_on(x).shrink_l2, x, z, radius, low, high, longest=longest)


def ascend_linf(x_adv, before, grad, better, best, best_grad, length, low, high, unit=None, inertia=0.0):
    rows = (x_adv, before, grad, better, best, best_grad, length, low, high, *(() if unit is None else (unit,)))
    return _in_blocks(_on(x_adv).ascend_linf, *rows, inertia=inertia)


def ascend_l2(x, x_adv, before, grad, better, best, best_grad, length, radius, low, high, inertia=0.0):
    rows = (x, x_adv, before, grad, better, best, best_grad, length, radius, low, high)
    return _in_blocks(_on(x).ascend_l2, *rows, inertia=inertia)


def project_l1(x, z, radius, low, high):
    return _on(x).project_l1(x, z, radius, low, high)


def recolour(x, x_adv, corner, side, colour, low, high):
    return _on(x).recolour(x, x_adv, corner, side, colour, low, high)


def on_grid(x, x_adv, levels):
    return _on(x).on_grid(x, x_adv, levels)


def keeps(device_of: Tensor, norm: str) -> bool:
    """Whether `keep_better` is there: on CUDA, for the norms that it knows."""
    return _TRITON and device_of.is_cuda and norm in ("linf", "l2", "l1", "l0")


def keep_better(kept, working, reached, x, x_adv, low, high, eps, norm, levels, step, spent, ends):
    """In place, in rows at work that have reached the goal: what attacks.judging keeps where one is nearer than before.

    kept: the best points [b, d]; their sizes, the steps that found them, the passes to the first, whether one is there,
        and the forwards and gradients of rows that are done, [b] each.
    spent: forwards and gradients so far, and [b] forwards that confirmed.
    ends: when a row is done and no longer at work: "first" once it is fooled, "smallest" at a size of 0, None never.
    """
    from . import triton_twins

    triton_twins.keep_better(kept, working, reached, x, x_adv, low, high, eps, norm, levels, step, spent, ends)


def take_rows(tensors, rows):
    return _on(rows).take_rows(tensors, rows)


def margin(logits, labels, targeted, versus=None):
    return _on(logits).margin(logits, labels, targeted, versus)


def dlr(logits, labels, targeted, versus=None):
    return _on(logits).dlr(logits, labels, targeted, versus)


def cross_entropy(logits, labels, targeted, versus=None):
    return _on(logits).cross_entropy(logits, labels, targeted, versus)


def over_largest(slope):
    return _on(slope).over_largest(slope)


def verdict(logits, labels, targeted):
    return _on(logits).verdict(logits, labels, targeted)


def uniform(seed, ids, draw, count, dtype):
    return _on(ids).uniform(seed, ids, draw, count, dtype)


def normal(seed, ids, draw, count, dtype):
    return _on(ids).normal(seed, ids, draw, count, dtype)
