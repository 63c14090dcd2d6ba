"""A residual pair without normalisation, after the ideas of R3GAN (arXiv 2501.05441).

Both are the same stages in opposite order: `depth` residual blocks a side, then bilinear resampling to the next.
`width` channels at the image's own side, twice as many at each halving. A block widens by a 1 x 1 convolution, looks
around by a grouped 3 x 3 one and narrows by a 1 x 1 one that begins at zero, so that the network begins as its skip
path; the other two begin scaled by blocks^(-1/4) (Fixup, arXiv 1901.09321: m = 3 layers a branch, L^(-1/(2m - 2))).
Biases sit in the activations alone. The generator begins with a learned basis, one map a channel, that the noise
weighs; the critic ends with its mirror image, one weight a place and channel. Parameters for latent 64, 10 classes,
projection and depth 1:

    shape        width  generator     critic
    [1, 8, 8]       32    171,680    163,617
    [1, 28, 28]     16     64,656     60,625
    [3, 32, 32]     32    554,464    538,337
    [3, 64, 64]     32    956,896    940,769
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attacks.errors import InputError

from .shapes import doubling, sides

SLOPE = 0.2
EXPANSION = 2  # how much wider a block is inside
GROUP = 16  # channels to a group of the 3 x 3 convolution


def generator(entries: int, shape: tuple[int, ...], width: int, depth: int) -> nn.Module:
    """[b, entries] -> [b, *shape], from the smallest map up."""
    maps, widths = sides(shape)[::-1], _widths(shape, width)[::-1]
    layers: list[nn.Module] = [Basis(entries, widths[0], maps[0])]
    for place, (side, channels) in enumerate(zip(maps, widths, strict=True)):
        if place:
            layers.append(Resample(widths[place - 1], channels, side))
        layers += _stage(channels, depth, len(maps))
    return nn.Sequential(*layers, _convolution(widths[-1], shape[0]))


def critic(shape: tuple[int, ...], width: int, depth: int) -> tuple[nn.Module, int]:
    """[b, *shape] -> [b, features], and how many features."""
    maps, widths = sides(shape), _widths(shape, width)
    layers: list[nn.Module] = [_convolution(shape[0], widths[0])]
    for place, (side, channels) in enumerate(zip(maps, widths, strict=True)):
        if place:
            layers.append(Resample(widths[place - 1], channels, side))
        layers += _stage(channels, depth, len(maps))
    return nn.Sequential(*layers, Readings(widths[-1], maps[-1])), widths[-1]


class Block(nn.Module):
    """x + branch(x), [b, channels, side, side]; the branch begins at zero. blocks: how many the network has."""

    def __init__(self, channels: int, blocks: int):
        super().__init__()
        inner, scale = EXPANSION * channels, blocks**-0.25
        gain = nn.init.calculate_gain("leaky_relu", SLOPE)
        self.widen = _convolution(channels, inner, gain=scale)
        self.widened = Activation(inner)
        self.look = _convolution(inner, inner, 3, inner // GROUP, gain=scale * gain)
        self.looked = Activation(inner)
        self.narrow = _convolution(inner, channels, gain=0)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(self.looked(self.look(self.widened(self.widen(x)))))


class Activation(nn.Module):
    """Leaky ReLU of x plus a bias a channel. Its gain, sqrt(2 / (1 + slope^2)), is in the weights that follow."""

    def __init__(self, channels: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x + self.bias.view(-1, 1, 1), SLOPE)


class Resample(nn.Module):
    """[b, before, ...] -> [b, after, side, side], bilinear to twice or half the side."""

    def __init__(self, before: int, after: int, side: int):
        super().__init__()
        self.mix, self.side = _convolution(before, after), side

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] < self.side:  # the 1 x 1 convolution commutes with resampling: it runs on the smaller map
            return F.interpolate(self.mix(x), scale_factor=2, mode="bilinear")
        return self.mix(F.avg_pool2d(x, 2))  # at half the side, bilinear is the mean of four


class Basis(nn.Module):
    """[b, entries] -> [b, channels, side, side]: a learned map a channel, weighed by a linear function of the input."""

    def __init__(self, entries: int, channels: int, side: int):
        super().__init__()
        self.maps = nn.Parameter(torch.randn(channels, side, side))
        self.weigh = nn.Linear(entries, channels, bias=False)
        nn.init.normal_(self.weigh.weight, 0, entries**-0.5)

    def forward(self, z: Tensor) -> Tensor:
        return self.maps * self.weigh(z)[:, :, None, None]


class Readings(nn.Module):
    """[b, channels, side, side] -> [b, channels]: a learned weight a place and channel, summed over the places."""

    def __init__(self, channels: int, side: int):
        super().__init__()
        self.weights = nn.Parameter(torch.randn(channels, side, side) / side)

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weights).sum((2, 3))


def _stage(channels: int, depth: int, stages: int) -> list[nn.Module]:
    return [Block(channels, depth * stages) for _ in range(depth)]


def _widths(shape: tuple[int, ...], width: int) -> list[int]:
    if width * EXPANSION % GROUP:
        raise InputError(
            f"A residual network of width {width} was asked for; it must be a multiple of {GROUP // EXPANSION}."
        )
    return doubling(width, len(sides(shape)))


def _convolution(before: int, after: int, kernel: int = 1, groups: int = 1, gain: float = 1.0) -> nn.Conv2d:
    layer = nn.Conv2d(before, after, kernel, padding=kernel // 2, groups=groups, bias=False)
    nn.init.normal_(layer.weight, 0, gain * (layer.weight[0].numel()) ** -0.5)
    return layer
