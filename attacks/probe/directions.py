"""In which directions is the boundary looked for? Random ones, the gradient's, and towards other examples.

Each function gives directions [B, q, ...], of any length. Random ones depend on (seed, example id, draw) alone.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .. import api, losses, noise
from ..errors import InputError
from ..passes.tape import AT_ONCE
from ..threat import Goal, ThreatModel
from ..victim import Access, Victim, borrowed, gradient

# Draws of each kind begin at a place of their own, so that none repeats another's or an attack's numbers.
FIRST_DRAW = {"gaussian": 1 << 20, "signs": 2 << 20, "examples": 3 << 20}


class Steepest(NamedTuple):
    """directions [B, 1, ...] and what each row cost."""

    directions: Tensor
    queries: Tensor  # [B] int64
    backwards: Tensor  # [B] int64


def gaussian(x: Tensor, count: int, *, seed: int = 0, ids: Tensor | None = None) -> Tensor:
    """`count` directions per example with independent normal entries: uniform over the sphere."""
    return _drawn("gaussian", noise.normal, x, tuple(x.shape[1:]), count, seed, ids)


def signs(x: Tensor, count: int, *, seed: int = 0, ids: Tensor | None = None) -> Tensor:
    """`count` directions per example with independent entries of -1 or 1: the corners of the L-inf ball."""
    luck = _drawn("signs", noise.uniform, x, tuple(x.shape[1:]), count, seed, ids)
    return torch.where(luck < 0.5, -1.0, 1.0).to(x)


def steepest(
    victim: nn.Module | Victim, x: Tensor, goal: Tensor | Goal, threat: str | ThreatModel = "l2:inf"
) -> Steepest:
    """The gradient of the margin, at the price of a forward and a backward pass each; for L-inf its signs.

    Raises AccessError where the victim reveals no gradient.
    """
    victim = victim if isinstance(victim, Victim) else Victim(victim)
    goal = goal if isinstance(goal, Goal) else Goal(goal)
    api.check_inputs(x, None, None)
    goal.check(len(x))
    victim.check(Access.GRADIENT)
    is_linf = api.as_threat(threat).norm.name == "linf"
    device = api.device_of(victim.model, x.device)
    slopes = []
    with borrowed(victim.model):
        for part in torch.arange(len(x)).split(max(8, AT_ONCE // x[0].numel())):
            goals = goal.keep(part.to(goal.labels.device)).to(device)
            answer = victim.answer(gradient(x[part].detach().to(device), losses.margin), goals, goals)
            slopes.append(answer.grad().to(x.device))
    slope = torch.cat(slopes)
    once = torch.ones(len(x), dtype=torch.int64, device=x.device)
    return Steepest((slope.sign() if is_linf else slope)[:, None], once, once.clone())


def to_examples(
    x: Tensor,
    labels: Tensor,
    others: Tensor,
    other_labels: Tensor,
    count: int,
    *,
    seed: int = 0,
    ids: Tensor | None = None,
) -> Tensor:
    """Towards `count` of the other examples [m, ...] of another class, drawn for each row (with repetition)."""
    _check_others(x, others)
    luck = _drawn("examples", noise.uniform, x, (), count, seed, ids)
    foreign = other_labels[None] != labels[:, None]  # [B, m]
    many = foreign.sum(1, keepdim=True)
    if not bool((many > 0).all()):
        raise InputError("Some examples have none of another class to look towards: give examples of more classes.")
    chosen = (luck * many).long().minimum(many - 1)  # [B, count], the number among the foreign ones
    place = foreign.long().cumsum(1) - 1
    at = torch.searchsorted(place, chosen)  # the first place of that number is the foreign example itself
    return others[at] - x[:, None]


def to_means(x: Tensor, labels: Tensor, others: Tensor, other_labels: Tensor) -> Tensor:
    """Towards the means of the classes of `others` [m, ...], q of them; zeros for the row's own class."""
    _check_others(x, others)
    classes = other_labels.unique()
    means = torch.stack([others[other_labels == k].double().mean(0) for k in classes]).to(x)
    own = (classes == labels[:, None]).view(len(x), -1, *[1] * (x.ndim - 1))
    return torch.where(own, 0.0, means - x[:, None])


def _drawn(kind: str, draw, x: Tensor, shape: tuple[int, ...], count: int, seed: int, ids: Tensor | None) -> Tensor:
    """[B, count, *shape]"""
    api.check_inputs(x, ids, None)
    if not 1 <= count < 1 << 20:
        raise InputError(f"count={count}; at least one direction per example is needed.")
    ids = torch.arange(len(x), device=x.device) if ids is None else ids.to(x.device)
    return torch.stack([draw(seed, ids, FIRST_DRAW[kind] + k, shape, x.dtype) for k in range(count)], 1)


def _check_others(x: Tensor, others: Tensor) -> None:
    if others.shape[1:] != x.shape[1:] or len(others) == 0:
        raise InputError(
            f"The other examples are {tuple(others.shape)}; [m, {', '.join(map(str, x.shape[1:]))}] is needed."
        )
