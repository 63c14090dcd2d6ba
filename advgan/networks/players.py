"""What do all generators and all critics have in common, whatever network is inside, and how are they told the class?

conditioning, of a critic:
    concat      the class is part of what it sees: planes beside an image's channels, entries beside a vector's
    projection  score = w . h(x) + v[class] . h(x)  (arXiv 1802.05637)
    auxiliary   the score ignores the class, `classify` names it  (arXiv 1610.09585)
A generator gets the class beside its noise.
"""

import torch
from torch import Tensor, nn

from attacks.errors import InputError

CONDITIONINGS = ("concat", "projection", "auxiliary")


class Generator(nn.Module):
    """generator(x, labels, z) -> [b, *shape]; x is ignored. Images end in tanh, vectors are linear.

    net: [b, latent + classes] -> [b, *shape] or what has as many numbers. classes: None where there are none.
    Raises InputError for missing or impossible labels and for a z of another length.
    """

    def __init__(self, net: nn.Module, shape: tuple[int, ...], latent: int, classes: int | None):
        super().__init__()
        self.net, self.shape, self.latent, self.classes = net, shape, latent, classes

    def forward(self, x: Tensor | None, labels: Tensor | None, z: Tensor) -> Tensor:
        if z.ndim != 2 or z.shape[1] != self.latent:
            raise InputError(f"z is {list(z.shape)}; this generator needs [b, {self.latent}].")
        told = z if self.classes is None else torch.cat([z, one_hot(labels, self.classes, z)], dim=1)
        made = self.net(told).reshape(len(z), *self.shape)
        return made.tanh() if len(self.shape) == 3 else made


class Critic(nn.Module):
    """critic(x, labels) -> scores [b], any real number, larger = looks real. A row's score depends on no other row.

    body: [b, ...] -> h [b, features]; under `concat` it sees the classes too, see `seen`.
    Raises InputError for missing or impossible labels, unless there are no classes or the conditioning is auxiliary.
    """

    def __init__(self, body: nn.Module, features: int, classes: int | None, conditioning: str):
        super().__init__()
        self.body, self.classes = body, classes
        self.conditioning = None if classes is None else conditioning
        self.score = nn.Linear(features, 1)
        if classes is not None and conditioning != "concat":
            self.by_class = nn.Linear(features, classes, bias=conditioning == "auxiliary")

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.conditioning == "concat":
            x = beside(x, one_hot(labels, self.classes, x))
        h = self.body(x)
        scores = self.score(h).squeeze(1)
        if self.conditioning == "projection":
            return scores + (one_hot(labels, self.classes, h) @ self.by_class.weight * h).sum(1)
        return scores

    def classify(self, x: Tensor) -> Tensor:
        """The logits [b, classes] of an auxiliary critic. Raises InputError where the critic is none."""
        if self.conditioning != "auxiliary":
            raise InputError(f"A critic with conditioning {self.conditioning!r} names no class; 'auxiliary' does.")
        return self.by_class(self.body(x))


def seen(shape: tuple[int, ...], classes: int | None, conditioning: str) -> tuple[int, ...]:
    """The shape of what a critic's body sees."""
    return (shape[0] + classes, *shape[1:]) if classes is not None and conditioning == "concat" else shape


def one_hot(labels: Tensor | None, classes: int | None, like: Tensor) -> Tensor:
    """[b, classes] in the dtype of `like`. Raises InputError where labels are missing or, on the CPU, out of range."""
    assert classes is not None
    if labels is None:
        raise InputError(f"This network was built for {classes} classes and got no labels: give labels [b] int64.")
    if labels.device.type == "cpu" and not torch.compiler.is_compiling() and labels.numel():
        low, high = labels.aminmax()
        if low < 0 or high >= classes:
            raise InputError(
                f"Labels run from {int(low)} to {int(high)}; the {classes} classes are 0 to {classes - 1}."
            )
    return (labels.unsqueeze(1) == torch.arange(classes, device=labels.device)).to(like.dtype)


def beside(x: Tensor, told: Tensor) -> Tensor:
    """x [b, c, ...] with told [b, k] as further channels, the same at every place: [b, c + k, ...]."""
    planes = told.reshape(*told.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
    return torch.cat([x, planes], dim=1)
