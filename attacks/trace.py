"""What the loop saw of an attack on each row: how far it came, and whether the gradients kept their promises."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .columns import Columns, PerRow
from .kernels.reference import row_norm, row_sum
from .losses import margin
from .norms import NORMS, TINY
from .rows import Rows
from .victim import Answer, Query

PAST = 0.9  # weight of the past in a running mean
ROUNDING = 1e-3  # of the spread of a row's logits: two answers to one input that differ by more differ by chance


@dataclass
class Seen(Columns):
    """B rows. A lead is the margin of the goal at a candidate, in logits: above 0 the goal is reached.

    A move is uphill where the last gradient promised a rise. A promise is about the very combination of the logits that
    the gradient was taken of, so that it can be held against what became of them, whatever the loss.
    """

    first: Tensor  # [B] lead of the clean input
    lead: Tensor  # [B] largest lead inside the threat set
    pace: Tensor  # [B] running mean of its rise per candidate
    strayed: Tensor  # [B] bool: the goal was reached outside the threat set
    random: Tensor  # [B] bool: the clean input got two answers
    gradients: Tensor  # [B] int64: gradients taken
    flat: Tensor  # [B] int64: of them, those that were zero
    promise: Tensor  # [B] the most that a gradient promised for a move of eps
    moves: Tensor  # [B] int64: moves uphill
    promised: Tensor  # [B] what the gradients promised for them
    risen: Tensor  # [B] what they brought
    agreed: Tensor  # [B] sum of the cosines of the gradients before and after them
    missed: Tensor  # [B] the most that a move, uphill or not, missed its promise by, over the most promised for eps
    stage: Tensor  # [B] int64: of a cascade, the last stage that the row came to
    noted: Tensor  # [B] int64: doubts that the attack itself noted, as in `attacks.doubts`

    @classmethod
    def nothing(cls, like: Tensor) -> "Seen":
        """Nothing seen yet; like: [B, ...]."""
        zeros = torch.zeros(len(like), dtype=like.dtype, device=like.device)
        none, no = zeros.long(), zeros.bool()
        columns = (zeros, zeros, zeros, no, no, none, none, zeros, none, zeros, zeros, zeros, zeros, none, none)
        return cls(*(column.clone() for column in columns))

    @property
    def gap(self) -> Tensor:
        """[B]: the eps still missing, in units of eps, were the model straight and as steep as at its steepest."""
        return (-self.lead / self.promise).clamp_min(0.0)

    @property
    def kept(self) -> Tensor:
        """[B]: the share of what was promised that came about; NaN where no move was uphill."""
        return self.risen / self.promised

    @property
    def agreement(self) -> Tensor:
        """[B]: mean cosine between the gradients before and after a move uphill; NaN where there was none."""
        return self.agreed / self.moves


class Trace(PerRow):
    """The memory from one answer to the next. It lives on `rows`; the loop tells it what the model answered."""

    def __init__(self, rows: Rows, logits: Tensor):
        """logits: [b, K] at the clean inputs."""
        self.seen = Seen.nothing(rows.x)
        self.seen.first = _lead(rows, logits)
        self.seen.lead = self.seen.first
        self.best = rows.x  # [b, ...] the candidate inside the threat set with the largest lead
        self.place, self.logits = rows.x, logits  # [b, ...], [b, K] where the last gradient was taken
        self.slope, self.grad = torch.zeros_like(logits), torch.zeros_like(rows.x)  # of which combination, and itself
        self.reach = torch.zeros_like(self.seen.first)  # [b] the most that it promised for a move of eps
        self.uphill = torch.zeros_like(self.seen.random)  # [b] bool: the last move was

    def see(self, rows: Rows, query: Query, answer: Answer) -> None:
        """Before the attack has the answer."""
        if answer.logits is None:
            return
        before = self.seen.lead
        tries = zip(query.x, answer.logits, strict=True) if query.many else [(query.x, answer.logits)]
        for x, logits in tries:
            self._look(rows, x.detach(), logits)
        self.seen.pace = PAST * self.seen.pace + (1 - PAST) * (self.seen.lead - before)
        if not query.many:
            self._hold_to_promise(query.x.detach(), answer.logits)

    def _look(self, rows: Rows, x: Tensor, logits: Tensor) -> None:
        seen, lead = self.seen, _lead(rows, logits)
        if x is rows.x or x.data_ptr() == rows.x.data_ptr():
            spread = (logits.amax(1) - logits.amin(1)).to(lead.dtype)
            seen.random = seen.random | ((lead - seen.first).abs() > ROUNDING * spread)
        at = (lead > seen.lead).nonzero().squeeze(1)
        if len(at):
            inside = rows.threat.size(x[at], at).isfinite()
            seen.strayed = seen.strayed.index_put((at,), seen.strayed[at] | (~inside & (lead[at] > 0)))
            at = at[inside]
            seen.lead = seen.lead.index_put((at,), lead[at])
            self.best = self.best.index_put((at,), x[at])

    def _hold_to_promise(self, x: Tensor, logits: Tensor) -> None:
        promised = row_sum(((x - self.place) * self.grad).flatten(1))
        risen = row_sum(self.slope * (logits - self.logits)).to(promised.dtype)
        self.uphill = promised > 0
        missed = ((risen - promised).abs() / self.reach.clamp_min(TINY)).nan_to_num(0.0) * (self.reach > 0)
        self.seen.missed = torch.maximum(self.seen.missed, missed)
        self.seen.promised = self.seen.promised + promised.clamp_min(0)
        self.seen.risen = self.seen.risen + torch.where(self.uphill, risen, 0.0).nan_to_num(0.0)
        self.seen.moves = self.seen.moves + self.uphill
        self.place, self.logits = x, logits

    def feel(self, rows: Rows, answer: Answer) -> None:
        """After the attack had the answer: the gradient that it took, if any."""
        if answer.pulled is None:
            self.grad, self.reach = torch.zeros_like(self.grad), torch.zeros_like(self.reach)
            return
        slope, grad = answer.pulled
        flat, before = grad.flatten(1), self.grad.flatten(1)
        norm = rows.threat.norm
        reach = NORMS["linf" if norm.name == "l0" else norm.dual].size(flat) * rows.threat.radius
        cosine = row_sum(flat * before) / (row_norm(flat) * row_norm(before)).clamp_min(TINY**2)
        self.seen.agreed = self.seen.agreed + torch.where(self.uphill, cosine, 0.0)
        self.seen.gradients = self.seen.gradients + 1
        self.seen.flat = self.seen.flat + (reach == 0)
        self.seen.promise = torch.maximum(self.seen.promise, reach)
        self.slope, self.grad, self.reach = slope, grad, reach


def _lead(rows: Rows, logits: Tensor) -> Tensor:
    full = logits if logits.dtype == torch.float64 else logits.float()
    return margin(full, rows.goal).value.to(rows.x.dtype)
