"""Which wrong class is nearest, as the model looks from a point: where untargeted minimal-norm attacks set out to."""

from collections.abc import Iterator

import torch
from torch import Tensor

from .. import hyperplanes
from ..norms import row_sum
from ..rows import Rows
from ..victim import Answer


def towards_nearest(answer: Answer, rows: Rows, count: int) -> tuple[Tensor, Tensor]:
    """The margin's gradient [b, ...] towards the nearest of the `count` likeliest wrong classes, and the margin [b].

    Nearest is the class whose boundary, linearised at the clean input, is the closest within the box in the threat's
    norm; the likeliest is often another, and a search that has set out towards it stays with it. Costs a gradient for
    each class; where the aim is a class already, or `count` is 1, just the one. The query's loss must be the margin.
    """
    logits = answer.logits
    assert logits is not None
    if rows.aim.targeted or min(count, logits.shape[1] - 1) == 1:
        return answer.grad(), answer.loss
    grad, margin = torch.zeros_like(rows.x), torch.zeros_like(rows.threat.radius)
    least = torch.full_like(rows.threat.radius, torch.inf)
    for j, (_, normal, behind) in enumerate(_likeliest(answer, rows, count)):
        distance = distance_to(rows, normal, behind)
        closer = (distance < least) | (j == 0)
        grad = torch.where(closer.view(-1, *[1] * (grad.ndim - 1)), normal, grad)
        margin, least = torch.where(closer, -behind, margin), torch.where(closer, distance, least)
    return grad, margin


def by_nearness(answer: Answer, rows: Rows, count: int) -> tuple[Tensor, Tensor]:
    """[b, count] int64, the `count` likeliest wrong classes, the nearest first (as MALT does, arXiv 2407.02240).

    And how far each is [b, count]: by how much it is behind, over what the linearised model lets it gain within the
    threat set. Unlike the distance, that tells classes apart even where the box lets none arrive. Fewer where there are
    fewer classes. Costs a gradient for each.
    """
    rivals, far = [], []
    for rival, normal, behind in _likeliest(answer, rows, count):
        rivals.append(rival)
        far.append(behind / _gain(rows, normal).clamp_min(torch.finfo(behind.dtype).tiny))
    sorted_far, order = torch.stack(far, 1).sort(dim=1, stable=True)
    return torch.cat(rivals, 1).gather(1, order), sorted_far


def _gain(rows: Rows, normal: Tensor) -> Tensor:
    """[b]: what a linear function of that slope gains within the threat set; in L2 along the slope."""
    threat = rows.threat
    if threat.norm.name == "l1":
        return hyperplanes.highest_in_l1(rows.x.flatten(1), normal.flatten(1), threat.radius, threat.low, threat.high)
    furthest = threat.reach(normal.sign() if threat.norm.name == "linf" else normal)
    return row_sum((normal * (furthest - rows.x)).flatten(1))


def _likeliest(answer: Answer, rows: Rows, count: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Each of the likeliest wrong classes [b, 1], its lead's gradient [b, ...], and by how much it is behind [b]."""
    logits = answer.logits
    assert logits is not None
    label = rows.aim.labels[:, None]
    rivals = logits.scatter(1, label, -torch.inf).argsort(dim=1, descending=True, stable=True)
    for rival in rivals[:, : min(count, logits.shape[1] - 1)].split(1, dim=1):
        slope = torch.zeros_like(logits).scatter_(1, rival, 1.0).scatter_(1, label, -1.0)
        behind = (logits.gather(1, label) - logits.gather(1, rival)).squeeze(1).to(rows.threat.radius.dtype)
        yield rival, answer.grad_of(slope), behind


def distance_to(rows: Rows, normal: Tensor, rise: Tensor) -> Tensor:
    """[b]: from the clean input to the boundary, which lies where normal . (z - x) = rise; inf outside the box."""
    x, normal, threat = rows.x.flatten(1), normal.flatten(1), rows.threat
    if threat.norm.name != "l0":
        z, reached = hyperplanes.nearest(threat.norm.name, x, normal, rise, threat.low, threat.high)
        return torch.where(reached, threat.norm.size(z - x), torch.inf)
    gains = (normal * (torch.where(normal > 0, threat.high, threat.low) - x)).nan_to_num(0.0)
    gained = gains.sort(dim=1, descending=True).values.cumsum(1)
    needed = (gained < rise[:, None]).sum(1)
    return torch.where(needed < gains.shape[1], needed + 1.0, torch.inf).to(rise.dtype)
