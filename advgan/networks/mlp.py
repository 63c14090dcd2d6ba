"""The pair of fully connected networks, for vectors of any length and, flattened, for images of any size.

`depth` hidden layers of `width` leaky ReLUs each, linear ends, no normalisation. For shape [2], latent 2, no classes,
width 128 and depth 3: generator 33,666 parameters, critic 33,537.
"""

import math
from itertools import pairwise

from torch import nn

SLOPE = 0.2


def generator(entries: int, shape: tuple[int, ...], width: int, depth: int) -> nn.Module:
    """[b, entries] -> [b, numbers in shape]."""
    return nn.Sequential(*_hidden(entries, width, depth), nn.Linear(width, math.prod(shape)))


def critic(shape: tuple[int, ...], width: int, depth: int) -> tuple[nn.Module, int]:
    """[b, *shape] -> [b, features], and how many features."""
    return nn.Sequential(nn.Flatten(), *_hidden(math.prod(shape), width, depth)), width


def _hidden(entries: int, width: int, depth: int) -> list[nn.Module]:
    sizes = [entries, *[width] * depth]
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [_linear(before, after), nn.LeakyReLU(SLOPE)]
    return layers


def _linear(before: int, after: int) -> nn.Linear:
    layer = nn.Linear(before, after)
    nn.init.kaiming_normal_(layer.weight, SLOPE)
    nn.init.zeros_(layer.bias)
    return layer
