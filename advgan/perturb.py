"""How is a perturber trained against a victim, kept in a folder, and loaded again?"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

import attacks
from attacks import Victim
from attacks.errors import InputError, unknown
from attacks.passes.layers import heard
from attacks.victim import Access, borrowed

from . import networks
from .checkpoint import state_hash
from .fit import Progress, Run, Samples, fit
from .fooling import LOSSES, Adversary
from .networks.perturber import FEATURES, NETS, Constant, from_features
from .perturber import Generated, Perturber, Reads
from .perturbing import Perturbing
from .samples import Aim
from .success import AT_ONCE, Judge, Measured, Success, success

__all__ = ["Generated", "Perturber", "Perturbing", "Success", "load_perturber", "success", "train_perturber"]

LOOKED_AT = 64  # rows in which a gradient is looked for
SIZES = {"residual": (48, 3), "mlp": (256, 3)}  # width and depth where the recipe names none
DISTIL = "Distil the victim into a copy that has gradients (advgan.distill), and train the perturber on that."


def train_perturber(
    victim: nn.Module | Victim | Sequence[nn.Module],
    data: Samples,
    recipe: Perturbing,
    out: Path | str,
    *,
    held_out: Samples | None = None,
    others: Mapping[str, nn.Module] | None = None,
    resume: bool = False,
    every: int | None = None,
    progress: Progress | None = None,
    measure: Measured | None = None,
) -> Run:
    """Trains a perturber against the victim and writes the folder `out`, as `fit.fit` does; `load_perturber` reads it.

    victim: a module that gives logits [b, K] for inputs within the recipe's bounds; several are fooled on average;
        measured, and read where network="features", is the first. In eval mode and without parameter gradients
        meanwhile; afterwards exactly as before.
    data: x [N, ...] within the bounds, float32; labels where the recipe says labels="true".
    held_out: rows with labels that were not trained on: at each mark `success` (and `success_8bit`) is measured
        on the first of them, at the end on all, with `transfer` to `others`, by `attacks.run`. measure: more, likewise.
    Raises InputError for a victim without gradients, data outside the bounds, a class that does not exist, and whatever
    `fit` refuses.
    """
    victims = _modules(victim)
    data = replace(data, bounds=(recipe.low, recipe.high))
    with ExitStack() as stack:
        for each in victims:
            stack.enter_context(borrowed(each, recipe.seed))
        stack.enter_context(torch.enable_grad())
        device = attacks.api.device_of(victims[0], data.x.device)
        data = _labelled(victims[0], _checked(victims, data, recipe, device), recipe, device)
        assert data.classes is not None
        recipe = _reading(recipe, victims[0], data.x[:1].to(device))
        judge = Judge(victims[0], recipe, held_out, dict(others or {}), measure)
        loss = LOSSES[recipe.loss](recipe.confidence, recipe.layer)
        free = recipe.free(data.x[0].numel())
        return fit(
            recipe,
            data,
            out,
            resume=resume,
            measure=judge,
            every=every,
            progress=progress,
            device=str(device),
            build=lambda *asked: _watching(build(*asked), victims[0]),
            adversary=Adversary(victims, loss, recipe.targeted, recipe.hinge_weight, free),
            aim=_aim(recipe, data.classes),
        )


def load_perturber(folder: Path | str) -> Perturber:
    """The perturber of a run's folder, in eval mode; `Generated` makes an attack of it.

    One that reads a layer says of which model, in `perturber.reads`; that model is not in the folder.
    Raises InputError for a folder without a run, with one of another kind, or whose files are damaged.
    """
    perturber = Run.load(folder, build, Perturbing).generator
    assert isinstance(perturber, Perturber)
    return perturber


def build(recipe: Perturbing, shape: tuple[int, ...], classes: int | None) -> tuple[Perturber, nn.Module | None]:
    """The perturber, and a critic of inputs unless gan_weight is 0; the same for the same seed."""
    assert classes is not None
    if recipe.network not in (*NETS, FEATURES):
        raise unknown("network of perturbers", recipe.network, (*NETS, FEATURES))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        net = _net(recipe, shape, classes)
    reads = Reads(recipe.layer, recipe.layer_shape, recipe.layer_of) if recipe.network == FEATURES else None
    perturber = Perturber(net, recipe.threat_model, shape, classes, recipe.latent, recipe.kind, recipe.target, reads)
    if recipe.gan_weight == 0:
        return perturber, None
    square = len(shape) == 3 and shape[1] == shape[2] and shape[1] % 4 == 0
    return perturber, networks.build("dcgan" if square else "mlp", shape, recipe.latent, seed=recipe.seed)[1]


def _net(recipe: Perturbing, shape: tuple[int, ...], classes: int) -> nn.Module:
    if recipe.kind != "image":
        return Constant(shape, classes if recipe.kind == "per_class" else 1)
    if recipe.network == "residual" and len(shape) != 3:
        raise InputError(f"The network residual is for images [C, H, W], and the inputs are {list(shape)}: take mlp.")
    width, depth = SIZES[recipe.network if recipe.network in SIZES else "residual" if len(shape) == 3 else "mlp"]
    sizes = (recipe.width or width, recipe.depth or depth)
    if recipe.network == FEATURES:
        return from_features(recipe.layer_shape, shape, classes, recipe.latent, *sizes)
    return NETS[recipe.network](shape, classes, recipe.latent, *sizes)


def _reading(recipe: Perturbing, victim: nn.Module, x: Tensor) -> Perturbing:
    """With what the network reads, where that is a layer. Raises InputError where the victim has none such."""
    if recipe.network != FEATURES:
        return recipe
    with torch.no_grad():
        given = heard(victim, recipe.layer, lambda: victim(x))[1]
    if given.ndim < 2 or len(given) != len(x) or not given.is_floating_point():
        raise InputError(f"The layer {recipe.layer!r} gives {list(given.shape)} for one input; [1, ...] is needed.")
    return replace(recipe, layer_shape=tuple(given.shape[1:]), layer_of=state_hash(victim))


def _watching(players: tuple[Perturber, nn.Module | None], victim: nn.Module) -> tuple[Perturber, nn.Module | None]:
    perturber, critic = players
    return (perturber if perturber.reads is None else perturber.watches(victim)), critic


def _modules(victim: nn.Module | Victim | Sequence[nn.Module]) -> tuple[nn.Module, ...]:
    if isinstance(victim, Victim):
        if victim.access < Access.GRADIENT:
            raise InputError(
                f"A perturber is trained by the victim's gradients, and this one reveals {victim.access.name}. {DISTIL}"
            )
        return (victim.model,)
    return (Victim(victim).model,) if isinstance(victim, nn.Module) else tuple(Victim(each).model for each in victim)


def _checked(victims: tuple[nn.Module, ...], data: Samples, recipe: Perturbing, device: torch.device) -> Samples:
    """With the victim's number of classes. Raises InputError for a victim or data that cannot be trained on."""
    data.check(replace(recipe, conditional=False))
    for part in data.x.split(AT_ONCE):
        recipe.threat_model.around(part)  # within the bounds
    counts = []
    for each in victims:
        try:
            leaf, logits = Victim(each).differentiable(data.x[:LOOKED_AT].to(device))
            unlike = torch.arange(logits.shape[1]).to(logits)  # weights, since the sum of the logits may be constant
            (gradient,) = torch.autograd.grad((logits * unlike).sum(), leaf, allow_unused=True)
        except InputError as error:
            raise InputError(f"{error} {DISTIL}") from error
        if gradient is None or not bool(gradient.any()):
            none = "none" if gradient is None else f"0 for each of the first {len(leaf)} inputs"
            raise InputError(f"A perturber is trained by the victim's gradients, and this one gives {none}. {DISTIL}")
        counts.append(logits.shape[1])
    if len(set(counts)) > 1:
        raise InputError(f"The victims know {counts} classes. Those that are fooled together must know the same.")
    if isinstance(recipe.target, int) and not 0 <= recipe.target < counts[0]:
        raise InputError(f"The target is class {recipe.target}, and the victim's classes are 0 to {counts[0] - 1}.")
    return replace(data, classes=counts[0])


def _labelled(victim: nn.Module, data: Samples, recipe: Perturbing, device: torch.device) -> Samples:
    """With the labels to get away from, and without rows that are of the target's class already."""
    if recipe.labels == "predicted":
        with torch.no_grad():
            answers = [victim(part.to(device)).argmax(1).cpu() for part in data.x.split(AT_ONCE)]
        data = replace(data, labels=torch.cat(answers))
    elif data.labels is None:
        raise InputError("labels='true' was asked for, and the data have none. Give labels, or take 'predicted'.")
    if isinstance(recipe.target, int):
        assert data.labels is not None
        others = data.labels != recipe.target
        data = replace(data, x=data.x[others], labels=data.labels[others])
    return data


def _aim(recipe: Perturbing, classes: int) -> Aim | None:
    if recipe.target is None:
        return None
    if recipe.target == "any":
        return lambda labels, draws: draws.other(labels, classes)
    target = int(recipe.target)
    return lambda labels, draws: torch.full_like(labels, target)
