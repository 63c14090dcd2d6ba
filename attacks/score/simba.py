"""Simple black-box attack: one random basis vector at a time, kept where the loss rises (arXiv 1905.07121)."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .. import losses
from ..card import Card
from ..errors import InputError
from ..loop import Search
from ..norms import per_row
from ..rows import Rows
from ..victim import Access, scores


@dataclass(frozen=True)
class SimBA:
    """SimBA (arXiv 1905.07121): x + step, else x - step, along basis vectors in random order without repetition.

    basis: "pixel", single coordinates; "dct", cosine waves of a channel, low frequencies first (images).
    share: the step's size over eps. In L-inf a step of eps along a wave goes to its crests.
    The paper bounds the norm by the number of steps; here each point is brought back into the threat set. Each row goes
    on to its next vector as soon as one sign has helped, so that no query is idle.
    """

    queries: int = 5000
    basis: Literal["pixel", "dct"] = "pixel"
    share: float = 0.2
    loss: str | losses.Loss = "margin"

    def __post_init__(self):
        losses.named(self.loss)
        if self.basis not in ("pixel", "dct"):
            raise InputError(f"basis={self.basis!r}: pixel or dct is needed.")
        if self.queries < 2 or not self.share > 0:
            raise InputError(f"queries={self.queries}, share={self.share}: at least 2 and a positive share are needed.")

    @property
    def card(self) -> Card:
        return Card(Access.SCORES, norms=("linf", "l2"), eps="finite", images=self.basis == "dct")

    def search(self, rows: Rows) -> Search:
        loss, vectors = losses.named(self.loss), rows.x[0].numel()
        answer = yield scores(rows.x, loss)
        rows.x_adv, rows.best = rows.x, answer.loss
        rows.order = self._order(rows)
        rows.tried = torch.zeros_like(rows.index)  # basis vectors that are done with
        rows.sign = torch.ones_like(rows.threat.radius)
        for _ in range(self.queries - 1):
            at = rows.order.gather(1, (rows.tried % vectors)[:, None]).squeeze(1)
            wave = self._wave(rows, at) * per_row(rows.sign * rows.threat.radius * self.share, rows.x)
            rows.candidate = rows.threat.project(rows.x_adv + wave)
            answer = yield scores(rows.candidate, loss)
            better = answer.loss > rows.best
            rows.best = torch.where(better, answer.loss, rows.best)
            rows.x_adv = torch.where(per_row(better, rows.x), rows.candidate, rows.x_adv)
            done = better | (rows.sign < 0)
            rows.tried = rows.tried + done
            rows.sign = torch.where(done, torch.ones_like(rows.sign), -rows.sign)

    def _order(self, rows: Rows) -> Tensor:
        """[b, d]: the basis vectors in each row's order."""
        luck = rows.uniform(rows.x[0].numel(), low=0.0, high=1.0)
        if self.basis == "dct":
            height, width = rows.x.shape[2:]
            down = torch.arange(height, device=luck.device) / height
            across = torch.arange(width, device=luck.device) / width
            frequency = torch.maximum(down[:, None], across[None, :]).expand(rows.x.shape[1:]).flatten()
            luck = (frequency * 8).floor() + luck  # an eighth of the band after the other
        return luck.argsort(dim=1, stable=True)

    def _wave(self, rows: Rows, at: Tensor) -> Tensor:
        """[b, ...]: the basis vectors number `at` [b], of norm 1 in the threat's norm."""
        if self.basis == "pixel":
            flat = torch.zeros_like(rows.x).flatten(1)
            return flat.scatter_(1, at[:, None], 1.0).view_as(rows.x)
        _, channels, height, width = rows.x.shape
        down = _cosine(at // width % height, height, rows.x)
        across = _cosine(at % width, width, rows.x)
        channel = torch.arange(channels, device=at.device) == (at // (height * width))[:, None]
        wave = channel[:, :, None, None] * down[:, None, :, None] * across[:, None, None, :]
        return wave / per_row(rows.threat.norm.size(wave.flatten(1)), wave)


def _cosine(frequency: Tensor, length: int, like: Tensor) -> Tensor:
    """[b, length]: cos((2 i + 1) f pi / (2 length)), the discrete cosine transform's."""
    at = torch.arange(length, device=like.device, dtype=like.dtype)
    return ((2 * at + 1) * frequency[:, None].to(like.dtype) * (math.pi / (2 * length))).cos()
