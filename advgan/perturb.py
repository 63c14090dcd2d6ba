"""A perturber's life: trained against a victim, measured on what it has not seen, kept in a folder and loaded again."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

import attacks
from attacks import Goal, Transferred, Victim
from attacks.errors import InputError, unknown
from attacks.passes.layers import heard
from attacks.threat import ThreatModel
from attacks.victim import Access, borrowed

from . import networks
from .checkpoint import state_hash
from .fit import Progress, Run, Samples, fit
from .fooling import LOSSES, Adversary
from .networks.perturber import FEATURES, NETS, Constant, from_features
from .perturber import Generated, Perturber, Reads
from .perturbing import Perturbing
from .samples import Aim

__all__ = ["Generated", "Perturber", "Perturbing", "Success", "load_perturber", "success", "train_perturber"]

AT_ONCE = 256  # rows of a pass
ON_THE_WAY = 256  # held-out rows that are attacked at each mark; at the end, all
LOOKED_AT = 64  # rows in which a gradient is looked for
LEVELS = 255
TIMED, TURNS = 100, 5  # rows of a timed pass, and passes
SIZES = {"residual": (48, 3), "mlp": (256, 3)}  # width and depth where the recipe names none
DISTIL = "Distil the victim into a copy that has gradients (advgan.distill), and train the perturber on that."

Measured = Callable[[Run], dict[str, float]]


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
        judge = _Judge(victims[0], recipe, held_out, dict(others or {}), measure)
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


@dataclass(frozen=True)
class Success:
    """Over the rows that count: held out, rightly classified when clean and, with a target, of another class."""

    fooled: Tensor  # [n] bool
    labels: Tensor  # [n] the true ones

    @property
    def count(self) -> int:
        return len(self.fooled)

    @property
    def share(self) -> float:
        """NaN where no row counts."""
        return float(self.fooled.double().mean())

    def by_class(self) -> dict[int, float]:
        return {int(k): float(self.fooled[self.labels == k].double().mean()) for k in self.labels.unique()}


def success(
    attack: Generated,
    victim: nn.Module,
    x: Tensor,
    labels: Tensor,
    threat: ThreatModel | None = None,
    *,
    seed: int = 0,
    source: nn.Module | None = None,
) -> Success:
    """What `attacks.run` sees of the attack on held-out rows x [N, ...] with their true labels [N].

    threat: None for the perturber's own. A perturber that is told its target is given another class than the label, one
    a row, each as often. source: where it reads a layer of another model than the victim, that model, from which it is
    carried over; passes through it are not the victim's.
    """
    perturber = attack.perturber
    threat = perturber.threat if threat is None else threat
    right = predictions(victim, x).to(labels.device) == labels
    if isinstance(perturber.target, int):
        right &= labels != perturber.target
    x, labels, ids = x[right], labels[right], right.nonzero().squeeze(1)
    if not len(x):
        return Success(right[:0], labels)
    goal = goal_of(perturber.target, perturber.classes, labels, ids)
    shown = attack if source is None else Transferred(attack, source)
    found = attacks.run(shown, victim, x, goal, threat, seed=seed, ids=ids, batch_size=AT_ONCE)
    return Success(found.fooled, labels)


def predictions(victim: nn.Module, x: Tensor) -> Tensor:
    """[N] int64: the victim's classes, in eval mode."""
    device = attacks.api.device_of(victim, x.device)
    with borrowed(victim):
        return torch.cat([victim(part.to(device)).argmax(1) for part in x.split(AT_ONCE)])


def goal_of(target: int | str | None, classes: int, labels: Tensor, ids: Tensor) -> Goal:
    """Of rows with labels [n] at the places ids [n]; with "any", another class than the label, each as often."""
    if target is None:
        return Goal(labels)
    if target == "any":
        return Goal((labels + 1 + ids % (classes - 1)) % classes, targeted=True)
    return Goal(torch.full_like(labels, int(target)), targeted=True)


@dataclass(frozen=True, eq=False)
class _Judge:
    """What is measured at a mark: a little on the way, everything at the end."""

    victim: nn.Module
    recipe: Perturbing
    held_out: Samples | None
    others: dict[str, nn.Module]
    more: Measured | None

    def __call__(self, run: Run, critic: nn.Module | None) -> dict[str, float]:
        assert isinstance(run.generator, Perturber)
        attack, last = Generated(run.generator), run.step == self.recipe.steps
        told = {} if self.held_out is None else self._successes(attack, self.held_out, last)
        if last:
            told["examples_per_second"] = speed(run.generator)
        return told | (self.more(run) if self.more else {})

    def _successes(self, attack: Generated, held_out: Samples, last: bool) -> dict[str, float]:
        assert held_out.labels is not None
        rows = slice(None) if last else slice(ON_THE_WAY)
        x, labels = held_out.x[rows], held_out.labels[rows]
        found = success(attack, self.victim, x, labels)
        told = {"success": found.share, "held_out": found.count}
        if (self.recipe.low, self.recipe.high) == (0.0, 1.0) and x.ndim == 4:
            threat, shown = replace(self.recipe.threat_model, levels=LEVELS), (x * LEVELS).round() / LEVELS
            told["success_8bit"] = success(attack, self.victim, shown, labels, threat).share
        if last:
            told |= {f"success_class_{k}": share for k, share in found.by_class().items()}
            source = None if attack.perturber.reads is None else self.victim
            across = {
                name: success(attack, other, x, labels, source=source).share for name, other in self.others.items()
            }
            told |= {f"transfer_{name}": share for name, share in across.items()}
            if across:
                told["transfer"] = sum(across.values()) / len(across)
        return told


@torch.no_grad()
def speed(perturber: Perturber) -> float:
    """Examples a second of the perturber's own pass, and of the victim's where it reads that: the best of some."""
    x = torch.full((TIMED, *perturber.shape), 0.5, device=next(perturber.parameters()).device)
    threat, labels = perturber.threat.around(x), torch.zeros(TIMED, dtype=torch.int64, device=x.device)
    z, best = x.new_zeros(TIMED, perturber.latent), 0.0
    for _ in range(TURNS):
        start = time.perf_counter()
        perturber.within(threat, labels, z, perturber.looked_up(x)).sum().item()  # waits for the device
        best = max(best, TIMED / (time.perf_counter() - start))
    return best


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
