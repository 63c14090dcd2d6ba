"""One patch for all images: how is it trained, and laid on images that it has not seen?"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from .. import losses, noise
from ..card import Card
from ..errors import InputError
from ..loop import Search
from ..norms import NORMS
from ..rows import Rows
from ..threat import Goal, ThreatModel
from ..victim import Access, Victim, borrowed, decision, gradient
from .placing import Placing, within

Batch = tuple[Tensor, Tensor | Goal]


@dataclass(frozen=True, eq=False)
class Patch:
    """A trained patch, laid on each image at `tries` random places. `train_patch` makes one.

    pattern: [C, S, S], in the units of the images.
    """

    card: ClassVar = Card(Access.DECISION, images=True)

    pattern: Tensor
    tries: int = 10
    rotate: float = 22.5
    smallest: float = 0.8

    def __post_init__(self):
        Placing(self.rotate, self.smallest)
        if self.pattern.ndim != 3 or self.pattern.shape[1] != self.pattern.shape[2]:
            raise InputError(f"The pattern is {tuple(self.pattern.shape)}; a square one [C, S, S] is needed.")
        if self.tries < 1:
            raise InputError(f"tries={self.tries}: the patch is laid at least once.")

    def search(self, rows: Rows) -> Search:
        for _ in range(self.tries):
            yield decision(within(rows, self.laid_on(rows.x, rows.uniform(4, low=0.0, high=1.0))[None])[0])

    def laid_on(self, x: Tensor, luck: Tensor) -> Tensor:
        """Images x [n, C, H, W] with the patch on them, as luck [n, 4] in [0, 1] decides (see Placing.lay)."""
        channels, side = self.pattern.shape[:2]
        if x.shape[1] != channels or side > min(x.shape[2:]):
            raise InputError(f"A patch {tuple(self.pattern.shape)} does not fit on images {tuple(x.shape)}.")
        return Placing(self.rotate, self.smallest).lay(self.pattern.to(x)[None], x, luck)


def train_patch(
    victim: nn.Module | Victim,
    x: Tensor | Iterable[Batch],
    goal: Tensor | Goal | None = None,
    *,
    side: float = 0.25,
    steps: int = 200,
    batch_size: int = 64,
    rate: float = 0.05,
    rotate: float = 22.5,
    smallest: float = 0.8,
    tries: int = 10,
    loss: str | losses.Loss = "cross_entropy",
    bounds: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
) -> Patch:
    """One patch for all images (arXiv 1712.09665): what climbs the mean loss over images and random placings.

    victim: its gradients are needed. It is put in eval mode and left exactly as it was.
    x, goal: images [B, C, H, W] within `bounds` and labels [B] int64 (away from them) or a Goal (a target class:
        Goal(target, targeted=True)); or an iterable of such pairs, gone through again and again.
    side: of the square, as a share of the images' shorter side. rate: of Adam (arXiv 1412.6980), of the bounds' range.
    steps: batches that the pattern is changed for. tries: of the patch that is returned (see Patch).
    The same seed and batches give the same patch. Raises InputError where the input cannot be used.
    """
    victim = victim if isinstance(victim, Victim) else Victim(victim)
    victim.check(Access.GRADIENT)
    climbed, placing = losses.named(loss), Placing(rotate, smallest)
    if not 0 < side <= 1 or steps < 1 or batch_size < 1 or not rate > 0:
        raise InputError(
            f"side={side}, steps={steps}, batch_size={batch_size}, rate={rate}: a side above 0 and up to 1, a "
            "positive rate and at least one step and row a batch are needed."
        )
    low, high = bounds
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"The bounds are {low} and {high}: two finite numbers, the lower one first, are needed.")
    pattern, optimiser = torch.empty(0), None
    with torch.inference_mode(False), torch.no_grad(), borrowed(victim.model, seed):
        for step, (images, wanted) in enumerate(_batches(x, goal, steps, batch_size, bounds)):
            device = next((each.device for each in victim.model.parameters()), images.device)
            images, wanted = images.to(device), wanted.to(device)
            if optimiser is None:
                pattern = _fresh(images, side, bounds, seed)
                optimiser = torch.optim.Adam([pattern], lr=rate * (high - low), maximize=True)
            ids = torch.arange(len(images), device=device)
            luck = noise.uniform(seed, ids, step + 1, (4,), images.dtype)
            pattern.grad = _mean_gradient(victim, climbed, placing, pattern, images, wanted, luck)
            optimiser.step()
            pattern.clamp_(low, high)
    return Patch(pattern.detach(), tries, rotate, smallest)


def _fresh(images: Tensor, side: float, bounds: tuple[float, float], seed: int) -> Tensor:
    """[C, S, S] at random between the bounds."""
    size = max(1, round(side * min(images.shape[2:])))
    first = torch.zeros(1, dtype=torch.int64, device=images.device)
    drawn = noise.uniform(seed, first, 0, (images.shape[1], size, size), images.dtype)[0]
    return (bounds[0] + drawn * (bounds[1] - bounds[0])).requires_grad_()


def _mean_gradient(
    victim: Victim, loss: losses.Loss, placing: Placing, pattern: Tensor, images: Tensor, goal: Goal, luck: Tensor
) -> Tensor:
    """[C, S, S]: that of the mean loss over the images, each with the pattern laid on it."""
    with torch.enable_grad():
        shown = placing.lay(pattern[None], images, luck)
        answer = victim.answer(gradient(shown.detach(), loss), goal, goal)
        assert answer.logits is not None
        logits = answer.logits if answer.logits.dtype == torch.float64 else answer.logits.float()
        slope = answer.grad_of(loss(logits, goal).slope)
        return torch.autograd.grad(shown, pattern, slope / len(images))[0]


def _batches(
    x: Tensor | Iterable[Batch], goal: Tensor | Goal | None, steps: int, batch_size: int, bounds: tuple[float, float]
) -> Iterator[tuple[Tensor, Goal]]:
    """`steps` batches, checked, from the first again when they are all through."""
    if isinstance(x, Tensor):
        if goal is None:
            raise InputError("train_patch was given images without labels: give labels [B] or a Goal.")
        whole = goal if isinstance(goal, Goal) else Goal(goal)
        whole.check(len(x))
        parts = [slice(first, first + batch_size) for first in range(0, len(x), batch_size)]
        pairs: Iterable[Batch] = [(x[part], whole.keep(part)) for part in parts]
    else:
        if goal is not None:
            raise InputError("train_patch was given batches and a goal: each batch brings its own, (images, goal).")
        pairs = x
    done = 0
    while done < steps:
        before = done
        for images, wanted in pairs:
            wanted = wanted if isinstance(wanted, Goal) else Goal(wanted)
            _check(images, wanted, bounds)
            yield images.detach(), wanted
            done += 1
            if done == steps:
                return
        if done == before:
            raise InputError(
                f"The batches ended after {done} of {steps} steps: give a list or a DataLoader, which can be gone "
                "through again, or fewer steps."
            )


def _check(images: Tensor, goal: Goal, bounds: tuple[float, float]) -> None:
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point() or len(images) == 0:
        kind = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"A batch is {kind}; images [B, C, H, W] of floating-point numbers are needed.")
    goal.check(len(images))
    ThreatModel(NORMS["linf"], 0.0, bounds).around(images)
