"""A trained network's perturbations, as an attack: one pass of its own and no gradient of the victim."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attacks.card import Card
from attacks.errors import InputError
from attacks.loop import Search
from attacks.rows import Rows
from attacks.threat import ThreatModel, ThreatSet
from attacks.victim import Access, decision

from .bounding import inside
from .networks.players import one_hot
from .train import evaluating


class Perturber(nn.Module):
    """perturber(x, labels, z) -> x_adv [b, *shape], inside the threat set of x, exactly as the loop measures it.

    net: (x centred, told [b, k]) -> any numbers [b, *shape]. classes: the victim's. kind: as `perturbing.KINDS` says.
    target: the class that it was trained to reach, "any" where it is told which, None where it gets away from labels.
    latent: length of z, which a universal perturbation and one per class have no use for.
    """

    def __init__(
        self,
        net: nn.Module,
        threat: ThreatModel,
        shape: tuple[int, ...],
        classes: int,
        latent: int = 1,
        kind: str = "image",
        target: int | str | None = None,
    ):
        super().__init__()
        self.net, self.threat, self.shape, self.classes = net, threat, tuple(shape), classes
        self.latent, self.kind, self.target = latent, kind, target

    @property
    def random(self) -> bool:
        """Whether it makes something else of other noise."""
        return self.kind == "image"

    def forward(self, x: Tensor, labels: Tensor, z: Tensor) -> Tensor:
        """labels [b] int64: the class to get away from, or to reach. Raises InputError for x outside the bounds."""
        return self.within(self.threat.around(x), labels, z)

    def within(self, threat: ThreatSet, labels: Tensor, z: Tensor) -> Tensor:
        """The same in another threat set of the same norm: with a mask, a grid, an eps for each row."""
        (low, high), x = self.threat.bounds, threat.x
        middle, half = (high + low) / 2, (high - low) / 2
        told = self._told(labels, z)
        return inside(threat, self.net(((x - middle) / half).to(told.dtype), told).to(x.dtype))

    def check(self, shape: tuple[int, ...], classes: int) -> None:
        """Raises InputError where it was trained for other inputs or for another number of classes."""
        if tuple(shape) != self.shape:
            raise InputError(f"The perturber was trained for inputs {list(self.shape)}, and these are {list(shape)}.")
        if classes != self.classes:
            raise InputError(f"The perturber was trained for {self.classes} classes, and here there are {classes}.")

    def _told(self, labels: Tensor, z: Tensor) -> Tensor:
        if self.kind == "per_class":
            return one_hot(labels, self.classes, z)
        return torch.cat([z, one_hot(labels, self.classes, z)], 1) if self.target == "any" else z


def told(kind: str, target: int | str | None, latent: int, classes: int) -> int:
    """How many numbers its network is told beside x."""
    return classes if kind == "per_class" else latent + (classes if target == "any" else 0)


@dataclass(frozen=True, eq=False)
class Generated:
    """A perturber's proposals, `tries` of them from fresh noise.

    One that is told its target takes the goal's; where the goal is to get away, each try aims at the next class.
    Its own passes are not the victim's and are not counted. Raises InputError for inputs, labels and targets that the
    perturber was not trained for, and where it is on another device than the inputs.
    """

    perturber: Perturber
    tries: int = 1

    def __post_init__(self):
        if not isinstance(self.perturber, nn.Module) or not hasattr(self.perturber, "within"):
            raise InputError(
                f"The perturber is {type(self.perturber).__name__}; advgan.perturb.load_perturber(folder) gives one."
            )
        if self.tries < 1:
            raise InputError(f"tries={self.tries}: at least one is needed.")
        if self.tries > 1 and not self.perturber.random and self.perturber.target != "any":
            raise InputError(f"tries={self.tries}: a {self.perturber.kind} perturbation is the same at each try.")

    @property
    def card(self) -> Card:
        aims = self.perturber.target is not None
        return Card(Access.DECISION, norms=(self.perturber.threat.norm.name,), targeted=aims)

    def search(self, rows: Rows) -> Search:
        self._check(rows)
        for k in range(self.tries):
            yield decision(self._propose(rows, k))

    @torch.no_grad()
    def _propose(self, rows: Rows, k: int) -> Tensor:
        perturber, labels = self.perturber, rows.goal.labels
        if perturber.target == "any" and not rows.goal.targeted:
            labels = (labels + 1 + k % (perturber.classes - 1)) % perturber.classes
        z = rows.normal(perturber.latent) if perturber.random else rows.x.new_zeros(len(rows), perturber.latent)
        with evaluating(perturber):
            return perturber.within(rows.threat, labels, z.to(_dtype_of(perturber)))

    def _check(self, rows: Rows) -> None:
        perturber, goal = self.perturber, rows.goal
        most = int(goal.labels.max())
        perturber.check(rows.x.shape[1:], perturber.classes if most < perturber.classes else most + 1)
        elsewhere = next((each.device for each in perturber.parameters() if each.device != rows.x.device), None)
        if elsewhere is not None:
            raise InputError(f"The perturber is on {elsewhere}, the inputs are on {rows.x.device}: move it there.")
        if goal.targeted and isinstance(perturber.target, int) and bool(goal.labels.ne(perturber.target).any()):
            raise InputError(f"The perturber aims at class {perturber.target} alone, and the goal names others.")


def _dtype_of(net: nn.Module) -> torch.dtype:
    parameters: Any = net.parameters()
    return next(parameters).dtype
