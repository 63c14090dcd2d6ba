"""The per-example tensors of one attack, kept in step."""

from collections.abc import Callable
from copy import copy
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from . import noise
from .columns import keep_of_all
from .threat import Goal
from .threat_set import ThreatSet


class Rows:
    """Whatever is one-per-example. An attack stores its own state here too: `rows.momentum = ...`.

    At a `yield` the loop may drop rows that are done; each tensor stored here, and each of an `attacks.columns.PerRow`,
    then loses the same rows. So after a yield, read per-example tensors from here and not from a local.
    """

    index: Tensor  # [b] int64, places in the batch the attack was given
    ids: Tensor  # [b] int64, places in the data set: they and the seed decide a row's random numbers
    x: Tensor  # [b, ...] clean
    goal: Goal  # what counts as success
    aim: Goal  # what the losses climb to; an attack may set it (a target class, say)
    threat: ThreatSet
    confirmed: Tensor  # [b] int64, passes that confirming a randomised victim's successes has cost
    trace: Any  # the loop's Trace where it was asked for one, else None
    parting: list[tuple[Tensor, tuple[Any, ...]]]  # since the last query: rows [b] bool that leave, searches to come
    after: tuple[Any, ...]  # searches that come then, for rows that are let go of too

    def __init__(self, x: Tensor, ids: Tensor, goal: Goal, threat: ThreatSet, seed: int = 0):
        self.index = torch.arange(len(x), device=x.device)
        self.ids = ids
        self.x = x
        self.goal = goal
        self.aim = goal
        self.threat = threat
        self.confirmed = torch.zeros_like(ids)
        self.trace = None
        self.parting = []
        self.after = ()
        self.seed = seed
        self.draws = 0

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Tensor) and name != "index" and value.shape[:1] != self.index.shape:
            raise ValueError(f"rows.{name} is {tuple(value.shape)}; only [{len(self.index)}, ...] tensors live on rows")
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"rows.{name} has not been set; an attack sets its state before it reads it")

    def __len__(self) -> int:
        return len(self.index)

    def keep(self, rows: Tensor, *beside: Any) -> list[Any]:
        """Drop all rows but these [k] int64; returns what stands beside them with the same rows alone."""
        shared_aim = self.aim is self.goal
        names = list(vars(self))
        kept = keep_of_all([*vars(self).values(), *beside], rows)
        vars(self).update(zip(names, kept, strict=False))
        if shared_aim:
            self.aim = self.goal
        return kept[len(names) :]

    def only(self, rows: Tensor) -> "Rows":
        """These rows [k] int64, apart from the others."""
        apart = copy(self)
        apart.parting, apart.after = [], ()
        apart.keep(rows)
        return apart

    def let_go(self, which: Tensor) -> None:
        """The attack will look no further where [b] bool is True: those rows leave before its next query is asked."""
        self.part(which, None)

    def part(self, which: Tensor, search: Callable[["Rows"], Any] | None) -> None:
        """Those [b] bool go on by that search instead, in a batch of their own, and pay for no more than it asks."""
        self.parting.append((which, self.after if search is None else (search, *self.after)))

    @property
    def leaving(self) -> Tensor:
        """[b] bool: parted with since the last query."""
        none = torch.zeros_like(self.ids, dtype=torch.bool)
        return reduce(torch.logical_or, (which for which, _ in self.parting), none)

    def uniform(self, *shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
        """[b, *shape] in [low, high). Draw the same number of times for every row: the draw's number is shared."""
        return noise.uniform(self.seed, self.ids, self._next_draw(), shape, self.x.dtype) * (high - low) + low

    def normal(self, *shape: int) -> Tensor:
        """[b, *shape] standard normal."""
        return noise.normal(self.seed, self.ids, self._next_draw(), shape, self.x.dtype)

    def _next_draw(self) -> int:
        self.draws += 1
        return self.draws - 1
