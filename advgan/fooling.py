"""What does it mean to fool a victim, as a loss that a generator descends?

Each takes (victim, x, fake, goal) and gives [b], smaller where `fake` fools better; no row's value depends on another.
x [b, ...] is the clean input. goal.labels [b] is what to get away from, or with goal.targeted the class to reach. The
gradient flows through the victim to `fake`; the victim must be in eval mode, its parameters without gradients.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from torch.nn.functional import cross_entropy as nll

from attacks.errors import InputError
from attacks.passes.layers import heard
from attacks.threat import Goal

Fooling = Callable[[nn.Module, Tensor, Tensor, Goal], Tensor]


@dataclass(frozen=True)
class Margin:
    """On logits, as Carlini and Wagner (arXiv 1608.04644) and AdvGAN (arXiv 1801.02610) have it.

    The label's logit minus the best other one (targeted: the best other one minus the target's), but no less than
    -confidence: beyond that a row asks for nothing more.
    """

    confidence: float = 0.0

    def __call__(self, victim: nn.Module, x: Tensor, fake: Tensor, goal: Goal) -> Tensor:
        logits, labels = victim(fake), goal.labels[:, None]
        own = logits.gather(1, labels).squeeze(1)
        rival = logits.scatter(1, labels, -torch.inf).amax(1)
        return ((rival - own) if goal.targeted else (own - rival)).clamp_min(-self.confidence)


@dataclass(frozen=True)
class CrossEntropy:
    """Minus the label's cross entropy (targeted: the target's)."""

    def __call__(self, victim: nn.Module, x: Tensor, fake: Tensor, goal: Goal) -> Tensor:
        return _away(victim(fake), goal)


@dataclass(frozen=True)
class RelativisticCrossEntropy:
    """The cross entropy of how the logits changed, f(fake) - f(x) (CDA, arXiv 1905.11736)."""

    def __call__(self, victim: nn.Module, x: Tensor, fake: Tensor, goal: Goal) -> Tensor:
        with torch.no_grad():
            clean = victim(x)
        return _away(victim(fake) - clean, goal)


@dataclass(frozen=True)
class Features:
    """Minus how far the layer's output is moved: no label is used, and what is learnt transfers (untargeted only).

    layer: the name of a submodule, as `named_modules` gives it. by: "distance", the mean square (LTP, NeurIPS 2021),
    or "cosine", 1 minus the cosine (BIA, arXiv 2201.11528).
    """

    layer: str
    by: str = "distance"

    def __call__(self, victim: nn.Module, x: Tensor, fake: Tensor, goal: Goal) -> Tensor:
        if goal.targeted:
            raise InputError("Features are driven apart, towards no class: take another loss for a target.")
        with torch.no_grad():
            clean = self.of(victim, x)
        moved = self.of(victim, fake)
        if self.by == "cosine":
            return cosine_similarity(clean, moved) - 1
        return -(moved - clean).square().mean(1)

    def of(self, victim: nn.Module, x: Tensor) -> Tensor:
        """[b, n]: what the layer gives. Raises InputError where the victim has no such layer."""
        return heard(victim, self.layer, lambda: victim(x))[1].flatten(1)


LOSSES: dict[str, Callable[..., Fooling]] = {
    "margin": lambda confidence, layer: Margin(confidence),
    "cross_entropy": lambda confidence, layer: CrossEntropy(),
    "relativistic_cross_entropy": lambda confidence, layer: RelativisticCrossEntropy(),
    "feature_distance": lambda confidence, layer: Features(layer),
    "feature_cosine": lambda confidence, layer: Features(layer, "cosine"),
}


@dataclass(frozen=True, eq=False)
class Adversary:
    """What a perturber is trained against: each victim's loss, on average, and the soft hinge on the L2 norm.

    hinge: the L2 norm up to which a row's perturbation is free; beyond it costs hinge_weight for each unit.
    """

    victims: tuple[nn.Module, ...]
    loss: Fooling
    targeted: bool = False
    hinge_weight: float = 0.0
    hinge: float = 0.0

    def __call__(self, x: Tensor, fake: Tensor, labels: Tensor | None) -> Tensor:
        assert labels is not None
        goal = Goal(labels, self.targeted)
        losses = torch.stack([self.loss(victim, x, fake, goal) for victim in self.victims]).mean(0)
        if self.hinge_weight:
            losses = losses + self.hinge_weight * soft_hinge(x, fake, self.hinge)
        return losses


def soft_hinge(x: Tensor, fake: Tensor, free: float) -> Tensor:
    """[b]: how much the L2 norm of fake - x exceeds `free`, row by row."""
    # The root's slope is infinite at 0, where 0 * inf is NaN: the floor makes it 0.
    size = ((fake - x).flatten(1).square().sum(1) + 1e-24).sqrt()
    return (size - free).clamp_min(0)


def _away(logits: Tensor, goal: Goal) -> Tensor:
    loss = nll(logits, goal.labels, reduction="none")
    return loss if goal.targeted else -loss


__all__ = ["LOSSES", "Adversary", "CrossEntropy", "Features", "Fooling", "Margin", "RelativisticCrossEntropy"]
