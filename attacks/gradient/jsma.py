"""Jacobian-based saliency map attack: one value after the other, the most salient first (arXiv 1511.07528)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .. import losses
from ..card import Card
from ..errors import InputError
from ..loop import Search
from ..rows import Rows
from ..victim import Answer, gradient


@dataclass(frozen=True)
class JSMA:
    """JSMA (arXiv 1511.07528), for L0: each step sets the `at_once` most salient values to their bound.

    A value is salient where moving it raises the target's logit and lowers the sum of the others: by the product of
    the two slopes times the way that is left. Where there is none such, the way to gain most on the rival counts.
    Untargeted, the target is the likeliest wrong class of the moment. The paper sets pairs of pixels, found among all
    pairs; single values need no table of d x d, and the last step of a pair is not wasted.
    """

    card: ClassVar = Card(norms=("l0",))

    steps: int = 100
    at_once: int = 1

    def __post_init__(self):
        if self.steps < 1 or self.at_once < 1:
            raise InputError(f"steps={self.steps}, at_once={self.at_once}: at least one of each is needed.")

    def search(self, rows: Rows) -> Search:
        rows.x_adv = rows.x
        rows.settled = torch.zeros_like(rows.x, dtype=torch.bool).flatten(1)
        for step in range(self.steps + 1):
            answer = yield gradient(rows.x_adv, losses.margin)
            if step < self.steps:
                self._set_most_salient(rows, *self._slopes(rows, answer))

    @staticmethod
    def _slopes(rows: Rows, answer: Answer) -> tuple[Tensor, Tensor]:
        """[b, d] each: the gradients of the target's logit and of the sum of the others."""
        assert answer.logits is not None
        logits, labels = answer.logits, rows.aim.labels[:, None]
        target = labels if rows.aim.targeted else logits.scatter(1, labels, -torch.inf).argmax(1, keepdim=True)
        chosen = torch.zeros_like(logits).scatter_(1, target, 1.0)
        return answer.grad_of(chosen).flatten(1), answer.grad_of(1 - chosen).flatten(1)

    def _set_most_salient(self, rows: Rows, target: Tensor, others: Tensor) -> None:
        threat, at = rows.threat, rows.x_adv.flatten(1)
        bound = torch.where(target - others > 0, threat.high, threat.low)
        way = bound - at
        wanted = (target * way > 0) & (others * way < 0)
        salience = torch.where(wanted, (target * others).abs() * way.abs(), -torch.inf)
        gain = ((target - others) * way).masked_fill(wanted.any(1, keepdim=True), -torch.inf)
        salience = torch.maximum(salience, torch.where(gain > 0, gain, -torch.inf))
        salience = salience.masked_fill(rows.settled, -torch.inf)
        top = salience.argsort(dim=1, descending=True, stable=True)[:, : self.at_once]
        chosen = torch.zeros_like(rows.settled).scatter_(1, top, torch.ones_like(top, dtype=torch.bool))
        chosen = chosen & salience.isfinite()
        rows.settled = rows.settled | chosen
        rows.x_adv = torch.where(chosen, bound, at).view_as(rows.x)
