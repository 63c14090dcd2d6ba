"""A small classifier for samples of one shape: what a copy of an unseen model is made of."""

import math

import torch
from torch import nn

from attacks.errors import InputError


def classifier(shape: tuple[int, ...], classes: int, *, width: int = 16, seed: int = 0) -> nn.Module:
    """[b, *shape] -> logits [b, classes], in float32 on the CPU; torch's global random state is left as it was.

    Images [channels, height, width] of any sides: three 3 x 3 convolutions, of which two halve the sides, and a hidden
    layer; vectors [D]: two hidden layers. Raises InputError for another shape, fewer than two classes or no width.
    """
    if len(shape) not in (1, 3) or min(shape) < 1:
        raise InputError(f"Samples of shape {list(shape)}: the copy is for [D] or [channels, height, width].")
    if classes < 2 or width < 1:
        raise InputError(f"{classes} classes, width {width}: at least two classes and a width of 1 are needed.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _convolutional(shape, classes, width) if len(shape) == 3 else _dense(shape[0], classes, 8 * width)


def _convolutional(shape: tuple[int, ...], classes: int, width: int) -> nn.Module:
    channels, *sides = shape
    quarter = math.prod(-(-side // 4) for side in sides)
    return nn.Sequential(
        *(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(2 * width * quarter, 8 * width), nn.ReLU(), nn.Linear(8 * width, classes)),
    )


def _dense(features: int, classes: int, width: int) -> nn.Module:
    hidden = (nn.Linear(features, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    return nn.Sequential(*hidden, nn.Linear(width, classes))
