"""The pair of DCGAN (arXiv 1511.06434): transposed convolutions up, strided convolutions down.

Each 4 x 4 with stride 2, between maps of `width` channels at half the image's side and twice as many at each further
halving. The generator has batch normalisation before each ReLU, and weights that begin as N(0, 0.02). The critic has
no normalisation, since a score that depends on the other rows of the batch makes the penalties on its gradient
meaningless; its weights begin with He's scale, and it ends linear. Parameters for latent 64, 10 classes, projection:

    shape        width  generator     critic
    [1, 8, 8]       32     52,417     36,193
    [1, 28, 28]     32    265,537     67,873
    [3, 32, 32]     64    962,435    703,937
    [3, 64, 64]     64  3,363,715  2,846,657
"""

from itertools import pairwise

from torch import nn

from .shapes import doubling, sides

SLOPE = 0.2


def generator(entries: int, shape: tuple[int, ...], width: int) -> nn.Module:
    """[b, entries] -> [b, *shape], from the smallest map up; the last convolution makes the image's channels."""
    *_, start = maps = sides(shape)
    widths = doubling(width, len(maps) - 1)[::-1]
    layers = [nn.Linear(entries, widths[0] * start * start, bias=False), nn.Unflatten(1, (widths[0], start, start))]
    for before, after in pairwise(widths):
        layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)]
    layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.ConvTranspose2d(width, shape[0], 4, 2, 1)]
    for layer in layers:
        if isinstance(layer, nn.Linear | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def critic(shape: tuple[int, ...], width: int) -> tuple[nn.Module, int]:
    """[b, *shape] -> [b, features], and how many features."""
    *_, start = maps = sides(shape)
    widths = doubling(width, len(maps) - 1)
    layers: list[nn.Module] = []
    for before, after in zip([shape[0], *widths], widths, strict=False):
        layers += [_conv(before, after), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers, nn.Flatten()), widths[-1] * start * start


def _conv(before: int, after: int) -> nn.Conv2d:
    layer = nn.Conv2d(before, after, 4, 2, 1)
    nn.init.kaiming_normal_(layer.weight, SLOPE)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
