"""APGD's step with what it remembers, in Triton: twins of those in reference.py."""

from torch import Tensor

from .triton_steps import linf, to_ball_and_box


def ascend_linf(
    x_adv: Tensor,
    before: Tensor,
    grad: Tensor,
    better: Tensor,
    best: Tensor,
    best_grad: Tensor,
    length: Tensor,
    low: Tensor,
    high: Tensor,
    unit: Tensor | None = None,
    inertia: float = 0.0,
) -> Tensor:
    return linf(x_adv, grad, length, low, high, unit, before, inertia, (better, best, best_grad))


def ascend_l2(
    x: Tensor,
    x_adv: Tensor,
    before: Tensor,
    grad: Tensor,
    better: Tensor,
    best: Tensor,
    best_grad: Tensor,
    length: Tensor,
    radius: Tensor,
    low: Tensor,
    high: Tensor,
    inertia: float = 0.0,
) -> Tensor:
    """In two launches, for the way back from the mixture begins at the norm of all of it."""
    ahead = to_ball_and_box(x, x_adv, grad, length, radius, low, high, best=(better, best, best_grad))
    return to_ball_and_box(x, x_adv, None, radius, radius, low, high, mixed=(ahead, before, inertia))
