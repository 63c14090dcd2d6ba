"""Attacks that are called as torchattacks' and foolbox's are, so that scripts written for those move over.

What differs is what this library promises: an input that was not fooled comes back as it was, and what is called
adversarial lies inside the ball and the bounds with no slack, for each row on its own.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from . import noise
from .api import device_of, run
from .card import card_of
from .catalog import CATALOG, attack_named
from .errors import InputError, unknown
from .loop import Attack
from .models import Normalized
from .norms import NORMS
from .result import Result
from .threat import Goal, ThreatModel
from .threat_set import Bound
from .victim import Victim, borrowed

Bounds = tuple[Bound, Bound]
Targets = Callable[[Tensor, Tensor], Tensor]
MODES = ("default", "targeted by label", "targeted by function", "targeted at random", "targeted at the least likely")
NAMES = {  # of theirs, without norm, underscores and "attack", that are not in the catalog
    "fastgradient": "fgsm",
    "fgm": "fgsm",
    "basiciterative": "bim",
    "projectedgradientdescent": "pgd",
    "carliniwagner": "cw",
    "additivegaussiannoise": "gaussian_noise",
    "additiveuniformnoise": "uniform_noise",
    "gaussianblur": "blur",
    "saltandpeppernoise": "salt_and_pepper",
}
OPTIONS = {"n_queries": "queries", "kappa": "confidence", "p_init": "first_share", "rel_stepsize": "share"}
ROUNDING = 1e-5  # by which what was normalised may miss the bounds when it is put back
DRAW = 2**31  # the number of the draw of random targets: no attack draws so often


def torchattacks(
    name: str,
    model: nn.Module | Victim,
    eps: float = math.inf,
    *,
    norm: str | None = None,
    alpha: float | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    bounds: Bounds = (0.0, 1.0),
    **options: Any,
) -> "Called":
    """atk = torchattacks("pgd", model, eps=8/255, alpha=2/255, steps=10); x_adv = atk(images, labels).

    name: in `attacks.CATALOG`, in any case and without underscores, too; "PGDL2" and the like name the norm.
    eps: in the units of the images; inf, for attacks that look for the smallest perturbation.
    norm: without it the one that the attack is made for first (CW: l2).
    alpha: the length of a step, in the same units, for attacks that step by a share of eps.
    options: of the attack, as `CATALOG` has them (steps, queries, ...), or n_queries, kappa, p_init.
    Raises InputError for an attack, a norm or an option that is not there.
    """
    name, norm = _split(name, norm)
    options = {OPTIONS.get(option, option): value for option, value in options.items()}
    if options.get("loss") == "ce":
        options["loss"] = "cross_entropy"
    if alpha is not None:
        if not (math.isfinite(eps) and eps > 0):
            raise InputError(f"alpha={alpha} is a share of eps, and eps={eps}: give one above 0.")
        steps_by_share = "share" in inspect.signature(CATALOG[name]).parameters
        options |= {"share": alpha / eps} if steps_by_share else {"alpha": alpha}
    attack = attack_named(name, **options)
    threat = ThreatModel(NORMS[norm or card_of(attack).norms[0]], eps, bounds)
    return Called(attack, model, threat, seed, batch_size)


class Called:
    """An attack on a model, called with images and labels. `result` is what the last call found, row by row."""

    def __init__(
        self, attack: Attack, model: nn.Module | Victim, threat: ThreatModel, seed: int, batch_size: int | None
    ):
        self.attack, self.model, self.threat, self.seed, self.batch_size = attack, model, threat, seed, batch_size
        self.mode, self.result = MODES[0], None
        self._targets: Targets | None = None
        self._normal: tuple[Tensor, Tensor] | None = None

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """x_adv [B, ...], where images are; labels [B]: of the images or, in targeted mode, the classes to reach."""
        x = self._plain(images)
        wanted = labels if self._targets is None else self._targets(images, labels)
        goal = Goal(wanted.long(), targeted=self.mode != MODES[0])
        victim = self._victim()
        self.result: Result | None = run(
            self.attack, victim, x, goal, self.threat, seed=self.seed, batch_size=self.batch_size
        )
        return self._normalised(self.result.x_adv)

    def set_mode_default(self) -> None:
        self._aim(MODES[0], None)

    def set_mode_targeted_by_label(self, quiet: bool = False) -> None:
        """From now on labels are the classes to reach. quiet: there is nothing to be quiet about."""
        self._aim(MODES[1], None)

    def set_mode_targeted_by_function(self, target_map_function: Targets, quiet: bool = False) -> None:
        """From now on the classes to reach are function(images, labels)."""
        self._aim(MODES[2], target_map_function)

    def set_mode_targeted_random(self, quiet: bool = False) -> None:
        """From now on the class to reach is any but the label, drawn by the seed and the image's place."""
        self._aim(MODES[3], self._random)

    def set_mode_targeted_least_likely(self, kth_min: int = 1, quiet: bool = False) -> None:
        """From now on the class to reach is the one of the kth smallest logit, the label's aside."""
        self._aim(MODES[4], lambda images, labels: self._unlikely(images, labels, kth_min))

    def set_normalization_used(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """From now on images come and go normalised, (x - mean) / std per channel, as the model takes them.

        eps, bounds and `result` stay in the units of x.
        """
        self._normal = torch.as_tensor(mean), torch.as_tensor(std)

    def _aim(self, mode: str, targets: Targets | None) -> None:
        self.mode, self._targets = mode, targets

    def _victim(self) -> Victim:
        victim = self.model if isinstance(self.model, Victim) else Victim(self.model)
        if self._normal is None:
            return victim
        mean, std = (each.tolist() for each in self._normal)
        model = Normalized(victim.model, mean, std).to(device_of(victim.model, torch.device("cpu")))
        return replace(victim, model=model.train(victim.model.training))

    def _plain(self, images: Tensor) -> Tensor:
        """What the images were before they were normalised."""
        if self._normal is None:
            return images
        mean, std = (_per_channel(each, images) for each in self._normal)
        x = images * std + mean
        low, high = (torch.as_tensor(bound, dtype=x.dtype, device=x.device) for bound in self.threat.bounds)
        near = torch.minimum(torch.maximum(x, low), high)
        return torch.where((x - near).abs() < ROUNDING, near, x)

    def _normalised(self, x: Tensor) -> Tensor:
        if self._normal is None:
            return x
        mean, std = (_per_channel(each, x) for each in self._normal)
        return (x - mean) / std

    def _logits(self, images: Tensor) -> Tensor:
        victim, x = self._victim(), self._plain(images)
        with borrowed(victim.model, self.seed):
            return victim.logits(x.to(device_of(victim.model, x.device))).to(x.device)

    def _random(self, images: Tensor, labels: Tensor) -> Tensor:
        classes, ids = self._logits(images[:1]).shape[1], torch.arange(len(labels), device=labels.device)
        share = noise.uniform(self.seed, ids, DRAW, (), torch.float64)
        return (labels + 1 + (share * (classes - 1)).long()) % classes

    def _unlikely(self, images: Tensor, labels: Tensor, kth: int) -> Tensor:
        logits = self._logits(images)
        if not 1 <= kth < logits.shape[1]:
            raise InputError(f"kth_min={kth}: the model has {logits.shape[1] - 1} classes beside the label.")
        return logits.scatter(1, labels[:, None].long(), torch.inf).kthvalue(kth, 1).indices


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.to(x).view(-1, *[1] * (x.ndim - 2))


def foolbox(
    name: str, *, norm: str | None = None, seed: int = 0, batch_size: int | None = None, **options: Any
) -> "Swept":
    """attack = foolbox("LinfPGD", steps=40); raw, clipped, is_adv = attack(model, inputs, labels, epsilons=[...]).

    name: in `attacks.CATALOG`, in any case and without underscores, too, or foolbox's long one; "LinfPGD" and
        "L2CarliniWagnerAttack" name the norm.
    norm: without it the one that the attack is made for first.
    options: of the attack, as `CATALOG` has them; `rel_stepsize` is a step's share of eps.
    Raises InputError for an attack, a norm or an option that is not there.
    """
    name, norm = _split(name, norm)
    attack = attack_named(name, **{OPTIONS.get(option, option): value for option, value in options.items()})
    return Swept(attack, norm or card_of(attack).norms[0], seed, batch_size)


class Swept:
    """An attack, called with a model, inputs, a criterion and one or several eps."""

    def __init__(self, attack: Attack, norm: str, seed: int, batch_size: int | None):
        self.attack, self.norm, self.seed, self.batch_size = attack, norm, seed, batch_size

    def __call__(
        self,
        model: nn.Module | Victim,
        inputs: Tensor,
        criterion: Any,
        *,
        epsilons: float | Iterable[float | None] | None,
        bounds: Bounds = (0.0, 1.0),
    ) -> tuple[Any, Any, Any]:
        """raw and clipped, x_adv [B, ...] each, and is_adv [B] bool: for one eps; lists, and [eps, B], for several.

        criterion: labels [B]; or an object with `labels` (any other class) or `target_classes`, as foolbox has them;
            or a `Goal`.
        epsilons: None is the smallest perturbation. An attack that looks for it runs once, for all of them: raw is what
            it found, clipped that as far as it lies within eps, else the input. Others run once per eps.
        """
        several = isinstance(epsilons, Iterable) and getattr(epsilons, "ndim", 1) > 0
        asked = [math.inf if eps is None else float(eps) for eps in (epsilons if several else [epsilons])]  # type: ignore[union-attr]
        goal = _goal(criterion)

        def found(eps: float) -> Result:
            threat = ThreatModel(NORMS[self.norm], eps, bounds)
            return run(self.attack, model, inputs, goal, threat, seed=self.seed, batch_size=self.batch_size)

        smallest = getattr(self.attack, "until", "first") == "smallest"
        results = [found(math.inf)] * len(asked) if smallest else [found(eps) for eps in asked]
        within = [
            result.size <= eps if eps < math.inf else result.fooled for result, eps in zip(results, asked, strict=True)
        ]
        raw = [result.x_adv for result in results]
        clipped = [_where(inside, x_adv, inputs) for inside, x_adv in zip(within, raw, strict=True)]
        if not several:
            return raw[0], clipped[0], within[0]
        return raw, clipped, torch.stack(within)


def _where(rows: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return torch.where(rows.view(-1, *[1] * (one.ndim - 1)), one, other.to(one))


def _goal(criterion: Any) -> Goal:
    if isinstance(criterion, Goal):
        return criterion
    if isinstance(criterion, Tensor):
        return Goal(criterion.long())
    for name, targeted in (("target_classes", True), ("labels", False)):
        classes = getattr(criterion, name, None)
        if classes is not None:
            return Goal(torch.as_tensor(getattr(classes, "raw", classes)).long(), targeted)
    raise InputError(
        f"The criterion is {type(criterion).__name__}; labels [B], attacks.Goal, or an object with labels or "
        "target_classes is needed."
    )


def _split(name: str, norm: str | None) -> tuple[str, str | None]:
    """The attack's name in the catalog, and the norm that it or `norm` names."""
    if norm is not None and norm.lower() not in NORMS:
        raise unknown("norm", norm, NORMS)
    known, plain = NAMES | {each.replace("_", ""): each for each in CATALOG}, name.lower().replace("_", "")
    for whole in (plain, plain.removesuffix("attack")):
        if whole in known:
            return known[whole], norm and norm.lower()
        for each in NORMS:
            if (inner := whole.removeprefix(each).removesuffix(each)) in known:
                return known[inner], each
    raise unknown("attack", name, CATALOG)
