"""How flat is the margin between an example and its boundary: curvature, linearity, and what a linear model would need?

The margin is the logit of the class that the boundary is shared with less the label's; that class is held fixed, since
where another takes over the margin has a kink that is no curvature of either.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .. import api
from ..columns import Columns
from ..errors import InputError
from ..kernels.reference import row_sum
from ..norms import NORMS, TINY, per_row
from ..passes.tape import AT_ONCE
from ..threat import Goal, ThreatModel
from ..victim import Access, Victim, borrowed, check_logits

STEP = 0.1  # of the way that a linear model would need, either way: what finite differences look at
STRETCH = torch.finfo(torch.float32).eps ** 0.25  # the least step, of the input's own length: below it rounding reigns


@dataclass
class Geometry(Columns):
    """B examples. Where a clean example is wrong already all is still told, but `linear` is negative."""

    margin: Tensor  # [B] float64 the rival's logit less the label's at x; negative where x is right
    slope: Tensor  # [B] float64 the dual norm of the margin's gradient: how fast it can rise per unit of the norm
    linear: Tensor  # [B] float64 -margin / slope: the distance to the boundary, were the model linear
    found: Tensor  # [B] float64 the norm of the perturbation given; inf where it was none
    missed: Tensor  # [B] float64 rise to x_adv less the rise that the gradient foretells, over -margin; NaN where none
    curvature: Tensor  # [B] float64 second derivative along the unit gradient by finite differences, per squared L2
    hessian: Tensor  # [B] float64 the same from a Hessian-vector product, at x itself
    bend: Tensor  # [B] float64 curvature * way / L2 slope: how much the slope changes over the linear way, as a share
    step: Tensor  # [B] float64 L2 length of the finite differences' step
    rival: Tensor  # [B] int64
    queries: Tensor  # [B] int64
    backwards: Tensor  # [B] int64


def geometry(
    victim: nn.Module | Victim,
    x: Tensor,
    labels: Tensor,
    x_adv: Tensor,
    threat: str | ThreatModel = "l2:inf",
    *,
    step: float = STEP,
    batch_size: int | None = None,
) -> Geometry:
    """Measure the margin round each x [B, ...], and on the way to x_adv [B, ...], its smallest perturbation found.

    labels: [B] int64. The rival is the class that x_adv is taken for, or where that is the label the likeliest other.
    threat: the norm that `slope`, `linear` and `found` are in; curvature is along the gradient, in L2.
    step: of the finite differences, as a share of what a linear model would need in L2, but at least 2 % of the
        input's own length in L2, of which rounding in float32 would leave nothing.

    Costs 4 forward passes and 4 backward ones a row: the margin, its gradient and a Hessian-vector product at x, two
    gradients beside it, the margin at x_adv. The points beside x may lie outside the bounds. A network of ReLUs and
    max-pooling is linear between its kinks: there the Hessian is 0, and finite differences see the kinks alone.
    Raises AccessError where the victim reveals no gradient, InputError where the input cannot be used.
    """
    victim = victim if isinstance(victim, Victim) else Victim(victim)
    victim.check(Access.GRADIENT)
    norm = api.as_threat(threat).norm.name
    _check(x, labels, x_adv, norm, step, batch_size)
    device = api.device_of(victim.model, x.device)
    size = batch_size or max(8, AT_ONCE // x[0].numel())
    parts = []
    with borrowed(victim.model):
        for first in range(0, len(x), size):
            rows = slice(first, first + size)
            given = (tensor[rows].detach().to(device) for tensor in (x, labels, x_adv))
            parts.append(_measured(victim, *given, norm=norm, step=step).to(x.device))
    return Geometry.joined(parts)


def _measured(victim: Victim, x: Tensor, labels: Tensor, x_adv: Tensor, norm: str, step: float) -> Geometry:
    there = victim.logits(x_adv)
    rival = _rival(there, labels)
    margin, gradient, product = _at(victim, x, labels, rival)
    flat = gradient.flatten(1)
    length = NORMS["l2"].size(flat).clamp_min(TINY)
    slope = NORMS[NORMS[norm].dual].size(flat)
    unit = gradient / per_row(length, gradient)
    way = (step * margin.abs() / length).maximum(STRETCH * NORMS["l2"].size(x.double().flatten(1)))
    ahead, behind = (_gradient(victim, _beside(x, unit, sign * way), labels, rival) for sign in (1, -1))
    # The step as it is after rounding to the type of x, not as it was meant.
    taken = row_sum(((_beside(x, unit, way).double() - _beside(x, unit, -way).double()) * unit).flatten(1))
    curvature = row_sum(((ahead - behind) * unit).flatten(1)) / taken.clamp_min(TINY)
    delta = (x_adv.double() - x.double()).flatten(1)
    rise = _margin(there, labels, rival) - margin
    found = NORMS[norm].size(delta)
    missed = (rise - row_sum(flat * delta)) / margin.abs().clamp_min(TINY)
    none = found == 0
    passes = torch.full_like(labels, 4)
    return Geometry(
        margin=margin,
        slope=slope,
        linear=(-margin / slope).nan_to_num(0.0, torch.inf, -torch.inf),  # a margin of 0 is on the boundary
        found=found.masked_fill(none, torch.inf),
        missed=missed.masked_fill(none, torch.nan),
        curvature=curvature,
        hessian=row_sum((product(unit) * unit).flatten(1)),
        bend=curvature * margin.abs() / length**2,
        step=taken / 2,
        rival=rival,
        queries=passes,
        backwards=passes.clone(),
    )


def _rival(logits: Tensor, labels: Tensor) -> Tensor:
    """[b]: the likeliest class but the label's."""
    return logits.scatter(1, labels[:, None], -torch.inf).argmax(1)


def _margin(logits: Tensor, labels: Tensor, rival: Tensor) -> Tensor:
    """[b] float64"""
    rival_logit, label_logit = (logits.gather(1, k[:, None]).squeeze(1).double() for k in (rival, labels))
    return rival_logit - label_logit


def _beside(x: Tensor, unit: Tensor, way: Tensor) -> Tensor:
    return (x.double() + unit * per_row(way, unit)).to(x.dtype)


def _gradient(victim: Victim, x: Tensor, labels: Tensor, rival: Tensor) -> Tensor:
    """[b, ...] float64"""
    leaf, logits = victim.differentiable(x)
    with torch.enable_grad():
        margin = _margin(logits, labels, rival).sum()
    (gradient,) = torch.autograd.grad(margin, leaf)
    return gradient.double()


def _at(victim: Victim, x: Tensor, labels: Tensor, rival: Tensor):
    """The margin [b], its gradient [b, ...] in float64, and a function that gives the Hessian times a direction."""
    leaf, logits = victim.differentiable(x)
    with torch.enable_grad():
        check_logits(logits.detach())
        margin = _margin(logits, labels, rival)
        (gradient,) = torch.autograd.grad(margin.sum(), leaf, create_graph=True)

    def product(direction: Tensor) -> Tensor:
        if not gradient.requires_grad:  # the margin is linear in x
            return torch.zeros_like(direction)
        slope = direction.to(gradient.dtype)
        (found,) = torch.autograd.grad(gradient, leaf, slope, allow_unused=True)
        return torch.zeros_like(direction) if found is None else found.double()

    return margin.detach(), gradient.detach().double(), product


def _check(x: Tensor, labels: Tensor, x_adv: Tensor, norm: str, step: float, batch_size: int | None) -> None:
    api.check_inputs(x, None, batch_size)
    Goal(labels).check(len(x))
    if norm == "l0":
        raise InputError("L0 has no dual norm: measure the geometry in linf, l2 or l1.")
    if not isinstance(x_adv, Tensor) or x_adv.shape != x.shape or x_adv.dtype != x.dtype:
        raise InputError(
            f"x_adv is {tuple(getattr(x_adv, 'shape', ()))}; the perturbed inputs are needed, like x {tuple(x.shape)}."
        )
    if not step > 0:
        raise InputError(f"step={step:g}; finite differences need a step above 0.")
