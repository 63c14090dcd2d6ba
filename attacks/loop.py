"""The one loop that every attack runs in: it asks the model, judges, counts, keeps the best and drops what is done."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

from .card import card_of
from .costs import Costs, tries
from .errors import InputError
from .judging import confirm, judge, settle
from .result import Result
from .rows import Rows
from .threat import Goal, ThreatModel
from .trace import Trace
from .victim import Answer, Query, Spent, Victim, borrowed, check_logits, decision

Search = Generator[Query, Answer, None]
Until = Literal["first", "smallest"]
LOOK_EVERY = 4  # steps between two looks at how many rows are left, where looking waits for the device


class Attack(Protocol):
    """A frozen dataclass of options with one method, `search`, which yields queries and is sent the answers.

    What it yields is all that counts: it returns nothing and may stop whenever it likes. A class attribute
    `until = "smallest"` says that it goes on after the first success, and `card` (a `Card`) what it is made for.
    """

    def search(self, rows: Rows) -> Search: ...


def run(
    attack: Attack,
    victim: Victim,
    x: Tensor,
    goal: Goal,
    threat: ThreatModel,
    *,
    until: Until | None = None,
    seed: int = 0,
    ids: Tensor | None = None,
    compact_below: float = 0.75,
    max_queries: int | None = None,
    max_backwards: int | None = None,
    watch: bool = False,
) -> Result:
    """Attack every row of x [B, ...], all in one batch.

    until: "first" lets go of a row once it is fooled (fixed eps); "smallest" goes on looking for a smaller
        perturbation until the attack ends; None asks the attack.
    ids: [B] int64, the examples' places in the data set; None numbers them from 0.
    compact_below: shrink the batch when no more than this share of it is still at work; 0 never shrinks it.
        The result does not depend on it.
    max_queries, max_backwards: forwards (the clean one included) and gradients that a row may cost; there it stops.
    watch: also tell what was seen on the way (`Result.seen`), as some attacks need for themselves.
    A row's counts are what it costs alone: up to its success, or to where the attack let it go or ended.
    """
    ids = torch.arange(len(x), device=x.device) if ids is None else ids
    goal.check(len(x))
    rows = Rows(x, ids, goal, threat.around(x), seed)
    card = card_of(attack)
    card.check(attack, victim, rows)
    whole, found = (Result.nothing_yet(x, watch or card.watch) for _ in range(2))
    working = torch.ones(len(x), dtype=torch.bool, device=x.device)
    first = decision(x)  # the clean input is the first candidate
    courses = [_Course(rows, found, working, attack.search(rows), Costs(max_queries, max_backwards), first)]
    with borrowed(victim.model, seed):
        while courses:
            courses += courses.pop().follow(victim, whole, until or getattr(attack, "until", "first"), compact_below)
    return whole


@dataclass
class _Course:
    """A search and the b rows that it is about, from its first query to its end."""

    rows: Rows
    found: Result
    working: Tensor  # [b] bool
    search: Search
    costs: Costs
    first: Query | None = None  # is asked before the search is
    step: int = 0

    def follow(self, victim: Victim, whole: Result, until: Until, compact_below: float) -> list["_Course"]:
        """Until no row is at work. Returns the courses of rows that parted from it, which are to begin after it."""
        left, parted = Left(len(self.working), self.working.device), list["_Course"]()
        query = self.first or self._next(None)
        while True:
            if self.rows.parting:
                parted += self._part()
                left.look(self.working, self.step)
            if query is None or left.known == 0:
                break
            query = self.costs.cut(self._shrink(query, whole, left.known, compact_below))
            if not self._can_pay(query):
                break
            if self.step:
                query = query._replace(x=self.rows.threat.shown(query.x))
            answer = self._ask(query, victim)
            if judge(self.found, self.rows, self.working, query, answer, self.step, self.costs, until):
                left.look(self.working, self.step)
            if left.known == 0:
                break
            query = self._next(answer)
            self.step += 1
        self.search.close()
        settle(self.found, self.rows, self.working, self.costs)
        whole.put(self.rows.index, self.found)
        return parted

    def _can_pay(self, query: Query) -> bool:
        """Rows that cannot pay for the query are done; False where none can."""
        rows, costs, most = self.rows, self.costs, self.costs.max_queries
        if most is None:
            return True
        can_pay = costs.asked + rows.confirmed + tries(query) <= most
        settle(self.found, rows, self.working & ~can_pay, costs)
        self.working = self.working & can_pay
        return costs.asked + tries(query) <= most and not (self.working.is_cpu and not self.working.any())

    def _ask(self, query: Query, victim: Victim) -> Answer:
        rows, watch = self.rows, self.found.seen is not None
        if self.step == 0:
            answer = _clean_answer(victim, rows.x, rows.goal, self.costs)
            rows.trace = Trace(rows, answer.logits) if watch and answer.logits is not None else None
        else:
            answer = victim.answer(query, rows.goal, rows.aim)
        self.costs.ask(query, answer)
        if rows.trace is not None and self.step:
            rows.trace.see(rows, query, answer)
        if victim.passes > 1 or (self.step and victim.searched.form):
            confirm(victim, rows, self.working, query, answer, self.costs)
        return answer

    def _next(self, answer: Answer | None) -> Query | None:
        """What the search asks next, told the answer; None: nothing."""
        try:
            query = self.search.send(answer if self.step else None)  # type: ignore[arg-type]  # None starts a generator
            if answer is not None and self.rows.trace is not None:
                self.rows.trace.feel(self.rows, answer)
        except (StopIteration, Spent):
            return None
        finally:
            self.costs.taken += answer.backwards if answer is not None else 0
        return query

    def _part(self) -> list["_Course"]:
        """Rows that the search parted with are done, or go on by another."""
        courses, rows = list["_Course"](), self.rows
        for which, searches in rows.parting:
            which = self.working & which
            if not searches:
                settle(self.found, rows, which, self.costs)
            elif len(at := which.nonzero().squeeze(1)):
                apart, costs = rows.only(at), replace(self.costs)
                courses.append(
                    _Course(apart, self.found.keep(at), which[at], in_turn(apart, searches), costs, step=self.step)
                )
            self.working = self.working & ~which
        rows.parting = []
        return courses

    def _shrink(self, query: Query, whole: Result, left: int, compact_below: float) -> Query:
        """Rows that are done leave the batch, once there are enough of them."""
        size = left if self.working.is_cpu else fixed_size(left)
        if size <= compact_below * len(self.working):
            whole.put(self.rows.index, self.found)
            at = _staying(self.working, size)
            self.found, query, self.working = self.rows.keep(at, self.found, query, self.working)
        return query


def in_turn(rows: Rows, searches: Sequence[Callable[[Rows], Search]]) -> Search:
    """One after the other; rows that one of them lets go of, go on with the next."""
    later = rows.after
    for number, search in enumerate(searches, 1):
        rows.after = (*searches[number:], *later)
        yield from search(rows)
    rows.after = later


class Left:
    """How many rows are at work; where to ask would wait for the device, how many were one look ago."""

    def __init__(self, rows: int, device: torch.device):
        self.known = rows
        self.waits = device.type == "cuda"
        self.told: tuple[Tensor, torch.cuda.Event] | None = None

    def look(self, working: Tensor, step: int) -> None:
        if not self.waits:
            self.known = int(working.sum())
        elif step % LOOK_EVERY == 0:
            if self.told is not None:
                count, event = self.told
                event.synchronize()
                self.known = int(count)
            self.told = working.sum().to("cpu", non_blocking=True), torch.cuda.Event()
            self.told[1].record()


def fixed_size(rows: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16 ...: few sizes, since each is recorded and compiled for anew."""
    double = 1 << (rows - 1).bit_length()
    return double * 3 // 4 if rows <= double * 3 // 4 else double


def _staying(working: Tensor, size: int) -> Tensor:
    """[size] int64: the rows at work, and of those that are done as many as make up the size."""
    if working.is_cpu:
        return working.nonzero().squeeze(1)
    return (~working).byte().argsort(stable=True)[:size].sort().values  # without waiting for the device


def _clean_answer(victim: Victim, x: Tensor, goal: Goal, costs: Costs) -> Answer:
    """The clean inputs are wrong by plain argmax, as accuracy is counted; the logits are those of what is searched."""
    logits = victim.logits(x)
    check_logits(logits)
    goal.check(len(x), logits.shape[1])
    if logits.shape[1] < 2:
        raise InputError(f"The model has {logits.shape[1]} class; a classifier has at least two.")
    return Answer(goal.reached(logits.argmax(1)), _searched_logits(victim, x, logits, costs))


def _searched_logits(victim: Victim, x: Tensor, logits: Tensor, costs: Costs) -> Tensor:
    """A cheaper form is shown the clean inputs too, as long as that can be paid for."""
    if victim.searched.form:
        if costs.max_queries == 1:
            return logits
        costs.asked += 1
    return victim.searched.begin(x, logits)
