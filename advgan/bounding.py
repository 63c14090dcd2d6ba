"""How does a network's output become a point of the threat set, so that the gradient back to it never dies?"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from attacks.errors import InputError
from attacks.threat import ThreatModel
from attacks.threat_set import ThreatSet

LIMIT = 2.5  # of what goes into the L-inf tanh: 98.7 % of eps, and a slope of 0.027, where 10 would have none
TINY = 1e-12  # floor below a root or divisor: a row of zeros stays zeros


def inside(threat: ThreatSet, raw: Tensor) -> Tensor:
    """x_adv [b, ...] from any numbers raw [b, ...]: 0 is x itself.

    A smooth map takes raw into the norm ball; the box then cuts each coordinate towards x, which cannot leave the
    ball; what rounding still carried out is projected back. The gradient of a coordinate beyond the box is let through
    where descent brings it back, so that a black pixel that was pushed down can learn to rise.
    """
    flat = raw.flatten(1) if threat.mask is None else raw.flatten(1) * threat.mask
    ahead = threat.x + _MAPS[threat.norm.name](flat, threat).view_as(threat.x)
    cut = _Cut.apply(ahead, threat.least.view_as(ahead), threat.most.view_as(ahead))
    return _Exactly.apply(cut, threat.project(cut.detach()))


def check_threat(threat: ThreatModel) -> None:
    """Raises InputError for a threat in which no perturber can be bounded."""
    if threat.norm.name not in _MAPS:
        raise InputError(f"No smooth map leads into the {threat.norm.name} ball. Perturbers know {', '.join(_MAPS)}.")
    if bool((torch.as_tensor(threat.eps) <= 0).all()):
        raise InputError("eps is 0, which leaves nothing to perturb. Name a radius above 0, as in linf:8/255.")


def _linf(raw: Tensor, threat: ThreatSet) -> Tensor:
    x = threat.x.flatten(1)
    reach = torch.maximum(threat.high - x, x - threat.low).amax(1, keepdim=True)
    return _Cut.apply(raw, raw.new_tensor(-LIMIT), raw.new_tensor(LIMIT)).tanh() * reach


def _l2(raw: Tensor, threat: ThreatSet) -> Tensor:
    """Numbers of root mean square 1 go as far as tanh(1) of the radius."""
    size = ((raw.square().sum(1) + TINY) / _count(threat)).sqrt()
    return raw * (threat.radius / _count(threat).sqrt() * size.tanh() / size)[:, None]


def _l1(raw: Tensor, threat: ThreatSet) -> Tensor:
    """Numbers of mean absolute value 1 go as far as tanh(1) of the radius."""
    size = (raw.abs().sum(1) + TINY) / _count(threat)
    return raw * (threat.radius / _count(threat) * size.tanh() / size)[:, None]


def _count(threat: ThreatSet) -> Tensor:
    """[b]: coordinates that the attacker may write."""
    return (threat.most > threat.least).sum(1).clamp_min(1).to(threat.x.dtype)


_MAPS: dict[str, Callable[[Tensor, ThreatSet], Tensor]] = {"linf": _linf, "l2": _l2, "l1": _l1}


class _Cut(torch.autograd.Function):
    """A clamp whose gradient dies only where descent leads further out."""

    @staticmethod
    def forward(ctx: Any, ahead: Tensor, least: Tensor, most: Tensor) -> Tensor:
        ctx.save_for_backward(ahead, least, most)
        return ahead.clamp(least, most)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        ahead, least, most = ctx.saved_tensors
        outward = ((ahead > most) & (grad < 0)) | ((ahead < least) & (grad > 0))  # descent goes against the gradient
        return grad.masked_fill(outward, 0.0), None, None


class _Exactly(torch.autograd.Function):
    """Another point, for what differs by rounding alone: the gradient passes."""

    @staticmethod
    def forward(ctx: Any, ahead: Tensor, point: Tensor) -> Tensor:
        return point

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return grad, None
