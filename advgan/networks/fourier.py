"""The pair of fully connected networks that are shown waves of their input beside it: for vectors of few numbers.

A network of few numbers is slow to learn what changes within a small part of their range, as a density of narrow peaks
does. Sines and cosines in random directions let it change fast from the start (arXiv 2006.10739); here the directions
are learnt further.

What a continuous generator makes of a connected latent is connected, so samples lie between modes that are apart
(arXiv 1806.00880, 2006.04596). A generator here reads as many latents as a sample has numbers as they are; of each
further one it reads the sign alone, so that k more latents give it 2^k pieces to lay out. For shape [2], latent 2, no
classes, width 64 and depth 3: generator 12,802 parameters, critic 12,737.
"""

import math

import torch
from torch import Tensor, nn

from . import mlp

WAVES = 32
LOUDNESS = 1.2  # of a sign, times the root of how many there are, beside waves that are within -1 and 1
GENERATOR, CRITIC = (0.3, 1.7), (1.0, 160.0)  # lowest and highest angular frequency, per unit of z and of x


class Waves(nn.Module):
    """[b, n] -> [b, n + 2 * WAVES]: x, and the sine and cosine of x times a matrix.

    It begins with random directions, and with as many waves in each octave of the frequencies.
    """

    def __init__(self, entries: int, lowest: float, highest: float):
        super().__init__()
        self.angles = nn.Linear(entries, WAVES, bias=False)
        directions = nn.functional.normalize(torch.randn(WAVES, entries))
        self.angles.weight.data = directions * torch.logspace(math.log10(lowest), math.log10(highest), WAVES)[:, None]

    def forward(self, x: Tensor) -> Tensor:
        angles = self.angles(x)
        return torch.cat([x, angles.sin(), angles.cos()], dim=1)


class Pieces(Waves):
    """[b, n] -> [b, n + 2 * WAVES]: the first `continuous` numbers with their waves, then the signs of the others."""

    loudness: Tensor  # of the signs

    def __init__(self, continuous: int, signs: int):
        super().__init__(continuous, *GENERATOR)
        self.continuous = continuous
        self.register_buffer("loudness", torch.tensor(LOUDNESS * signs**0.5))

    def forward(self, z: Tensor) -> Tensor:
        signs = z[:, self.continuous :].sign()
        return torch.cat([super().forward(z[:, : self.continuous]), self.loudness * signs], dim=1)


def generator(entries: int, shape: tuple[int, ...], width: int, depth: int) -> nn.Module:
    """[b, entries] -> [b, numbers in shape]. Classes, one-hot, come last and have a sign of 0 or 1."""
    continuous = min(entries, math.prod(shape))
    pieces = Pieces(continuous, entries - continuous)
    return nn.Sequential(pieces, mlp.generator(entries + 2 * WAVES, shape, width, depth))


def critic(shape: tuple[int, ...], width: int, depth: int) -> tuple[nn.Module, int]:
    """[b, *shape] -> [b, features], and how many features."""
    entries = math.prod(shape)
    body, features = mlp.critic((entries + 2 * WAVES,), width, depth)
    return nn.Sequential(nn.Flatten(), Waves(entries, *CRITIC), body), features
