"""Projected gradient ascent, and the attacks that are PGD with other parts."""

from dataclasses import dataclass, field

from torch import Tensor

from .. import losses
from ..card import Card
from ..errors import InputError
from ..loop import Search
from ..rows import Rows
from ..victim import Answer, gradient, scores
from .pieces import (
    Adam,
    Direction,
    Momentum,
    Nesterov,
    Start,
    Steepest,
    View,
    gradients,
    schedule_named,
    start_named,
    step_length,
)


@dataclass(frozen=True)
class GradientAscent:
    """Climb `loss` from `start` by steps of `share` times eps; the threat model says where to stop.

    views: what the model is shown instead of the points where gradients are wanted, the first applied first.
    schedule: how the step's length goes on, "constant" or "cosine" (falling to nothing).
    """

    loss: str | losses.Loss = "cross_entropy"
    direction: Direction = field(default_factory=Steepest)
    share: float = 0.1
    start: str | Start = "random"
    steps: int = 40
    views: tuple[View, ...] = ()
    schedule: str = "constant"

    def __post_init__(self):
        losses.named(self.loss)
        start_named(self.start)
        schedule_named(self.schedule)
        if self.steps < 1 or not self.share > 0:
            raise InputError(
                f"steps={self.steps}, share={self.share}: at least one step of a positive share is needed."
            )

    @property
    def card(self) -> Card:
        return Card(norms=self.direction.norms, eps="finite", images=any(view.images for view in self.views))

    def search(self, rows: Rows) -> Search:
        loss = losses.named(self.loss)
        rows.x_adv = start_named(self.start)(rows)
        rows.longest = rows.length = step_length(rows, self.share)
        schedule = schedule_named(self.schedule)
        self.direction.init(rows)
        for step in range(1, self.steps + 1):
            rows.progress = (step - 1) / self.steps
            rows.length = rows.longest * schedule(rows.progress)
            shown = self._shown(rows)
            many = shown.ndim > rows.x.ndim
            answer = yield gradient(shown, loss, many)
            if many and len(answer.fooled) < len(shown):
                return  # no more tries could be paid for: the budget is spent
            direction = self.direction.turn(rows, self._pulled(rows, answer, loss, many))
            rows.x_adv = self.direction.move(rows, direction, rows.length, progress=step / self.steps)
        yield scores(rows.x_adv)

    def _shown(self, rows: Rows) -> Tensor:
        """[b, ...], or [q, b, ...] for more than one try."""
        points = self.direction.ask_at(rows, rows.length)
        points = points if points.ndim > rows.x.ndim else points[None]
        for view in self.views:
            points = view.show(rows, points)
        return points[0] if len(points) == 1 else points

    def _pulled(self, rows: Rows, answer: Answer, loss: losses.Loss, many: bool) -> Tensor:
        """The gradients at the points of `ask_at`, in its shape."""
        grads = gradients(answer, loss, rows) if many else answer.grad()[None]
        for view in reversed(self.views):
            grads = view.pull(rows, grads)
        return grads[0] if len(grads) == 1 else grads


def fgsm(loss: str | losses.Loss = "cross_entropy") -> GradientAscent:
    """Fast gradient (sign) method, arXiv 1412.6572: one step of eps, steepest in the threat's norm."""
    return GradientAscent(loss, share=1.0, start="input", steps=1)


def bim(steps: int = 10, share: float = 0.2, loss: str | losses.Loss = "cross_entropy") -> GradientAscent:
    """Basic iterative method, arXiv 1607.02533: PGD from the input itself."""
    return GradientAscent(loss, share=share, start="input", steps=steps)


def pgd(steps: int = 40, share: float = 0.1, loss: str | losses.Loss = "cross_entropy") -> GradientAscent:
    """Projected gradient descent, arXiv 1706.06083, from a random start."""
    return GradientAscent(loss, share=share, steps=steps)


def mi_fgsm(steps: int = 10, decay: float = 1.0, loss: str | losses.Loss = "cross_entropy") -> GradientAscent:
    """Momentum iterative FGSM, arXiv 1710.06081."""
    return GradientAscent(loss, Momentum(decay), share=1 / steps, start="input", steps=steps)


def ni_fgsm(steps: int = 10, decay: float = 1.0, loss: str | losses.Loss = "cross_entropy") -> GradientAscent:
    """Nesterov iterative FGSM, arXiv 1908.06281."""
    return GradientAscent(loss, Nesterov(decay), share=1 / steps, start="input", steps=steps)


def pgd_adam(steps: int = 40, share: float = 0.1, loss: str | losses.Loss = "cross_entropy") -> GradientAscent:
    """PGD whose steps are those of Adam (arXiv 1412.6980), from a random start."""
    return GradientAscent(loss, Adam(), share=share, steps=steps)
