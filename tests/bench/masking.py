"""Which models hide their gradients? Small MNIST classifiers, each with the threat that it withstands in part.

They are tried on the first rows of the test images; those that are trained here are trained on its last 5,000.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

import torch
import torch.nn.functional as F
from kept import CACHE, digest
from outside import MNIST, outside, rows_of
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import attacks
from attacks.models import BPDA, Repeated


@dataclass(frozen=True)
class Masked:
    make: Callable[[], nn.Module]
    threat: str
    aids: Callable[[], dict[str, nn.Module]]  # models like it that hide less, to search on
    passes: int = 1  # of a random model, the fresh passes of which more than half must be wrong


# -- in front of a classifier --


class Quantised(nn.Module):
    """Inputs rounded to `levels` values from 0 to 1: their gradient is zero."""

    def __init__(self, levels: int):
        super().__init__()
        self.levels = levels

    def extra_repr(self) -> str:
        return f"levels={self.levels}"

    def forward(self, x: Tensor) -> Tensor:
        return (x * (self.levels - 1)).round() / (self.levels - 1)


class Rippled(nn.Module):
    """Inputs with a ripple of `height` that is steeper than they are: gradients shatter, and hardly anything moves."""

    def __init__(self, height: float, frequency: float):
        super().__init__()
        self.height, self.frequency = height, frequency

    def extra_repr(self) -> str:
        return f"height={self.height}, frequency={self.frequency}"

    def forward(self, x: Tensor) -> Tensor:
        return x + self.height * (x * self.frequency).sin()


# How coarsely JPEG rounds the brightness of each frequency at quality 50 (ITU-T T.81, table K.1).
_STEPS = [
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
]


class JPEG(nn.Module):
    """Grey images [b, 1, H, W] as JPEG gives them back: blocks of 8x8, their cosine transform rounded (1608.00853).

    coarse: the rounding's steps, in those of quality 50.
    """

    transform: Tensor
    steps: Tensor

    def __init__(self, coarse: float):
        super().__init__()
        self.coarse = coarse
        place = torch.arange(8.0)
        wave = torch.cos((2 * place + 1) * place[:, None] * math.pi / 16) / 2
        wave[0] /= math.sqrt(2)
        self.register_buffer("transform", wave)
        self.register_buffer("steps", torch.tensor(_STEPS).view(8, 8) * coarse / 255)

    def extra_repr(self) -> str:
        return f"coarse={self.coarse}"

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        padded = F.pad(x, (0, -width % 8, 0, -height % 8), "replicate") - 0.5
        blocks = padded.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)  # [b, 1, H/8, W/8, 8, 8]
        waves = self.transform @ blocks @ self.transform.T
        rounded = (waves / self.steps).round() * self.steps
        back = (self.transform.T @ rounded @ self.transform).transpose(3, 4).flatten(4, 5).flatten(2, 3)
        return (back[:, :, :height, :width] + 0.5).clamp(0, 1)


class Noisy(nn.Module):
    """Inputs with fresh Gaussian noise each time."""

    def __init__(self, width: float):
        super().__init__()
        self.width = width

    def extra_repr(self) -> str:
        return f"width={self.width}"

    def forward(self, x: Tensor) -> Tensor:
        return x + self.width * torch.randn_like(x)


# -- within it --


class Steep(nn.Module):
    """A sigmoid so steep that it is 0 or 1 almost everywhere, in float32 without a gradient."""

    def __init__(self, steepness: float):
        super().__init__()
        self.steepness = steepness

    def extra_repr(self) -> str:
        return f"steepness={self.steepness}"

    def forward(self, z: Tensor) -> Tensor:
        return (z * self.steepness).sigmoid()


class Winners(nn.Module):
    """k winners take all (1905.10510): the largest `share` of a row's activations, and 0 for the others."""

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def extra_repr(self) -> str:
        return f"share={self.share}"

    def forward(self, z: Tensor) -> Tensor:
        flat = z.flatten(1)
        least = flat.topk(math.ceil(self.share * flat.shape[1]), dim=1).values[:, -1:]
        return (flat * (flat >= least)).view_as(z)


class Pruned(nn.Module):
    """Stochastic activation pruning (1803.01442): draws in proportion to their size, scaled to be right on average.

    draws: their number, as a share of the row's activations. Each is kept with the chance that one of the draws hits
        it, apart from the others.
    """

    def __init__(self, draws: float):
        super().__init__()
        self.draws = draws

    def extra_repr(self) -> str:
        return f"draws={self.draws}"

    def forward(self, z: Tensor) -> Tensor:
        flat = z.flatten(1)
        size = flat.detach().abs()
        share = size / size.sum(1, keepdim=True).clamp_min(1e-12)
        chance = 1 - (1 - share) ** (self.draws * flat.shape[1])
        kept = torch.rand_like(chance) < chance
        return (flat * kept / chance.clamp_min(1e-12)).view_as(z)


# -- behind it --


class Scaled(nn.Module):
    """A model with its logits multiplied."""

    def __init__(self, model: nn.Module, factor: float):
        super().__init__()
        self.model, self.factor = model, factor

    def extra_repr(self) -> str:
        return f"factor={self.factor}"

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) * self.factor


# -- trained here --


@dataclass(frozen=True)
class Recipe:
    """How a small net is trained: on PGD's examples where they fool it, else on the images.

    temperature: logits are divided by it in training, and not afterwards.
    teacher: the recipe of the net whose probabilities are learnt in place of the labels.
    """

    activation: tuple[str, float] = ("relu", 0.0)
    temperature: float = 1.0
    teacher: "Recipe | None" = None
    eps: float = 0.1  # L-inf
    epochs: int = 8
    batch: int = 50
    rate: float = 2e-3
    seed: int = 0


ACTIVATIONS: dict[str, Callable[[float], nn.Module]] = {
    "relu": lambda _: nn.ReLU(),
    "steep": Steep,
    "winners": Winners,
}


def small_net(activation: Callable[[], nn.Module]) -> nn.Sequential:
    """Shaped like kw_mnist_01."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=2, padding=1),
        activation(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        activation(),
        nn.Flatten(),
        nn.Linear(1568, 100),
        activation(),
        nn.Linear(100, 10),
    )


def trained(recipe: Recipe) -> nn.Module:
    """The net of that recipe, trained once and then read back."""
    name, option = recipe.activation
    with torch.random.fork_rng([]):
        torch.manual_seed(recipe.seed)
        net = small_net(lambda: ACTIVATIONS[name](option))
        path = CACHE / "weights" / f"{name}-{digest({'recipe': repr(recipe)})}.safetensors"
        if not path.exists():
            _train(net, recipe)
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(net.state_dict(), path)
    net.load_state_dict(load_file(path))
    return net.eval()


def _train(net: nn.Module, recipe: Recipe) -> None:
    x, labels = rows_of(MNIST, 5000, 10000)
    wanted = F.one_hot(labels, 10).float()
    if recipe.teacher is not None:
        teacher = trained(recipe.teacher)
        with torch.no_grad():
            wanted = (teacher(x) / recipe.temperature).softmax(1)
    softened = Scaled(net, 1 / recipe.temperature)
    pgd = attacks.CATALOG["pgd"](steps=7, share=0.25)
    batches = len(x) // recipe.batch
    optimiser = torch.optim.Adam(net.parameters(), recipe.rate)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, recipe.epochs * batches)
    for epoch in range(recipe.epochs):
        eps = recipe.eps * min(1.0, 2 * epoch / recipe.epochs)
        for at in torch.randperm(len(x)).split(recipe.batch):
            shown = attacks.run(pgd, softened, x[at], labels[at], attacks.linf(eps), seed=epoch, ids=at).x_adv
            loss = F.cross_entropy(softened(shown), wanted[at])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rate.step()


# -- the list --


def _kw() -> nn.Module:
    return outside("kw_mnist_01")


def _behind(front: nn.Module) -> nn.Module:
    return nn.Sequential(front, _kw()).eval()


def _hidden_by(front: nn.Module, threat: str) -> Masked:
    """The aids are the classifier without the front, and with one that lets gradients through as they are."""
    return Masked(lambda: _behind(front), threat, lambda: {"bare": _kw(), "straight": _behind(BPDA(front))})


def _random(make: Callable[[], nn.Module], threat: str) -> Masked:
    return Masked(make, threat, lambda: {"bare": _kw(), "repeated": Repeated(make(), 10)}, passes=11)


def _pruned(draws: float) -> nn.Module:
    net = _kw()
    assert isinstance(net, nn.Sequential)
    layers = chain.from_iterable([layer, Pruned(draws)] if isinstance(layer, nn.ReLU) else [layer] for layer in net)
    return nn.Sequential(*layers).eval()


def _steepened(steepness: float) -> nn.Module:
    net = trained(STEEP)
    for layer in net.modules():
        if isinstance(layer, Steep):
            layer.steepness = steepness
    return net


PLAIN = Recipe()
WINNERS = Recipe(("winners", 0.1))
STEEP = Recipe(("steep", 10.0))
SOFT = 50.0  # the temperature of distillation (1511.04508)
STUDENT = Recipe(temperature=SOFT, teacher=Recipe(temperature=SOFT))

MASKING: dict[str, Masked] = {
    "quantised": _hidden_by(Quantised(8), "linf:0.2"),
    "quantised_straight": Masked(lambda: _behind(BPDA(Quantised(8))), "linf:0.2", lambda: {"bare": _kw()}),
    "rippled": _hidden_by(Rippled(0.02, 1000.0), "linf:0.15"),
    "jpeg": _hidden_by(JPEG(1.0), "linf:0.15"),
    "scaled_down": Masked(lambda: Scaled(_kw(), 1e-4), "linf:0.15", lambda: {"bare": _kw()}),
    "scaled_up": Masked(lambda: Scaled(_kw(), 1e4), "linf:0.15", lambda: {"bare": _kw()}),
    "noisy": _random(lambda: _behind(Noisy(0.2)), "linf:0.1"),
    "pruned": _random(lambda: _pruned(0.5), "linf:0.15"),
    "steep": Masked(lambda: _steepened(1000.0), "linf:0.1", lambda: {"bare": trained(STEEP)}),
    "winners": Masked(lambda: trained(WINNERS), "linf:0.1", lambda: {"bare": trained(PLAIN)}),
    "distilled": Masked(lambda: trained(STUDENT), "linf:0.15", lambda: {"bare": Scaled(trained(STUDENT), 1 / SOFT)}),
}
