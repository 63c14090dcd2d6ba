"""Random search on inputs of any shape, where `Square` needs images."""

import torch

from .gradient.pieces import far_off
from .loop import Search
from .rows import Rows
from .victim import scores

HALVINGS = 10  # of the share that is exchanged


def patchwork(rows: Rows, queries: int, first_share: float) -> Search:
    """The trace's best point, with some of its numbers exchanged for those of a far-off one, fewer and fewer.

    first_share: of the numbers, exchanged at first.
    """
    for number in range(queries):
        share = max(first_share / 2 ** (HALVINGS * number / queries), 1 / rows.x[0].numel())
        there = rows.uniform(*rows.x.shape[1:], low=0.0, high=1.0) < share
        yield scores(rows.threat.project(torch.where(there, far_off(rows), rows.trace.best)))
