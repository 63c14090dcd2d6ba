"""A trained network's perturbations, as an attack: one pass of its own and no gradient of the victim."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attacks.card import Card
from attacks.errors import InputError
from attacks.loop import Search
from attacks.passes.layers import heard
from attacks.rows import Rows
from attacks.threat import ThreatModel
from attacks.threat_set import ThreatSet
from attacks.victim import Access, decision, features

from .bounding import inside
from .networks.players import one_hot
from .train import evaluating


@dataclass(frozen=True)
class Reads:
    """What a network is shown instead of the input: a layer's output for it (AdvGAN++, arXiv 1908.00706)."""

    layer: str  # as `named_modules` gives it
    shape: tuple[int, ...]  # of what it gives for one input
    sha256: str = ""  # of the model's weights, as `checkpoint.state_hash` has it


class Perturber(nn.Module):
    """perturber(x, labels, z) -> x_adv [b, *shape], inside the threat set of x, exactly as the loop measures it.

    net: (x centred, class one-hot [b, classes], z) -> any numbers [b, *shape]. classes: the victim's. kind: as
    `perturbing.KINDS` says. target: the class that it was trained to reach, "any" where it is told which, None where
    it gets away from the label, which it is told as every attack is. latent: length of z, which a universal
    perturbation and one per class have no use for. reads: where the net is shown a layer's output for x, each row
    brought to mean 0 and variance 1; `Generated` asks the victim for it, and `perturber(...)` a model it `watches`.
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
        reads: Reads | None = None,
    ):
        super().__init__()
        self.net, self.threat, self.shape, self.classes = net, threat, tuple(shape), classes
        self.latent, self.kind, self.target, self.reads = latent, kind, target, reads
        self.look: Callable[[Tensor], Tensor] | None = None

    def watches(self, model: nn.Module) -> "Perturber":
        """From here on reads the layer of this model, in eval mode, which becomes no part of it. Returns itself."""
        assert self.reads is not None
        layer = self.reads.layer

        @torch.no_grad()
        def look(x: Tensor) -> Tensor:
            return heard(model, layer, lambda: model(x))[1]

        self.look = look
        return self

    @property
    def random(self) -> bool:
        """Whether it makes something else of other noise."""
        return self.kind == "image"

    def forward(self, x: Tensor, labels: Tensor, z: Tensor) -> Tensor:
        """labels [b] int64: the class to get away from, or to reach.

        Raises InputError for x outside the bounds, and where it reads a layer of a model that it does not watch.
        """
        return self.within(self.threat.around(x), labels, z, self.looked_up(x))

    def within(self, threat: ThreatSet, labels: Tensor, z: Tensor, given: Tensor | None = None) -> Tensor:
        """The same in another threat set of the same norm: with a mask, a grid, an eps for each row.

        given: [b, ...] what the layer makes of x, where it reads one. Raises InputError for another shape.
        """
        labels = torch.full_like(labels, self.target) if isinstance(self.target, int) else labels
        shown = self._centred(threat.x).to(z.dtype) if self.reads is None else _evened(given, self.reads, z.dtype)
        raw = self.net(shown, one_hot(labels, self.classes, z), z)
        return inside(threat, raw.to(threat.x.dtype))

    def _centred(self, x: Tensor) -> Tensor:
        low, high = self.threat.bounds
        middle, half = (high + low) / 2, (high - low) / 2
        return (x - middle) / half

    def looked_up(self, x: Tensor) -> Tensor | None:
        """[b, ...]: what the layer makes of x, by a pass through the watched model; None where it reads none."""
        if self.reads is None:
            return None
        if self.look is None:
            raise InputError(
                f"The perturber reads the layer {self.reads.layer!r} of the model it was trained against: "
                "perturber.watches(model), or run Generated(perturber), which asks the victim."
            )
        return self.look(x)

    def check(self, shape: tuple[int, ...], classes: int) -> None:
        """Raises InputError where it was trained for other inputs or for another number of classes."""
        if tuple(shape) != self.shape:
            raise InputError(f"The perturber was trained for inputs {list(self.shape)}, and these are {list(shape)}.")
        if classes != self.classes:
            raise InputError(f"The perturber was trained for {self.classes} classes, and here there are {classes}.")


def _evened(given: Tensor | None, reads: Reads, dtype: torch.dtype) -> Tensor:
    assert given is not None
    if given.shape[1:] != reads.shape:
        raise InputError(
            f"The perturber was trained on {list(reads.shape)} numbers of the layer {reads.layer!r}, and this model "
            f"gives {list(given.shape[1:])} there. It works against the model that it was trained against; on others, "
            "attacks.Transferred(Generated(perturber), surrogate=that model)."
        )
    precise = torch.promote_types(given.dtype, dtype)  # what all numbers share cancels
    return F.layer_norm(given.to(precise), given.shape[1:]).to(dtype)


@dataclass(frozen=True, eq=False)
class Generated:
    """A perturber's proposals, `tries` of them from fresh noise.

    One that is told its target takes the goal's; where the goal is to get away, each try aims at the next class.
    Its own passes are not the victim's and are not counted. One that reads a layer of the victim asks for it first,
    which takes a victim that shows its inside (access GRADIENT) and is counted as a query. Raises InputError for
    inputs, labels, targets and layers that the perturber was not trained for, and where it is on another device than
    the inputs.
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
        access = Access.DECISION if self.perturber.reads is None else Access.GRADIENT
        return Card(access, norms=(self.perturber.threat.norm.name,), targeted=aims)

    def search(self, rows: Rows) -> Search:
        self._check(rows)
        rows.given = None
        if (reads := self.perturber.reads) is not None:
            rows.given = (yield features(rows.x, reads.layer)).features
        for k in range(self.tries):
            yield decision(self._propose(rows, k))

    @torch.no_grad()
    def _propose(self, rows: Rows, k: int) -> Tensor:
        perturber, labels = self.perturber, rows.goal.labels
        if perturber.target == "any" and not rows.goal.targeted:
            labels = (labels + 1 + k % (perturber.classes - 1)) % perturber.classes
        z = rows.normal(perturber.latent) if perturber.random else rows.x.new_zeros(len(rows), perturber.latent)
        with evaluating(perturber):
            return perturber.within(rows.threat, labels, z.to(_dtype_of(perturber)), rows.given)

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
