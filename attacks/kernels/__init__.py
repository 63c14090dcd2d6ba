"""Fused operations. Each has one name and one signature, a reference and a Triton twin; here one is chosen."""

from importlib.util import find_spec

from torch import Tensor

from . import reference

_TRITON = find_spec("triton") is not None


def _on(device_of: Tensor):
    """The module whose kernels run where this tensor lives."""
    if _TRITON and device_of.is_cuda:
        from . import triton_twins

        return triton_twins
    return reference


def step_linf(x_adv, direction, length, low, high):
    return _on(x_adv).step_linf(x_adv, direction, length, low, high)


def step_l2(x, x_adv, direction, length, radius, low, high):
    return _on(x).step_l2(x, x_adv, direction, length, radius, low, high)


def shrink_l2(x, z, radius, low, high, longest=1.0):
    return _on(x).shrink_l2(x, z, radius, low, high, longest)


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
