"""What can hide a classifier's gradients: in front of it, within it and behind it."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# -- in front of a classifier --


class Quantised(nn.Module):
    """Inputs rounded to `levels` values from 0 to 1: their gradient is zero."""

    def __init__(self, levels: int):
        super().__init__()
        self.levels = levels

    def extra_repr(self) -> str:
        return f"levels={self.levels}"

    def forward(self, x: Tensor) -> Tensor:
        return (x * (self.levels - 1)).round() / (self.levels - 1)


class Rippled(nn.Module):
    """Inputs with a ripple of `height` that is steeper than they are: gradients shatter, and hardly anything moves."""

    def __init__(self, height: float, frequency: float):
        super().__init__()
        self.height, self.frequency = height, frequency

    def extra_repr(self) -> str:
        return f"height={self.height}, frequency={self.frequency}"

    def forward(self, x: Tensor) -> Tensor:
        return x + self.height * (x * self.frequency).sin()


# How coarsely JPEG rounds the brightness of each frequency at quality 50 (ITU-T T.81, table K.1).
_STEPS = [
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
]
MIDDLE = 128 / 255  # what JPEG takes from each pixel first


class JPEG(nn.Module):
    """Grey images [b, 1, H, W] as JPEG gives them back: blocks of 8x8, their cosine transform rounded (1608.00853).

    coarse: the rounding's steps, in those of quality 50.
    """

    transform: Tensor
    steps: Tensor

    def __init__(self, coarse: float):
        super().__init__()
        self.coarse = coarse
        place = torch.arange(8.0)
        wave = torch.cos((2 * place + 1) * place[:, None] * math.pi / 16) / 2
        wave[0] /= math.sqrt(2)
        self.register_buffer("transform", wave)
        self.register_buffer("steps", torch.tensor(_STEPS).view(8, 8) * coarse / 255)

    def extra_repr(self) -> str:
        return f"coarse={self.coarse}"

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        padded = F.pad(x, (0, -width % 8, 0, -height % 8), "replicate") - MIDDLE
        blocks = padded.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)  # [b, 1, H/8, W/8, 8, 8]
        waves = self.transform @ blocks @ self.transform.T
        rounded = (waves / self.steps).round() * self.steps
        back = (self.transform.T @ rounded @ self.transform).transpose(3, 4).flatten(4, 5).flatten(2, 3)
        return (back[:, :, :height, :width] + MIDDLE).clamp(0, 1)


class Noisy(nn.Module):
    """Inputs with fresh Gaussian noise each time."""

    def __init__(self, width: float):
        super().__init__()
        self.width = width

    def extra_repr(self) -> str:
        return f"width={self.width}"

    def forward(self, x: Tensor) -> Tensor:
        return x + self.width * torch.randn_like(x)


# -- within it --


class Steep(nn.Module):
    """A sigmoid so steep that it is 0 or 1 almost everywhere, in float32 without a gradient."""

    def __init__(self, steepness: float):
        super().__init__()
        self.steepness = steepness

    def extra_repr(self) -> str:
        return f"steepness={self.steepness}"

    def forward(self, z: Tensor) -> Tensor:
        return (z * self.steepness).sigmoid()


class Winners(nn.Module):
    """k winners take all (1905.10510): the largest `share` of a row's activations, and 0 for the others."""

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def extra_repr(self) -> str:
        return f"share={self.share}"

    def forward(self, z: Tensor) -> Tensor:
        flat = z.flatten(1)
        least = flat.topk(math.ceil(self.share * flat.shape[1]), dim=1).values[:, -1:]
        return (flat * (flat >= least)).view_as(z)


class Pruned(nn.Module):
    """Stochastic activation pruning (1803.01442): draws in proportion to their size, scaled to be right on average.

    draws: their number, as a share of the row's activations. Each is kept with the chance that one of the draws hits
        it, apart from the others.
    """

    def __init__(self, draws: float):
        super().__init__()
        self.draws = draws

    def extra_repr(self) -> str:
        return f"draws={self.draws}"

    def forward(self, z: Tensor) -> Tensor:
        flat = z.flatten(1)
        size = flat.detach().abs()
        share = size / size.sum(1, keepdim=True).clamp_min(1e-12)
        chance = 1 - (1 - share) ** (self.draws * flat.shape[1])
        kept = torch.rand_like(chance) < chance
        return (flat * kept / chance.clamp_min(1e-12)).view_as(z)


# -- behind it --


class Scaled(nn.Module):
    """A model with its logits multiplied."""

    def __init__(self, model: nn.Module, factor: float):
        super().__init__()
        self.model, self.factor = model, factor

    def extra_repr(self) -> str:
        return f"factor={self.factor}"

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) * self.factor
