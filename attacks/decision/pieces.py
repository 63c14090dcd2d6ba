"""What decision attacks share: a first point that fools, and the way from it to the boundary."""

from collections.abc import Generator

import torch
from torch import Tensor

from ..norms import per_row
from ..rows import Rows
from ..victim import Answer, Query, decision

AT_ONCE = 2**20  # numbers of one row's tries that are asked in one pass


def tries_at_once(rows: Rows) -> int:
    return max(1, AT_ONCE // rows.x[0].numel())


def find_start(rows: Rows, tries: int) -> Generator[Query, Answer, None]:
    """rows.x_adv [b, ...]: of `tries` random inputs the one nearest to x that fools; rows.started [b]: is there one.

    Half of them are uniform within the bounds, half are x with a growing share of its values at random bounds. Where
    none fools, x_adv is x.
    """
    rows.x_adv = rows.x
    rows.started = torch.zeros_like(rows.index, dtype=torch.bool)
    rows.start_size = torch.full_like(rows.threat.radius, torch.inf)
    some = tries_at_once(rows)
    for first in range(0, tries, some):
        count = min(some, tries - first)
        luck = rows.uniform(count, *rows.x.shape[1:], low=0.0, high=1.0).transpose(0, 1)
        rows.points = _random_points(rows, luck, first, tries).transpose(0, 1)
        answer = yield decision(rows.points.transpose(0, 1), many=True)
        for k, fooled in enumerate(answer.fooled):  # fewer where the budget is spent
            size = rows.threat.norm.size((rows.points[:, k] - rows.x).flatten(1))
            better = fooled & (size < rows.start_size)
            rows.x_adv = torch.where(per_row(better, rows.x), rows.points[:, k], rows.x_adv)
            rows.start_size = torch.where(better, size, rows.start_size)
            rows.started = rows.started | fooled


def _random_points(rows: Rows, luck: Tensor, first: int, tries: int) -> Tensor:
    """[q, b, ...]"""
    low, high = (bound.view_as(rows.x) for bound in (rows.threat.least, rows.threat.most))
    points = []
    for k, drawn in enumerate(luck, start=first):
        share = (k + 1) / tries
        salted = torch.where(drawn < share, torch.where(drawn * 2 < share, low, high), rows.x)
        points.append(low + (high - low) * drawn if k % 2 else salted)
    return torch.stack(points)


def to_boundary(rows: Rows, halvings: int) -> Generator[Query, Answer, None]:
    """rows.x_adv drawn towards x until `halvings` of the way between tell what fools from what does not."""
    rows.far = rows.x_adv
    rows.lower, rows.upper = torch.zeros_like(rows.threat.radius), torch.ones_like(rows.threat.radius)
    for _ in range(halvings):
        rows.middle = (rows.lower + rows.upper) / 2
        answer = yield decision(between(rows, rows.far, rows.middle))
        rows.upper = torch.where(answer.fooled, rows.middle, rows.upper)
        rows.lower = torch.where(answer.fooled, rows.lower, rows.middle)
    rows.x_adv = between(rows, rows.far, rows.upper)


def between(rows: Rows, far: Tensor, share: Tensor) -> Tensor:
    """The point at that share [b] of the way from x to `far`; for L-inf the nearest one to `far` in such a ball."""
    delta = far - rows.x
    if rows.threat.norm.name == "linf":
        reach = per_row(rows.threat.norm.size(delta.flatten(1)) * share, delta)
        return rows.x + torch.maximum(torch.minimum(delta, reach), -reach)
    return rows.x + delta * per_row(share, delta)
