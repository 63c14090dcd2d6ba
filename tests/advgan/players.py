"""The smallest networks that can play: for tests, which want every step to take no time."""

import torch
from torch import Tensor, nn


class Generator(nn.Module):
    """Batch norm and dropout on request: what makes a generator hard to resume and to share out."""

    def __init__(self, shape: tuple[int, ...], latent: int, classes: int | None, extras: tuple[nn.Module, ...] = ()):
        super().__init__()
        self.shape, self.latent, self.classes = shape, latent, classes
        size = int(torch.Size(shape).numel())
        self.net = nn.Sequential(nn.Linear(latent + (classes or 0), 16), nn.ReLU(), *extras, nn.Linear(16, size))

    def forward(self, x: Tensor | None, labels: Tensor | None, z: Tensor) -> Tensor:
        made = self.net(_with_class(z, labels, self.classes)).reshape(len(z), *self.shape)
        return made.tanh() if len(self.shape) == 3 else made


class Critic(nn.Module):
    def __init__(self, shape: tuple[int, ...], classes: int | None, conditioning: str = "concat"):
        super().__init__()
        self.classes, self.conditioning = classes, conditioning
        size = int(torch.Size(shape).numel())
        self.net = nn.Sequential(nn.Linear(size + (classes or 0), 16), nn.SiLU(), nn.Linear(16, 1))
        self.by_class = nn.Linear(size, classes or 1)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.net(_with_class(x.flatten(1), labels, self.classes)).squeeze(1)

    def classify(self, x: Tensor) -> Tensor:
        return self.by_class(x.flatten(1))


def _with_class(x: Tensor, labels: Tensor | None, classes: int | None) -> Tensor:
    if classes is None or labels is None:
        return x
    return torch.cat((x, nn.functional.one_hot(labels, classes).to(x.dtype)), 1)


def build(recipe, shape, classes):
    return Generator(shape, recipe.latent, classes), Critic(shape, classes)


def build_restless(recipe, shape, classes):
    return Generator(shape, recipe.latent, classes, (nn.BatchNorm1d(16), nn.Dropout(0.3))), Critic(shape, classes)
