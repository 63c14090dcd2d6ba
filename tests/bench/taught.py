"""How are the small nets trained that hide their gradients of themselves? On the last 5,000 MNIST test images."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from kept import CACHE, digest
from masks import Scaled, Steep, Winners
from outside import MNIST, rows_of
from safetensors.torch import load_file, save_file
from torch import nn

import attacks


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
