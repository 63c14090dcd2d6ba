"""Auto-PGD: gradient ascent that sets its own step sizes, for L-inf and L2 (arXiv 2003.01690) and L1 (2103.01208)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .. import losses
from ..card import Card
from ..errors import InputError
from ..loop import Search
from ..norms import L1, per_row
from ..rows import Rows
from ..victim import Answer, gradient
from .pieces import Start, start_named, step_length

WIDENED = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))  # L1: the ball is 3 eps wide for the first 30 % of the steps, and so on
FIRST_COUNT = 0.2  # L1: the share of the coordinates that a step from the input itself moves


@dataclass(frozen=True)
class APGD:
    """PGD with momentum that halves a row's step, and goes back to its best point, where progress stalls.

    In L1 the search widens the ball first and moves fewer and fewer coordinates at a time (adaptive sparsity).
    """

    card: ClassVar = Card(norms=("linf", "l2", "l1"), eps="finite")

    steps: int = 100
    loss: str | losses.Loss = "cross_entropy"
    start: str | Start = "random"
    rho: float = 0.75  # a stretch with fewer rises than this share is a stall
    inertia: float = 0.25  # share of the last move carried into the next

    def __post_init__(self):
        losses.named(self.loss)
        start_named(self.start)
        if self.steps < 1:
            raise InputError(f"steps={self.steps}: APGD needs at least one step.")

    def search(self, rows: Rows) -> Search:
        rows.x_adv = start_named(self.start)(rows)
        yield from (self._sparse if isinstance(rows.threat.norm, L1) else self._climb)(rows)

    # -- L-inf and L2 --

    def _climb(self, rows: Rows) -> Search:
        loss = losses.named(self.loss)
        rows.before = rows.x_adv
        rows.length = step_length(rows, 2.0)
        rows.just_halved = torch.zeros_like(rows.length, dtype=torch.bool)
        rows.rises = torch.zeros_like(rows.length)
        _forget_best(rows)
        checks = self.checkpoints()
        for step in range(self.steps + 1):
            answer = yield gradient(rows.x_adv, loss)
            if step == self.steps:
                return
            if step:
                rows.rises = rows.rises + (answer.loss > rows.last_loss)
            rows.last_loss = answer.loss
            better = _look_at(rows, answer)
            if step in checks:
                self._check(rows, better, stretch=checks[step])
            self._step(rows, better, inertia=self.inertia if step else 0.0)

    def _step(self, rows: Rows, better: Tensor, inertia: float) -> None:
        """Step, inertia and projection, and on the way, where it is better [b], the point becomes the best."""
        best = (rows.best, rows.best_grad)
        ahead = rows.threat.ascend(rows.x_adv, rows.before, rows.grad, rows.length, inertia, better, best)
        rows.before, rows.x_adv = rows.x_adv, ahead

    def _check(self, rows: Rows, better: Tensor, stretch: int) -> None:
        no_gain = ~rows.just_halved & (rows.best_at_check >= rows.best_loss)
        stalled = (rows.rises <= self.rho * stretch) | no_gain
        rows.length = torch.where(stalled, rows.length / 2, rows.length)
        _back_to_best(rows, stalled & ~better)  # a row that is better stands at its best
        rows.just_halved, rows.best_at_check = stalled, rows.best_loss
        rows.rises = torch.zeros_like(rows.rises)

    def checkpoints(self) -> dict[int, int]:
        """{step: length of the stretch that ends there}; stretches shrink from 22 % of the steps to 6 %."""
        stretch, at, found = max(int(0.22 * self.steps), 1), 0, {}
        while (at := at + stretch) <= self.steps:
            found[at] = stretch
            stretch = max(stretch - max(int(0.03 * self.steps), 1), max(int(0.06 * self.steps), 1))
        return found

    # -- L1 --

    def _sparse(self, rows: Rows) -> Search:
        for factor, share in WIDENED:
            yield from self._sparse_phase(rows, factor, max(1, round(share * self.steps)))
            rows.x_adv = rows.best

    def _sparse_phase(self, rows: Rows, factor: float, steps: int) -> Search:
        loss = losses.named(self.loss)
        rows.length = step_length(rows, factor)
        rows.x_adv = rows.threat.project(rows.x_adv, rows.threat.radius * factor)
        _forget_best(rows)
        rows.sparsity = _changed(rows)
        whole = max(1.0, FIRST_COUNT * rows.x[0].numel())
        rows.count = torch.where(rows.sparsity > 0, _fewer(rows.sparsity), whole)
        every = max(1, int(0.04 * steps))
        for step in range(steps + 1):
            answer = yield gradient(rows.x_adv, loss)
            better = _look_at(rows, answer)
            rows.best = _where(better, rows.x_adv, rows.best)
            rows.best_grad = _where(better, rows.grad, rows.best_grad)
            if step == steps:
                return
            if step and step % every == 0:
                self._thin_out(rows, factor)
            x, ahead = rows.x_adv.flatten(1), rows.grad.flatten(1)
            ahead = L1.climb(x, ahead, rows.length, rows.count, rows.threat.low, rows.threat.high)
            rows.x_adv = rows.threat.project(ahead.view_as(rows.x), rows.threat.radius * factor)

    def _thin_out(self, rows: Rows, factor: float) -> None:
        """Two thirds of the best point's coordinates; where they settle, shorter steps.

        Within eps itself, fewer and fewer once steps are at their shortest.
        """
        changed = _changed(rows)
        thinner = changed < 0.95 * rows.sparsity
        longest = step_length(rows, factor)
        stuck = ~thinner & (rows.length <= longest / 10) & (factor == 1)
        rows.count = _fewer(torch.where(stuck, torch.minimum(changed, rows.count), changed))
        rows.length = torch.where(thinner, longest, torch.maximum(rows.length / 1.5, longest / 10))
        rows.sparsity = changed
        _back_to_best(rows, thinner)


def _forget_best(rows: Rows) -> None:
    rows.best = rows.x_adv.clone(memory_format=torch.contiguous_format)
    rows.best_grad = torch.zeros_like(rows.best)
    rows.best_loss = rows.last_loss = rows.best_at_check = torch.full_like(rows.threat.radius, -torch.inf)


def _look_at(rows: Rows, answer: Answer) -> Tensor:
    """[b] bool: the loss is higher than ever before."""
    loss = answer.loss.to(rows.best_loss.dtype)
    better = loss > rows.best_loss
    rows.grad = answer.grad()
    rows.best_loss = torch.where(better, loss, rows.best_loss)
    return better


def _back_to_best(rows: Rows, back: Tensor) -> None:
    rows.x_adv = _where(back, rows.best, rows.x_adv)
    rows.grad = _where(back, rows.best_grad, rows.grad)


def _changed(rows: Rows) -> Tensor:
    """[b]: how many coordinates of the best point have moved and can move on; those at their bound are settled."""
    best, x = rows.best.flatten(1), rows.x.flatten(1)
    return ((best != x) & (best > rows.threat.low) & (best < rows.threat.high)).sum(1).to(rows.length.dtype)


def _fewer(coordinates: Tensor) -> Tensor:
    return (coordinates / 1.5).floor().clamp_min(1)


def _where(choose: Tensor, this: Tensor, other: Tensor) -> Tensor:
    return torch.where(per_row(choose, this), this, other)
