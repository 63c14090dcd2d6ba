"""What keeps a critic smooth: a price per row on its slope in the input.

A penalty is [b], its weight included, and is added to the critic's loss of the same rows. `real` and `fake` [b, ...]
are leaves that require grad and have no graph behind them; `real_scores` and `fake_scores` [b] were computed from them.
A score must depend on its own row alone: batch normalisation in the critic makes every slope here a wrong one.

R1, R2, R1R2 and GradientPenalty differentiate twice and stay outside `torch.compile`. The twins named ...Difference ask
the critic once more instead, and compile.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from attacks.errors import unknown

Critic = Callable[[Tensor, Tensor | None], Tensor]  # (x [b, ...], labels [b]) -> scores [b]
Draw = Callable[[tuple[int, ...]], Tensor]  # shape -> random numbers, uniform in [0, 1)


class Penalty(Protocol):
    def __call__(
        self,
        critic: Critic,
        real: Tensor,
        fake: Tensor,
        labels: Tensor | None,
        real_scores: Tensor,
        fake_scores: Tensor,
        draw: Draw,
    ) -> Tensor: ...


def squared_slope(x: Tensor, scores: Tensor) -> Tensor:
    """||d scores[i] / d x[i]||^2 over all dimensions but the first, [b]; differentiable in the critic's weights."""
    # The sum, since a mean would divide every row's slope by the batch and its square by the batch squared.
    (slope,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    return slope.square().flatten(1).sum(1)


def squared_difference(
    critic: Critic, x: Tensor, labels: Tensor | None, scores: Tensor, draw: Draw, sigma: float
) -> Tensor:
    """((critic(x + sigma e) - scores) / sigma)^2 with random signs e: its mean over e is `squared_slope` + O(sigma^2).

    For small sigma the difference is sigma (slope . e), and the mean of (slope . e)^2 is ||slope||^2 since the mean of
    e e' is the unit matrix. Signs have the least variance of all such e: 2 (||slope||^4 - sum slope_k^4), so that a row
    of one number has none. Rounding of the scores costs their size / sigma: float32 at least.
    """
    signs = 2 * (draw(tuple(x.shape)) < 0.5).to(x.dtype) - 1
    return ((critic(x + sigma * signs, labels) - scores) / sigma).square()


@dataclass(frozen=True)
class NoPenalty:
    """Zeros; the weight is not read."""

    weight: float = 0.0

    def __call__(self, critic, real, fake, labels, real_scores, fake_scores, draw) -> Tensor:
        return torch.zeros_like(real_scores)


@dataclass(frozen=True)
class R1:
    """weight / 2 ||slope at real||^2 (arXiv 1801.04406)."""

    weight: float = 1.0

    def __call__(self, critic, real, fake, labels, real_scores, fake_scores, draw) -> Tensor:
        return self.weight / 2 * squared_slope(real, real_scores)


@dataclass(frozen=True)
class R2:
    """weight / 2 ||slope at fake||^2 (arXiv 1801.04406)."""

    weight: float = 1.0

    def __call__(self, critic, real, fake, labels, real_scores, fake_scores, draw) -> Tensor:
        return self.weight / 2 * squared_slope(fake, fake_scores)


@dataclass(frozen=True)
class R1R2:
    """weight / 2 (||slope at real||^2 + ||slope at fake||^2) (arXiv 2501.05441)."""

    weight: float = 1.0

    def __call__(self, critic, real, fake, labels, real_scores, fake_scores, draw) -> Tensor:
        scores = real_scores.sum() + fake_scores.sum()
        slopes = torch.autograd.grad(scores, (real, fake), create_graph=True)  # in one pass
        at_real, at_fake = (slope.square().flatten(1).sum(1) for slope in slopes)
        return self.weight / 2 * (at_real + at_fake)


@dataclass(frozen=True)
class GradientPenalty:
    """weight (||slope|| - 1)^2 at a point between real and fake, drawn afresh for every row (arXiv 1704.00028)."""

    weight: float = 10.0

    def __call__(self, critic, real, fake, labels, real_scores, fake_scores, draw) -> Tensor:
        share = draw((len(real), *[1] * (real.ndim - 1))).to(real.dtype)
        between = torch.lerp(real.detach(), fake.detach(), share).requires_grad_()
        (slope,) = torch.autograd.grad(critic(between, labels).sum(), between, create_graph=True)
        # The norm's derivative at 0 is taken as 0: a square root of the sum would give NaN there.
        return self.weight * (torch.linalg.vector_norm(slope.flatten(1), dim=1) - 1).square()


@dataclass(frozen=True)
class R1Difference:
    """`R1` by a finite difference of sigma, in the units of x (after arXiv 2501.08316, which does not divide by it)."""

    weight: float = 1.0
    sigma: float = 0.01

    def __call__(self, critic, real, fake, labels, real_scores, fake_scores, draw) -> Tensor:
        return self.weight / 2 * squared_difference(critic, real, labels, real_scores, draw, self.sigma)


@dataclass(frozen=True)
class R2Difference:
    """`R2` by a finite difference of sigma, in the units of x."""

    weight: float = 1.0
    sigma: float = 0.01

    def __call__(self, critic, real, fake, labels, real_scores, fake_scores, draw) -> Tensor:
        return self.weight / 2 * squared_difference(critic, fake, labels, fake_scores, draw, self.sigma)


@dataclass(frozen=True)
class R1R2Difference:
    """`R1R2` by finite differences of sigma, in the units of x."""

    weight: float = 1.0
    sigma: float = 0.01

    def __call__(self, critic, real, fake, labels, real_scores, fake_scores, draw) -> Tensor:
        at_real = squared_difference(critic, real, labels, real_scores, draw, self.sigma)
        return self.weight / 2 * (at_real + squared_difference(critic, fake, labels, fake_scores, draw, self.sigma))


PENALTIES: dict[str, Callable[[float], Penalty]] = {  # name -> penalty of a weight
    "none": NoPenalty,
    "r1": R1,
    "r2": R2,
    "r1r2": R1R2,
    "gradient": GradientPenalty,
    "r1_difference": R1Difference,
    "r2_difference": R2Difference,
    "r1r2_difference": R1R2Difference,
}


def named(penalty: str, weight: float) -> Penalty:
    """The penalty of that name with that weight. Raises InputError for a name that is not there."""
    if penalty not in PENALTIES:
        raise unknown("penalty", penalty, PENALTIES)
    return PENALTIES[penalty](weight)
