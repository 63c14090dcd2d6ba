"""What is found for a shard's examples under one run: between the levels first, then on the grid."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

import attacks
from attacks import Access, Goal, Victim, card_of, noise
from attacks.errors import InputError
from attacks.repair import Repair
from reports.dataset.asked import LEVELS, Asked, Run
from reports.sources.dataset import Batch

DRAW = 2**20  # of the random numbers that choose targets, far from those that attacks draw


@dataclass
class Found:
    """b examples."""

    x_adv: Tensor  # [b, ...] the clean input where none was found
    fooled: Tensor  # [b] bool: the goal is reached, by the clean input too
    already: Tensor  # [b] bool: the clean input reaches the goal
    lost: Tensor  # [b] bool: fooled between the levels, and not on the grid
    mended: Tensor  # [b] bool: rounding alone did not do
    queries: Tensor  # [b] int64, those of the repair included
    backwards: Tensor  # [b] int64

    @classmethod
    def nothing(cls, x: Tensor) -> "Found":
        no = [torch.zeros(len(x), dtype=torch.bool, device=x.device) for _ in range(4)]
        none = [torch.zeros(len(x), dtype=torch.int64, device=x.device) for _ in range(2)]
        return cls(x.clone(), no[0], no[1], no[2], no[3], none[0], none[1])


def aims(asked: Asked, batch: Batch, logits: Tensor) -> tuple[Goal, Tensor]:
    """The goal, and which rows [b] bool it can be put to: a class cannot be aimed at from itself."""
    labels, classes = batch.labels, logits.shape[1]
    if asked.target is None:
        return Goal(labels), torch.ones_like(labels, dtype=torch.bool)
    if asked.target.isdecimal():
        target = int(asked.target)
        if target >= classes:
            raise InputError(f"The target is class {target}; the model has {classes}, 0 to {classes - 1}.")
        targets = torch.full_like(labels, target)
    elif asked.target == "next":
        targets = (labels + 1) % classes
    elif asked.target == "least-likely":
        targets = logits.scatter(1, labels[:, None], torch.inf).argmin(1)
    else:
        share = noise.uniform(asked.seed, batch.ids, DRAW, (1,), torch.float64).squeeze(1)
        targets = (labels + 1 + (share * (classes - 1)).long().clamp_max(classes - 2)) % classes
    return Goal(targets, targeted=True), targets != labels


def search(run: Run, asked: Asked, victim: Victim, batch: Batch, goal: Goal, tell: Callable[[int], None]) -> Found:
    """The best that the run finds for each row; tell: called with the number of rows that are done."""
    parts = [Found.nothing(batch.x[:0])]
    for first in range(0, len(batch.x), asked.batch_size):
        part = slice(first, first + asked.batch_size)
        piece = Batch(*(tensor[part] for tensor in batch))
        parts.append(_search(run, asked, victim, piece, goal.keep(part)))
        tell(len(piece.x))
    return Found(*(torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])))


def _search(run: Run, asked: Asked, victim: Victim, batch: Batch, goal: Goal) -> Found:
    result = attacks.run(run.search, victim, batch.x, goal, run.model, seed=asked.seed, ids=batch.ids)
    found = Found.nothing(batch.x)
    found.x_adv, found.fooled, found.already = result.x_adv, result.fooled, result.step == 0
    found.queries, found.backwards = result.queries, result.backwards
    at = (result.step > 0).nonzero().squeeze(1)
    if asked.levels is None or len(at) == 0:
        return found
    x = batch.x[at]
    fixed = attacks.run(
        Repair(result.x_adv[at], min(card_of(run.search).access, Access.GRADIENT)),
        victim,
        x,
        goal.keep(at),
        replace(run.model, levels=LEVELS),
        until=getattr(run.search, "until", "first"),
        seed=asked.seed,
        ids=batch.ids[at],
    )
    found.x_adv[at], found.fooled[at], found.lost[at] = fixed.x_adv, fixed.fooled, ~fixed.fooled
    found.mended[at] = fixed.passes > 2  # the clean input's pass and that of the rounded point
    found.queries[at] += fixed.queries
    found.backwards[at] += fixed.backwards
    return found
