"""The samples to learn from: are they fit to be learnt from, and in which order do they come?"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from attacks import noise
from attacks.errors import InputError

from .recipe import Recipe

LATENT, ORDER, PENALTY, FIXED, SAMPLING, AIM = range(
    6
)  # streams of random numbers that have nothing to do with each other

GAME = (-1.0, 1.0)  # where generators end in tanh, and a perturber's data are where the victim wants them


@dataclass(frozen=True, eq=False)
class Samples:
    """Images [N, C, H, W] within the bounds, or vectors [N, d] of any size; float32."""

    x: Tensor
    labels: Tensor | None = None  # [N] int64
    classes: int | None = None
    source: str = ""  # where they are from, for people
    bounds: tuple[float, float] = GAME

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.x.shape[1:])

    def about(self) -> dict[str, Any]:
        """JSON-able; the digest tells other samples of the same shape apart."""
        digest = hashlib.sha256(self.x.detach().cpu().contiguous().numpy().tobytes())
        if self.labels is not None:
            digest.update(self.labels.detach().cpu().contiguous().numpy().tobytes())
        count, shape = len(self.x), list(self.shape)
        return {
            "source": self.source,
            "count": count,
            "shape": shape,
            "classes": self.classes,
            "digest": digest.hexdigest()[:16],
        }

    def check(self, recipe: Recipe) -> None:
        """Raises InputError for samples that this recipe cannot learn from."""
        self._check_x()
        if len(self.x) < recipe.batch:
            raise InputError(
                f"A batch of {recipe.batch} was asked for, and there are {len(self.x)} samples. Take a smaller batch."
            )
        if recipe.conditional:
            self._check_labels()

    def _check_x(self) -> None:
        x = self.x
        if not isinstance(x, Tensor) or x.dtype != torch.float32:
            kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise InputError(
                f"Samples are a float32 tensor, and these are {kind}. 8-bit images: x.float() / 127.5 - 1."
            )
        if x.ndim not in (2, 4):
            raise InputError(f"Samples are images [N, C, H, W] or vectors [N, d], and these are {list(x.shape)}.")
        if not len(x):
            raise InputError("There are no samples.")
        bad = int((~x.isfinite().flatten(1).all(1)).sum())
        if bad:
            raise InputError(f"{bad} of {len(x)} samples hold NaN or infinity. Leave them out.")
        low, high = float(x.min()), float(x.max())
        least, most = self.bounds
        if x.ndim == 4 and not least <= low <= high <= most:
            raise InputError(
                f"Images live within [{least:g}, {most:g}], and these within [{low:g}, {high:g}]. Scale them."
            )
        if x.ndim == 4 and self.bounds == GAME and low >= 0:
            raise InputError(
                f"Images live within [-1, 1], and none of these is below {low:g}: they seem to be within [0, 1]. "
                "Pass 2 * x - 1."
            )

    def _check_labels(self) -> None:
        labels, classes = self.labels, self.classes
        if labels is None or classes is None:
            missing = "labels" if labels is None else "number of classes"
            raise InputError(f"A conditional run needs labels and their number of classes: there is no {missing}.")
        if labels.dtype != torch.int64 or labels.shape != self.x.shape[:1]:
            raise InputError(
                f"Labels are [{len(self.x)}] int64, one for each sample, "
                f"and these are {list(labels.shape)} {labels.dtype}."
            )
        low, high = int(labels.min()), int(labels.max())
        if not 0 <= low <= high < classes:
            raise InputError(
                f"Labels of {classes} classes lie within 0 and {classes - 1}, and these within {low} and {high}."
            )


@dataclass(frozen=True, eq=False)
class Draws:
    """Random numbers that belong to a sample's number in the run, counted over batches and processes.

    So they depend neither on how many processes share a batch, nor on where a run was resumed.
    """

    seed: int
    ids: Tensor  # [b] int64

    def latent(self, size: int) -> Tensor:
        return noise.normal(stream(self.seed, LATENT), self.ids, 0, (size,))

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """[b, ...] uniform in [0, 1), for penalties."""
        return noise.uniform(stream(self.seed, PENALTY), self.ids, 0, tuple(shape[1:]))

    def other(self, labels: Tensor, classes: int) -> Tensor:
        """[b]: of the classes another than the label, each as likely."""
        luck = noise.uniform(stream(self.seed, AIM), self.ids, 0, ())
        return (labels + 1 + (luck * (classes - 1)).long()) % classes


Aim = Callable[[Tensor, Draws], Tensor]  # (labels [b], draws) -> [b]: what the players are told instead


class Order:
    """Which sample comes when: each epoch all of them, shuffled anew."""

    def __init__(self, seed: int, count: int):
        self.seed, self.count = seed, count
        self._epoch = lru_cache(maxsize=2)(self._shuffled)

    def at(self, ids: Tensor) -> Tensor:
        """[b] int64 indices into the samples, for consecutive ids [b] on the CPU."""
        first, last = (int(ids[k]) // self.count for k in (0, -1))
        if first == last:
            return self._epoch(first)[ids - first * self.count]
        return torch.cat([self.at(part) for part in (ids[ids // self.count == e] for e in range(first, last + 1))])

    def _shuffled(self, epoch: int) -> Tensor:
        keys = noise.uniform(stream(self.seed, ORDER), torch.arange(self.count), epoch, (), torch.float64)
        return keys.argsort(stable=True)


def stream(seed: int, name: int) -> int:
    return seed | name << 32
