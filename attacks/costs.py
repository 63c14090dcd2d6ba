"""What has each row at work cost so far, and what more may it cost?"""

import math
from dataclasses import dataclass

from torch import Tensor

from .rows import Rows
from .victim import Answer, Query


@dataclass
class Costs:
    """The passes that each row still at work has cost so far, and how many it may."""

    max_queries: int | None
    max_backwards: int | None
    asked: int = 0  # forwards
    taken: int = 0  # gradients

    def cut(self, query: Query) -> Query:
        """With no more tries than can be paid for, but at least one."""
        left = max(1, self.max_queries - self.asked) if self.max_queries is not None else len(query.x)
        return query._replace(x=query.x[:left]) if query.many else query

    def spent(self, rows: Rows) -> Tensor:
        """[b] int64, forwards and gradients."""
        return self.asked + self.taken + rows.confirmed

    def ask(self, query: Query, answer: Answer) -> None:
        self.asked += tries(query)
        answer.allowed = math.inf if self.max_backwards is None else self.max_backwards - self.taken


def tries(query: Query) -> int:
    """How many forward passes a query asks of each row."""
    return len(query.x) if query.many else 1
