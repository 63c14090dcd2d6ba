"""What does a row's trace promise: may its gradients be trusted, and is a boundary within reach?"""

from math import log2

import torch
from torch import Tensor

from .doubts import Doubt, doubts, has
from .rows import Rows

HONEST = (0.25, 1.5)  # share of what gradients promised that comes about where they are to be trusted
NEAR = {"linf": 0.1, "l2": 0.1, "l1": 0.2}  # of the way to the boundary: no more is left to a row that is near
MISSING = 0.07  # eps: no more is missing to a row that is close
FURTHER = 1.5  # times as far as ascents came towards the nearest rival, another is still worth one
FIRST_STOP = 64  # queries without gradients, until it is first looked how much they gain; then at each doubling
SURE_STOP = 512  # until then, rows without a gradient go on, and those whose way is this short:
CLOSE = 0.02  # of the way to the boundary
HOPE, MISLED_HOPE = 1.5, 3.0  # times what the last doubling gained, the next may; where blind gradients led astray


def suspect(rows: Rows) -> Tensor:
    """[b] bool: gradients cannot be trusted there."""
    return blinded(rows) | has(doubts(rows.trace.seen), Doubt.BLACK_BOX_AHEAD) | (rows.trace.seen.kept < HONEST[0])


def blinded(rows: Rows) -> Tensor:
    """[b] bool: they say nothing, or nothing of what lies a step away, or lead away from the boundary."""
    none = (Doubt.ZERO_GRADIENT, Doubt.NOISY_GRADIENT, Doubt.NO_RISE, Doubt.RANDOM)
    kept = rows.trace.seen.kept
    return has(doubts(rows.trace.seen), *none) | (kept > HONEST[1]) | (kept < 0)


def flat(rows: Rows) -> Tensor:
    """[b] bool: no gradient at all, in any pass."""
    return rows.trace.seen.flat == rows.trace.seen.gradients


def out_of_reach(rows: Rows, beyond: float) -> Tensor:
    """[b] bool: the gradients kept their promises, and another eps as steep as the steepest would not do."""
    seen = rows.trace.seen
    return ~suspect(rows) & (seen.kept.clamp_max(1.0) * seen.gap > beyond)


def near(rows: Rows, share: float = 1.0) -> Tensor:
    """[b] bool: no more of the way to the boundary is left than that share of `NEAR`."""
    return rows.trace.seen.lead > share * NEAR[rows.threat.norm.name] * rows.trace.seen.first


def close(rows: Rows, share: float = 1.0) -> Tensor:
    """[b] bool: were the model straight and as steep as at its steepest, that share of `MISSING` would do."""
    return rows.trace.seen.gap <= share * MISSING


def settled(rows: Rows, tried: int) -> Tensor:
    """[b] bool: far from the boundary, where gradients serve, with no rival within reach beyond the first `tried`.

    Within reach is what is not much further, for the linearised model, than the ascents came towards the nearest one.
    """
    far = ~suspect(rows) & ~near(rows)
    if tried >= rows.ways.shape[1]:
        return far
    come = 1 - rows.trace.seen.lead / rows.trace.seen.first
    return far & (rows.ways[:, tried] >= FURTHER * come * rows.ways[:, 0])


def is_stop(asked: int) -> bool:
    """Is it time to look again how much the queries gain?"""
    return asked >= FIRST_STOP and asked.bit_count() == 1


def hopeless(rows: Rows, asked: int, queries: int) -> Tensor:
    """[b] bool: by what was gained from `rows.since` [b], at the last stop, the other queries will not do.

    asked: of the queries, how many there were, without gradients.
    """
    if asked == FIRST_STOP:
        return torch.zeros_like(rows.trace.seen.random)
    gained = rows.trace.seen.lead - rows.since
    hopes = torch.where(blinded(rows) & ~flat(rows), MISLED_HOPE, HOPE) * gained * log2(queries / asked)
    if asked <= SURE_STOP:
        hopes = torch.where(blinded(rows), torch.inf, hopes - CLOSE * rows.trace.seen.first)
    return rows.trace.seen.lead + hopes <= 0
