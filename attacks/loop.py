"""The one loop that every attack runs in: it asks the model, judges, counts, keeps the best and drops what is done."""

import itertools
from collections.abc import Generator
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
    kind: Until = until or getattr(attack, "until", "first")
    ids = torch.arange(len(x), device=x.device) if ids is None else ids
    goal.check(len(x))
    rows = Rows(x, ids, goal, threat.around(x), seed)
    card = card_of(attack)
    card.check(attack, victim, rows)
    watch = watch or card.watch
    whole, found = Result.nothing_yet(x, watch), Result.nothing_yet(x, watch)
    working = torch.ones(len(x), dtype=torch.bool, device=x.device)
    left = Left(len(x), x.device)
    costs = Costs(max_queries, max_backwards)
    search = attack.search(rows)
    query = decision(x)  # the clean input is the first candidate
    with borrowed(victim.model, seed):
        for step in itertools.count():
            if max_queries is not None:
                query = costs.cut(query)
                can_pay = costs.asked + rows.confirmed + tries(query) <= max_queries
                settle(found, rows, working & ~can_pay, costs)
                working = working & can_pay
                if costs.asked + tries(query) > max_queries or (working.is_cpu and not working.any()):
                    break
            if step == 0:
                answer = _clean_answer(victim, x, goal, costs)
                rows.trace = Trace(rows, answer.logits) if watch and answer.logits is not None else None
            else:
                query = query._replace(x=rows.threat.shown(query.x))
                answer = victim.answer(query, rows.goal, rows.aim)
            costs.ask(query, answer)
            if rows.trace is not None and step:
                rows.trace.see(rows, query, answer)
            if victim.passes > 1 or (step and victim.searched.form):
                confirm(victim, rows, working, query, answer, costs)
            if judge(found, rows, working, query, answer, step, costs, kind):
                left.look(working, step)
            if left.known == 0:
                break
            try:
                query = search.send(answer if step else None)  # type: ignore[arg-type]  # None starts a generator
                if rows.trace is not None:
                    rows.trace.feel(rows, answer)
            except (StopIteration, Spent):
                break
            finally:
                costs.taken += answer.backwards
            if (leaving := rows.leaving) is not None:
                settle(found, rows, working & leaving, costs)
                working, rows.leaving = working & ~leaving, None
                left.look(working, step)
                if left.known == 0:
                    break
            size = left.known if working.is_cpu else fixed_size(left.known)
            if size <= compact_below * len(working):
                whole.put(rows.index, found)
                at = _staying(working, size)
                found, query, working = rows.keep(at, found, query, working)
    search.close()
    settle(found, rows, working, costs)
    whole.put(rows.index, found)
    return whole


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
