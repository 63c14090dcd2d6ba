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


def step_linf(x_adv, direction, length, low, high):
    return _in_blocks(_on(x_adv).step_linf, x_adv, direction, length, low, high)


def step_l2(x, x_adv, direction, length, radius, low, high):
    return _in_blocks(_on(x).step_l2, x, x_adv, direction, length, radius, low, high)


def shrink_l2(x, z, radius, low, high, longest=1.0):
    return _in_blocks(_on(x).shrink_l2, x, z, radius, low, high, longest=longest)


def margin(logits, labels, targeted, versus=None):
    return _on(logits).margin(logits, labels, targeted, versus)


def dlr(logits, labels, targeted, versus=None):
    return _on(logits).dlr(logits, labels, targeted, versus)


def cross_entropy(logits, labels, targeted, versus=None):
    return _on(logits).cross_entropy(logits, labels, targeted, versus)


def verdict(logits, labels, targeted):
    return _on(logits).verdict(logits, labels, targeted)


def uniform(seed, ids, draw, count, dtype):
    return _on(ids).uniform(seed, ids, draw, count, dtype)


def normal(seed, ids, draw, count, dtype):
    return _on(ids).normal(seed, ids, draw, count, dtype)
