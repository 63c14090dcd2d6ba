"""Adversarial patches: a small region that may look like anything, and may be anywhere in the image."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from .. import losses, noise
from ..card import Card
from ..errors import InputError
from ..images import laid, sampled, value_range
from ..loop import Search
from ..norms import NORMS, per_row
from ..rows import Rows
from ..threat import Goal, ThreatModel
from ..victim import Access, Victim, borrowed, decision, gradient
from .pieces import Momentum

STATED = ((0.5, 0.5), (0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))  # the middle and the corners: down, right


@dataclass(frozen=True)
class Placing:
    """Where and how a patch may be laid: anywhere in the image, turned by up to `rotate` degrees either way, and
    shrunk to as little as `smallest` of its side."""

    rotate: float = 22.5
    smallest: float = 0.8

    def __post_init__(self):
        if not (0 <= self.rotate <= 180 and 0 < self.smallest <= 1):
            raise InputError(
                f"rotate={self.rotate}, smallest={self.smallest}: degrees from 0 to 180 and a share above 0 and up to "
                "1 are needed."
            )

    def lay(self, pattern: Tensor, x: Tensor, luck: Tensor, side: Tensor | None = None) -> Tensor:
        """Images x [n, C, H, W] with the pattern [n or 1, C, S, S] on them; luck [n, 4] in [0, 1] decides how.

        luck: angle, size, how far down, how far right. side: [n], the pattern's first rows and columns that are used;
        None is all. Linear in the pattern. A pixel is covered where its centre is; upright and at full size that is
        a square of side x side pixels, and they are those of the pattern.
        """
        luck = luck.double()
        full = torch.full_like(luck[:, 0], pattern.shape[-1])
        side = full if side is None else side.double()
        angle, scale = (2 * luck[:, 0] - 1) * self.rotate, 1 - (1 - self.smallest) * luck[:, 1]
        radians = angle * (math.pi / 180)
        half = side * scale * (radians.cos().abs() + radians.sin().abs()) / 2  # of the upright square round it
        height, width = x.shape[2:]
        centre = _place(luck[:, 2], half, height), _place(luck[:, 3], half, width)
        down, right = laid((height, width), centre, angle, scale, (side - 1) / 2)
        end = (side - 0.5)[:, None, None]
        covered = (down >= -0.5) & (down < end) & (right >= -0.5) & (right < end)
        return torch.where(covered[:, None], sampled(pattern.expand(len(x), -1, -1, -1), down, right, edge=True), x)


def _place(luck: Tensor, half: Tensor, length: int) -> Tensor:
    """[n]: a centre from which `half` either way stays on the line; upright patches begin at whole pixels."""
    room = (length - 2 * half).clamp_min(0)
    first = torch.minimum((luck * (room.floor() + 1)).floor(), room)
    return torch.where(2 * half > length, (length - 1) / 2, first + half - 0.5)


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


def within(rows: Rows, laid: Tensor) -> Tensor:
    """Candidates [q, b, ...] brought into bounds and mask, and where eps is finite into the ball."""
    low, high = rows.threat.low.view_as(rows.x), rows.threat.high.view_as(rows.x)
    clamped = laid.clamp(low, high)
    if rows.threat.norm.name == "linf":
        return clamped  # low and high hold the ball, too
    free = per_row(rows.threat.eps.isinf(), rows.x)
    return torch.stack([torch.where(free, each, rows.threat.project(each)) for each in clamped])


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


Batch = tuple[Tensor, Tensor | Goal]


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
