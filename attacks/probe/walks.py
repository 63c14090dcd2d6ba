"""How near to the clean input does one come along the boundary, from an adversarial point and by decisions alone?"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .. import api
from ..card import card_of
from ..decision.hopskipjump import HopSkipJump
from ..errors import InputError
from ..rows import Rows
from ..threat import Goal, ThreatModel
from ..victim import Victim, borrowed, judged


@dataclass(frozen=True)
class Walk:
    """B walks in step; m places at which each was looked at: the start, the boundary, and after each round."""

    queries: Tensor  # [m] int64 forward passes spent by each row up to there; the look at the start is the first
    size: Tensor  # [m, B] float64 the norm of the perturbation; inf where the start was not adversarial
    x_adv: Tensor  # [m, B, ...]


def walk(
    victim: nn.Module | Victim,
    x: Tensor,
    goal: Tensor | Goal,
    start: Tensor,
    threat: str | ThreatModel = "l2:inf",
    *,
    queries: int = 1000,
    seed: int = 0,
    ids: Tensor | None = None,
) -> Walk:
    """From each start [B, ...], which must reach the goal, along the boundary towards x [B, ...].

    The steps are HopSkipJump's (arXiv 1904.02144): its estimate of the normal from decisions beside the boundary, a
    step along it, and back to the boundary towards x.
    threat: the norm (l2 or linf) and the bounds; its eps does not stop a walk.
    queries: the most that a row may cost.

    Raises InputError where no start reaches the goal, where one is outside the bounds, or the input cannot be used.
    """
    victim = victim if isinstance(victim, Victim) else Victim(victim)
    goal = goal if isinstance(goal, Goal) else Goal(goal)
    threat = api.as_threat(threat)
    api.check_inputs(x, ids, None)
    goal.check(len(x))
    if not isinstance(start, Tensor) or start.shape != x.shape or start.dtype != x.dtype:
        raise InputError(f"A start like every input is needed, {x.dtype} {tuple(x.shape)}.")
    hop = HopSkipJump(queries=max(1, queries - 1))
    home, device = x.device, api.device_of(victim.model, x.device)
    places = torch.arange(len(x)) if ids is None else ids
    with torch.no_grad(), borrowed(victim.model, seed % 2**63):
        around = threat.around(x.detach().to(device))
        rows = Rows(around.x, places.to(device), goal.to(device), around, seed)
        card_of(hop).check(hop, victim, rows)
        places = _walked(victim, rows, threat, start.detach().to(device), hop)
    spent, size, x_adv = zip(*places, strict=True)
    return Walk(torch.tensor(spent), torch.stack(size).to(home), torch.stack(x_adv).to(home))


def _walked(victim: Victim, rows: Rows, threat: ThreatModel, start: Tensor, hop: HopSkipJump) -> list:
    """(queries, size [B], x_adv [B, ...]) at each place."""
    threat.around(start)  # raises where it is outside the bounds
    adversarial = judged(victim.logits(start), rows.goal)
    if not bool(adversarial.any()):
        raise InputError("None of the starts is adversarial: give inputs that the victim takes for another class.")
    rows.x_adv, spent = start, 1
    places = []

    def look() -> None:
        size = rows.threat.norm.size((rows.x_adv.double() - rows.x.double()).flatten(1))
        places.append((spent, size.masked_fill(~adversarial, torch.inf), rows.x_adv))

    look()
    for part in hop.rounds(rows):
        answer = None
        while True:
            try:
                query = part.send(answer)  # type: ignore[arg-type]  # None starts a generator
            except StopIteration:
                break
            answer = victim.answer(query, rows.goal, rows.aim)
            spent += len(query.x) if query.many else 1
        look()
    return places
