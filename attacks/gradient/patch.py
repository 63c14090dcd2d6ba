"""A patch for each image: a small region that may look like anything, and may be anywhere in the image."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from .. import losses
from ..card import Card
from ..errors import InputError
from ..images import value_range
from ..loop import Search
from ..norms import per_row
from ..rows import Rows
from ..victim import decision, gradient
from .pieces import Momentum
from .placing import Placing, within

STATED = ((0.5, 0.5), (0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))  # the middle and the corners: down, right


@dataclass(frozen=True)
class PatchAttack:
    """One patch per image, trained over random placings of it (arXiv 1712.09665, EOT).

    side: of the square, as a share of the image's shorter side; the patch's area is side^2.
    shape: "mask" takes the threat model's mask for the patch, which then stays where it is.
    tries: placings of a row shown at each step; the pattern climbs the mean of their gradients, each over its own
        slope in the logits, with momentum. Each is a candidate: the attacker may choose the placing that works.
    share: step, of the range of values.

    When the steps are over, the patch is judged in the middle and the four corners, upright. Made for NORM:inf and for
    l0:k, where the square is made small enough to have k coordinates; in any other ball it stays within that, too.
    The bounds must be finite.
    """

    card: ClassVar = Card(images=True)

    side: float = 0.25
    steps: int = 100
    tries: int = 4
    share: float = 0.05
    rotate: float = 22.5
    smallest: float = 0.8
    decay: float = 0.9
    shape: Literal["square", "mask"] = "square"
    loss: str | losses.Loss = "cross_entropy"

    def __post_init__(self):
        losses.named(self.loss)
        Placing(self.rotate, self.smallest)
        if self.shape not in ("square", "mask"):
            raise InputError(f"shape={self.shape!r}: square or mask is needed.")
        if not (0 < self.side <= 1 and self.share > 0) or self.steps < 1 or self.tries < 1:
            raise InputError(
                f"side={self.side}, share={self.share}, steps={self.steps}, tries={self.tries}: a side above 0 and up "
                "to 1, a positive share and at least one step and try are needed."
            )

    def search(self, rows: Rows) -> Search:
        loss, momentum = losses.named(self.loss), Momentum(self.decay)
        self._begin(rows)
        for _ in range(self.steps):
            rows.luck = rows.uniform(self.tries, 4, low=0.0, high=1.0)
            shown = within(rows, self._laid(rows, rows.pattern))
            answer = yield gradient(shown, loss, many=True)
            if len(answer.fooled) < len(shown):
                return  # no more tries could be paid for: the budget is spent
            direction = self._climb(rows, answer.grad(), momentum)
            step = per_row((rows.most - rows.least) * self.share, rows.pattern)
            ahead = rows.pattern + direction.sign() * step
            rows.pattern = ahead.clamp(per_row(rows.least, ahead), per_row(rows.most, ahead))
        rows.luck = rows.x.new_tensor([(0.5, 0.0, *place) for place in STATED]).expand(len(rows), -1, -1)
        yield decision(within(rows, self._laid(rows, rows.pattern)), many=True)

    def _begin(self, rows: Rows) -> None:
        """The pattern, at random between the bounds, and the side of what is used of it."""
        rows.least, rows.most = value_range(rows.threat.low, rows.threat.high)
        channels, height, width = rows.x.shape[1:]
        side = max(1, round(self.side * min(height, width)))
        masked = self.shape == "mask"
        if masked and rows.threat.mask is None:
            raise InputError("shape='mask' takes the threat model's mask for the patch, and there is none.")
        drawn = rows.uniform(channels, *((height, width) if masked else (side, side)), low=0.0, high=1.0)
        rows.pattern = per_row(rows.least, drawn) + drawn * per_row(rows.most - rows.least, drawn)
        rows.side = torch.full_like(rows.threat.eps, side)
        if rows.threat.norm.name == "l0":
            rows.side = torch.minimum(rows.side, (rows.threat.eps / channels).sqrt().floor())
        rows.momentum = torch.zeros_like(rows.pattern)

    def _laid(self, rows: Rows, pattern: Tensor) -> Tensor:
        """[q, b, ...] from rows.luck [b, q, 4]; the mask's pattern covers the image, once."""
        if self.shape == "mask":
            return pattern[None]
        placing = Placing(self.rotate, self.smallest)
        return torch.stack([placing.lay(pattern, rows.x, luck, rows.side) for luck in rows.luck.unbind(1)])

    def _climb(self, rows: Rows, grads: Tensor, momentum: Momentum) -> Tensor:
        """The direction for the pattern, from the gradients [q, b, ...] at what was shown."""
        with torch.enable_grad():  # linear in the pattern: any will do
            pattern = torch.zeros_like(rows.pattern).requires_grad_()
            (pulled,) = torch.autograd.grad(self._laid(rows, pattern), pattern, grads)
        return momentum.turn(rows, pulled)
