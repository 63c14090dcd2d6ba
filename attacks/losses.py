"""Losses an attacker climbs: always larger nearer to the goal. The sign is settled here and nowhere else.

A loss takes logits [b, K] and a goal and gives value [b], its slope in the logits [b, K], and the verdict [b].
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from . import kernels
from .errors import unknown
from .kernels.reference import row_sum
from .threat import Goal


class Climb(NamedTuple):
    value: Tensor  # [b] what the attacker wants larger
    slope: Tensor  # [b, K] d value[i] / d logits[i]
    reached: Tensor  # [b] bool: the goal whose labels the loss climbs to is reached, beyond rounding


Loss = Callable[[Tensor, Goal], Climb]


def cross_entropy(logits: Tensor, goal: Goal) -> Climb:
    """-log softmax of the label (targeted: its negative)."""
    return Climb(*kernels.cross_entropy(logits, goal.labels, goal.targeted, goal.versus))


def margin(logits: Tensor, goal: Goal) -> Climb:
    """Best other logit minus the label's; targeted: the target's minus that of `goal.versus`, else of the best other.

    Positive means that the goal is reached.
    """
    return Climb(*kernels.margin(logits, goal.labels, goal.targeted, goal.versus))


def soft_margin(logits: Tensor, goal: Goal) -> Climb:
    """The margin to all rivals at once: -(sum of d^-2)^(-1/2) over how far each is behind, d. Targeted: the margin.

    Rivals that are about as near as the nearest pull too, in a measure that the logits' scale does not change; where
    one is ahead, as where there is one alone, it is the margin.
    """
    plain = margin(logits, goal)
    if goal.targeted:
        return plain
    label = goal.labels[:, None]
    behind = (logits.gather(1, label) - logits).scatter(1, label, torch.inf)
    least = behind.amin(1, keepdim=True).clamp_min(torch.finfo(logits.dtype).tiny)
    nearness = (least / behind).nan_to_num(0.0).clamp(0, 1)  # not d^-2 itself, which overflows
    total = row_sum(nearness.square())[:, None].clamp_min(1.0)
    pull = nearness**3 / total**1.5
    slope = pull.scatter(1, label, -row_sum(pull)[:, None])
    value = -(least / total.sqrt()).squeeze(1)
    ahead = ~(plain.value < 0)
    return Climb(
        torch.where(ahead, plain.value, value.to(plain.value.dtype)),
        torch.where(ahead[:, None], plain.slope, slope.to(plain.slope.dtype)),
        plain.reached,
    )


def dlr(logits: Tensor, goal: Goal) -> Climb:
    """Difference of logits ratio: the margin over z1 - z3; targeted over z1 - (z3 + z4) / 2 (arXiv 2003.01690).

    Sorted logits z1 >= z2 >= ...: neither their shift nor their scale matters. With three classes the targeted form
    divides by z1 - z3, the published untargeted one; with two classes there is no z3 and DLR is the margin.
    """
    return Climb(*kernels.dlr(logits, goal.labels, goal.targeted, goal.versus))


def probability_margin(logits: Tensor, goal: Goal) -> Climb:
    """1 + the best other class's probability minus the label's; targeted: the target's minus the best other's.

    The loss of PMA (arXiv 2411.15210). The 1 that is added keeps the digits that matter where softmax saturates: p - 1
    is -1 from p = 6e-8 on (float32), and the sum of the other probabilities is not 0.
    """
    labels = goal.labels[:, None]
    rival = logits.scatter(1, labels, -torch.inf).argmax(1) if goal.versus is None else goal.versus
    up, down = (labels, rival[:, None]) if goal.targeted else (rival[:, None], labels)
    lead = logits.argmax(1)[:, None]
    weights = (logits - logits.gather(1, lead)).exp()
    p = weights / (1 + row_sum(weights.scatter(1, lead, 0.0)))[:, None]
    # d value / d logit_k = p_k ([k = up] - [k = down] - (p_up - p_down)); its entries add up to 0. That of the leading
    # class cancels as its probability goes to 1, so it is what the others leave.
    p_up, p_down = p.gather(1, up), p.gather(1, down)
    slope = (p * (p_down - p_up)).scatter_add(1, up, p_up).scatter_add(1, down, -p_down)
    slope = slope.scatter(1, lead, 0.0)
    slope = slope.scatter(1, lead, -row_sum(slope)[:, None])
    value = p_up.squeeze(1) + row_sum(p.scatter(1, down, 0.0))
    return Climb(value, slope, kernels.verdict(logits, goal.labels, goal.targeted))


def from_function(function: Callable[[Tensor, Goal], Tensor]) -> Loss:
    """A loss from any differentiable function of (logits [b, K], goal) that gives [b]."""

    def loss(logits: Tensor, goal: Goal) -> Climb:
        with torch.enable_grad():
            leaf = logits.detach().requires_grad_()
            value = function(leaf, goal)
            (slope,) = torch.autograd.grad(value.sum(), leaf)
        return Climb(value.detach(), slope, kernels.verdict(logits, goal.labels, goal.targeted))

    return loss


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "margin": margin,
    "soft_margin": soft_margin,
    "dlr": dlr,
    "probability_margin": probability_margin,
}


def named(loss: str | Loss) -> Loss:
    """The loss of that name, or the callable itself."""
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise unknown("loss", loss, LOSSES)
    return LOSSES[loss]
