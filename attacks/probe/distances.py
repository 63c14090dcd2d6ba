"""How far is the decision boundary from each example along given directions?"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from .. import api
from ..card import Card
from ..columns import Columns
from ..errors import InputError
from ..loop import Search, Until
from ..passes.tape import AT_ONCE
from ..rows import Rows
from ..threat import Goal, ThreatModel
from ..victim import Access, Victim, decision

LEVELS = 20  # sizes at which a ray is asked before it is halved, each sqrt(2) times the one before: down to 1/724
HALVINGS = 12  # after them the bracket is 1/10,000 of the distance
GPU_AT_ONCE = 2**24  # numbers that a GPU is shown in one pass


@dataclass
class Distances(Columns):
    """B examples, q directions each."""

    distance: Tensor  # [B, q] float64, the norm of the perturbation at the boundary; inf where none was met
    queries: Tensor  # [B, q] int64 forward passes, the clean one of each ray included


@dataclass(frozen=True)
class Along:
    """The search along one ray per row: asked at growing sizes until it fools, then halved.

    directions: [B, ...], of the batch that the loop is given. A ray is x + t * direction, clamped to the bounds.
    """

    until: ClassVar[Until] = "smallest"
    card: ClassVar = Card(Access.DECISION, norms=("linf", "l2", "l1"), eps="finite")

    directions: Tensor
    levels: int = LEVELS
    halvings: int = HALVINGS

    def search(self, rows: Rows) -> Search:
        rows.direction = self._usable(rows)
        rows.near, rows.far = torch.zeros_like(rows.threat.radius), rows.threat.radius
        rows.met = torch.zeros_like(rows.index, dtype=torch.bool)
        rows.halved = torch.zeros_like(rows.index)
        rows.let_go(~(rows.direction != 0).any(1))
        for level in range(self.levels + self.halvings):
            share = 2.0 ** (min(0, level + 1 - self.levels) / 2)
            rows.asked = torch.where(rows.met, (rows.near + rows.far) / 2, rows.threat.radius * share)
            answer = yield decision(self._at(rows))
            rows.halved = rows.halved + rows.met.long()
            rows.near = torch.where(answer.fooled, rows.near, rows.asked)
            rows.far = torch.where(answer.fooled, rows.asked, rows.far)
            rows.met = rows.met | answer.fooled
            rows.let_go(torch.where(rows.met, rows.halved >= self.halvings, level + 1 >= self.levels))

    def _usable(self, rows: Rows) -> Tensor:
        """[b, d], zeros where a direction is not finite or the mask forbids it."""
        direction = self.directions.to(rows.x)[rows.index].flatten(1)
        direction = torch.where(direction.isfinite().all(1, keepdim=True), direction, 0.0)
        return direction if rows.threat.mask is None else direction * rows.threat.mask

    @staticmethod
    def _at(rows: Rows) -> Tensor:
        """[b, ...]: as far along each ray as the sizes asked for allow."""
        threat = rows.threat
        ahead = threat.norm.reach(rows.x.flatten(1), rows.direction, rows.asked, threat.least, threat.most)
        return ahead.view_as(rows.x)


def distances(
    victim: nn.Module | Victim,
    x: Tensor,
    goal: Tensor | Goal,
    directions: Tensor,
    threat: str | ThreatModel = "l2:inf",
    *,
    levels: int = LEVELS,
    halvings: int = HALVINGS,
    seed: int = 0,
    ids: Tensor | None = None,
    batch_size: int | None = None,
) -> Distances:
    """Walk from every x [B, ...] along each of its directions [B, q, ...] to where the goal is reached.

    victim: decisions are enough.
    goal: labels [B] int64 (the boundary of that class), or a `Goal`. Where it is reached already the distance is 0.
    directions: of any length; only where they point matters. One of zeros leads nowhere: its distance is inf.
    threat: the norm (linf, l2, l1) that distances are measured in, how far to look, and the bounds. Beyond a bound a
        ray goes on along it, as noise that is clamped does; with infinite bounds it is straight. inf where the boundary
        is not met before eps or, with eps = inf, before the size of the box's furthest corner.
    levels, halvings: each ray is asked at `levels` sizes up to the furthest, each sqrt(2) times the one before; the
        first that fools and the last before it are then halved. A class that is left and entered again between two of
        these sizes goes unseen, so a distance is an upper bound of the nearest crossing.
    seed, ids: of a victim that draws random numbers; directions are as given.
    batch_size: rays at a time; the result does not depend on it.

    A distance is the float64 norm of the first perturbation seen to cross, at most 1/10,000 beyond the boundary where
    it is further than the smallest size asked. Raises InputError where the input cannot be used.
    """
    victim = victim if isinstance(victim, Victim) else Victim(victim)
    goal = goal if isinstance(goal, Goal) else Goal(goal)
    api.check_inputs(x, ids, batch_size)
    goal.check(len(x))
    threat = api.as_threat(threat)
    _check(x, directions, threat, levels, halvings)
    places = torch.arange(len(x)) if ids is None else ids
    count, rays = directions.shape[1], directions.flatten(0, 1)
    size = batch_size or rays_at_once(victim, x)
    parts = []
    for part in torch.arange(len(rays), device=x.device).split(size):
        at = part // count
        along = Along(rays[part], levels, halvings)
        limited = _of(threat, at, x)
        result = api.run(along, victim, x[at], goal.keep(at), limited, seed=seed, ids=places.to(at.device)[at])
        parts.append(Distances(result.size, result.queries))
    whole = Distances.joined(parts)
    return Distances(whole.distance.view(-1, count), whole.queries.view(-1, count))


def rays_at_once(victim: Victim, x: Tensor) -> int:
    """As many rows as a pass takes best on the victim's device."""
    on_cpu = api.device_of(victim.model, x.device).type == "cpu"
    return max(32, (AT_ONCE if on_cpu else GPU_AT_ONCE) // x[0].numel())


def _of(threat: ThreatModel, at: Tensor, x: Tensor) -> ThreatModel:
    """The threat model of the rows `at` [m] of x, which may come several times."""

    def taken(value):
        is_per_row = isinstance(value, Tensor) and value.ndim == x.ndim and len(value) > 1
        return value[at.to(value.device)] if is_per_row else value

    eps = torch.as_tensor(threat.eps)
    bounds = (taken(threat.bounds[0]), taken(threat.bounds[1]))
    return replace(
        threat, eps=eps[at.to(eps.device)] if eps.ndim else threat.eps, bounds=bounds, mask=taken(threat.mask)
    )


def _check(x: Tensor, directions: Tensor, threat: ThreatModel, levels: int, halvings: int) -> None:
    shape = tuple(getattr(directions, "shape", ()))
    if len(shape) < 2 or shape[0] != len(x) or shape[1] < 1 or shape[2:] != tuple(x.shape[1:]):
        wanted = ", ".join(["q", *map(str, x.shape[1:])])
        raise InputError(
            f"Directions are {shape or type(directions).__name__}; q of them for each input are needed, "
            f"[{len(x)}, {wanted}]."
        )
    if levels < 1 or halvings < 0:
        raise InputError(f"levels={levels}, halvings={halvings}: at least one size and no fewer than 0 halvings.")
    if threat.levels is not None:
        raise InputError("Distances are continuous: give the threat levels=None.")
    eps, low, high = (torch.as_tensor(value) for value in (threat.eps, *threat.bounds))
    if bool(eps.isinf().any()) and not (math.isfinite(float(low.min())) and math.isfinite(float(high.max()))):
        raise InputError("Without bounds a ray has no end: give the threat an eps, which says how far to look.")
