"""Which network reads an input and answers how to perturb it, or knows one answer for all?

Each is called with x [b, *shape], centred, a class one-hot [b, classes] and noise z [b, latent], and gives
[b, *shape], any real numbers; a Decoder, and a Flat that is told to, reads a layer's output [b, *read] in the place of
x. Those that read give one answer for each class, and how this input departs from it: what most inputs of a class
share is learnt within some steps, and the network has the rest to itself.

None normalises over the batch, so that a row's answer depends on no other row. For images the work is done at half and
a quarter of the side, where it is cheap. 3 x 3 convolutions on [3, 32, 32] cost, in millions of multiplications, 25 at
width 32 and depth 3, and 56 at width 48 and depth 3.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import mlp

SLOPE = 0.1
START = 0.1  # of the last layer's weights, by He's scale: near the input itself, and not quite
# A number's share of its parameter's moves, beside a network and alone: a rate made for networks is low for a number.
GAIN, ALONE = 10.0, 200.0


class Hourglass(nn.Module):
    """Two halvings of the side by strided steps, `depth` residual blocks, and two pixel shuffles back up.

    shape: [channels, height, width], padded by zeros to multiples of 4. width: channels at half the side, twice as many
    at a quarter. The blocks begin as identities (their second convolution is zero), so no normalisation is needed.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, latent: int, width: int, depth: int):
        super().__init__()
        self.common = Constant(shape, classes, GAIN)
        channels, self.height, self.width = shape
        self.enter = _convolution(4 * channels, width)
        self.down = _convolution(width, 2 * width, stride=2)
        self.told = nn.Linear(classes + latent, 2 * width)
        self.rise = Rise(shape, width, depth)

    def forward(self, x: Tensor, told: Tensor, z: Tensor) -> Tensor:
        padded = F.pad(x, (0, -self.width % 4, 0, -self.height % 4))
        fine = _active(self.enter(F.pixel_unshuffle(padded, 2)))
        coarse = _active(self.down(fine) + self.told(torch.cat([told, z], 1))[:, :, None, None])
        return self.common(x, told, z) + self.rise(coarse, fine)


class Decoder(nn.Module):
    """From what a layer of the victim gives, to an image (AdvGAN++, arXiv 1908.00706): residual blocks and back up.

    read: (maps, height, width), averaged or spread over a quarter of the image's sides; anything else is laid out
    there by a matrix, which is large for large images. The rest is as in Hourglass.
    """

    def __init__(
        self, read: tuple[int, ...], shape: tuple[int, ...], classes: int, latent: int, width: int, depth: int
    ):
        super().__init__()
        self.common = Constant(shape, classes, GAIN)
        self.quarter = (2 * width, -(-shape[1] // 4), -(-shape[2] // 4))
        self.maps = len(read) == 3
        count = torch.Size(read).numel()
        laid_out = torch.Size(self.quarter).numel()
        self.enter = _convolution(read[0], 2 * width) if self.maps else _spread(nn.Linear(count, laid_out))
        self.told = nn.Linear(classes + latent, 2 * width)
        self.rise = Rise(shape, width, depth)

    def forward(self, read: Tensor, told: Tensor, z: Tensor) -> Tensor:
        read = F.adaptive_avg_pool2d(read, self.quarter[1:]) if self.maps else read.flatten(1)
        coarse = self.enter(read).view(-1, *self.quarter)
        coarse = _active(coarse + self.told(torch.cat([told, z], 1))[:, :, None, None])
        return self.common(read, told, z) + self.rise(coarse)


class Rise(nn.Module):
    """From a quarter of an image's side, 2 * width channels, through residual blocks to the image, [b, *shape].

    fine: what is known at half the side, [b, width, ...].
    """

    def __init__(self, shape: tuple[int, ...], width: int, depth: int):
        super().__init__()
        channels, self.height, self.width = shape
        self.blocks = nn.Sequential(*(Block(2 * width) for _ in range(depth)))
        self.up = _convolution(2 * width, 4 * width, kernel=1)
        self.mix = _convolution(width, width)
        self.leave = _convolution(width, 4 * channels, gain=START)

    def forward(self, coarse: Tensor, fine: Tensor | float = 0.0) -> Tensor:
        fine = fine + F.pixel_shuffle(self.up(self.blocks(coarse)), 2)
        made = F.pixel_shuffle(self.leave(_active(self.mix(_active(fine)))), 2)
        return made[:, :, : self.height, : self.width]


class Block(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.first, self.second = _convolution(channels, channels), _convolution(channels, channels, gain=0.0)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(_active(self.first(_active(x))))


class Flat(nn.Module):
    """Fully connected, for vectors: `depth` hidden layers of `width`. read: the shape of what it reads; None: of x."""

    def __init__(
        self,
        shape: tuple[int, ...],
        classes: int,
        latent: int,
        width: int,
        depth: int,
        read: tuple[int, ...] | None = None,
    ):
        super().__init__()
        self.shape, self.common = shape, Constant(shape, classes, GAIN)
        self.net = mlp.generator(torch.Size(read or shape).numel() + classes + latent, shape, width, depth)

    def forward(self, x: Tensor, told: Tensor, z: Tensor) -> Tensor:
        made = self.net(torch.cat([x.flatten(1), told, z], dim=1))
        return self.common(x, told, z) + made.reshape(len(x), *self.shape)


class Constant(nn.Module):
    """The same answer for every input; one for each of `count` classes, where there are several."""

    def __init__(self, shape: tuple[int, ...], count: int = 1, gain: float = ALONE):
        super().__init__()
        self.gain = gain
        self.answers = nn.Parameter(torch.randn(count, *shape) * START / gain)

    def forward(self, x: Tensor, told: Tensor, z: Tensor) -> Tensor:
        answers = self.gain * self.answers
        if len(answers) == 1:
            return answers.expand(len(x), *answers.shape[1:])
        return answers[told.argmax(1)]


def _convolution(before: int, after: int, kernel: int = 3, stride: int = 1, gain: float = 1.0) -> nn.Conv2d:
    layer = nn.Conv2d(before, after, kernel, stride, kernel // 2)
    nn.init.kaiming_normal_(layer.weight, SLOPE)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    with torch.no_grad():
        layer.weight *= gain
    return layer


def _spread(layer: nn.Linear) -> nn.Linear:
    nn.init.kaiming_normal_(layer.weight, SLOPE)
    nn.init.zeros_(layer.bias)
    return layer


def _active(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


def from_features(
    read: tuple[int, ...], shape: tuple[int, ...], classes: int, latent: int, width: int, depth: int
) -> nn.Module:
    """What makes [b, *shape] of a layer's output [b, *read]."""
    if len(shape) == 3:
        return Decoder(read, shape, classes, latent, width, depth)
    return Flat(shape, classes, latent, width, depth, read)


NETS = {"residual": Hourglass, "mlp": Flat}  # of those that read the input
FEATURES = "features"  # the name of `from_features`
