"""Common corruptions at five severities: noise, blur, contrast, brightness, JPEG and pixelation, with no adversary."""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from scipy.special import pdtr, pdtrik
from torch import Tensor
from torch.nn import functional

from ..card import Card
from ..errors import InputError, unknown
from ..images import bell, convolved, smoothed, value_range
from ..loop import Search
from ..norms import row_sum
from ..rows import Rows
from ..victim import Access, decision

SMALL = 64  # images with a side of at most this have the severities published for 32 pixels, others those for 224


@dataclass(frozen=True)
class Corruptions:
    """The corruptions named, mildest first, up to `severity` of 1 to 5 (arXiv 1903.12261).

    kinds: names joined by "+", such as "jpeg+contrast", or "all" of KINDS. All kinds of one severity are shown at
        once, so a row costs as many passes as there are kinds for each severity that it is taken to.

    The strengths are those published for CIFAR-10-C (sides up to 64) and for ImageNet-C. The images' values are taken
    to span the threat's bounds, which must be finite, as 0 to 1 do; JPEG rounds them to 256 levels. The threat is
    NORM:inf; its bounds and mask hold. For reporting each kind by itself, run it alone.
    """

    card: ClassVar = Card(Access.DECISION, eps="inf", images=True)

    kinds: str = "all"
    severity: int = 5

    def __post_init__(self):
        if not 1 <= self.severity <= 5:
            raise InputError(f"severity={self.severity}: 1 (mildest) to 5 is needed.")
        self.chosen()

    def chosen(self) -> list[str]:
        """The names in `kinds`; InputError where one is unknown or there twice."""
        names = list(KINDS) if self.kinds == "all" else [name.strip() for name in self.kinds.split("+")]
        for name in names:
            if name not in KINDS:
                raise unknown("corruption", name, KINDS)
            if names.count(name) > 1:
                raise InputError(f"kinds={self.kinds!r} names {name} twice.")
        return names

    def search(self, rows: Rows) -> Search:
        for severity in range(1, self.severity + 1):
            yield decision(torch.stack([corrupted(rows, kind, severity) for kind in self.chosen()]), many=True)


def corrupted(rows: Rows, kind: str, severity: int) -> Tensor:
    """rows.x [b, C, H, W] with one corruption of severity 1 to 5, within the threat's bounds and mask."""
    low, high = rows.threat.low, rows.threat.high
    least, most = (bound[:, None, None, None] for bound in value_range(low, high))
    span = (most - least).clamp_min(torch.finfo(low.dtype).tiny)
    small = max(rows.x.shape[2:]) <= SMALL
    kind_of = KINDS[kind]
    strength = (kind_of.small if small else kind_of.large)[severity - 1]
    image = kind_of.corrupt(rows, (rows.x - least) / span, strength).clamp(0, 1)
    return (image * span + least).to(rows.x.dtype).clamp(low.view_as(rows.x), high.view_as(rows.x))


def _gaussian_noise(rows: Rows, image: Tensor, deviation: float) -> Tensor:
    return image + rows.normal(*image.shape[1:]) * deviation


def _shot_noise(rows: Rows, image: Tensor, photons: float) -> Tensor:
    """Poisson counts of so many photons at full brightness."""
    luck = rows.uniform(*image.shape[1:], low=0.0, high=1.0)
    return poisson(luck, image.clamp(0, 1) * photons) / photons


def poisson(luck: Tensor, mean: Tensor) -> Tensor:
    """Poisson counts of that mean by inversion of luck, uniform in [0, 1): the least count
    with P(N <= count) >= luck."""
    u, mu = luck.double().cpu().numpy(), mean.double().cpu().numpy()
    some = (mu > 0) & (u > 0)
    near = np.ceil(np.where(some, pdtrik(np.where(some, u, 0.5), np.where(some, mu, 1.0)), 0.0))
    before = np.maximum(near - 1, 0)
    counts = np.where(some & (pdtr(before, mu) >= u), before, near)  # as it rounds, it may be one too many
    return torch.as_tensor(counts, dtype=luck.dtype, device=luck.device)


def _impulse_noise(rows: Rows, image: Tensor, share: float) -> Tensor:
    """Salt and pepper, half of each."""
    luck = rows.uniform(*image.shape[1:], low=0.0, high=1.0)
    return torch.where(luck < share / 2, 0.0, torch.where(luck >= 1 - share / 2, 1.0, image))


def _gaussian_blur(rows: Rows, image: Tensor, deviation: float) -> Tensor:
    return smoothed(image, bell(deviation, int(4 * deviation + 0.5)), edge=True)


def _defocus_blur(rows: Rows, image: Tensor, disk: tuple[float, float]) -> Tensor:
    """A disk of that radius whose rim is blurred by a Gaussian of that deviation."""
    radius, rim = disk
    reach, soft = int(radius), bell(rim, max(1, math.ceil(3 * rim)))
    side = range(-reach - len(soft) // 2, reach + len(soft) // 2 + 1)
    sharp = torch.tensor([[float(i * i + j * j <= radius * radius) for j in side] for i in side], dtype=torch.float64)
    kernel = smoothed(sharp[None, None], soft)[0, 0]
    return convolved(image, (kernel / kernel.sum()).tolist(), edge=True)


def _contrast(rows: Rows, image: Tensor, share: float) -> Tensor:
    """Each channel drawn towards its mean."""
    pixels = image.flatten(0, 1).flatten(1)
    mean = (row_sum(pixels) / pixels.shape[1]).view(*image.shape[:2], 1, 1)
    return (image - mean) * share + mean


def _brightness(rows: Rows, image: Tensor, more: float) -> Tensor:
    """The value of hue, saturation and value raised by so much: the channels keep their ratios."""
    value = image.amax(1, keepdim=True)
    raised = (value + more).clamp_max(1)
    return torch.where(value > 0, image * (raised / value.clamp_min(torch.finfo(image.dtype).tiny)), raised)


def _jpeg(rows: Rows, image: Tensor, quality: int) -> Tensor:
    """Pillow's codec, one image at a time: three channels as colour, any other number one by one."""
    whole = image.shape[1] == 3
    parts = image.permute(0, 2, 3, 1) if whole else image.flatten(0, 1)
    levels = (parts * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    back = torch.as_tensor(np.stack([_through_jpeg(each, quality) for each in levels]), device=image.device)
    back = back.to(image.dtype) / 255
    return back.permute(0, 3, 1, 2) if whole else back.view_as(image)


def _through_jpeg(levels: np.ndarray, quality: int) -> np.ndarray:
    """[H, W] or [H, W, 3] uint8, encoded and decoded."""
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def _pixelate(rows: Rows, image: Tensor, share: float) -> Tensor:
    """Averaged down to that share of each side, and enlarged again without smoothing."""
    height, width = image.shape[2:]
    fewer = max(1, int(height * share)), max(1, int(width * share))
    return functional.interpolate(functional.interpolate(image, fewer, mode="area"), (height, width), mode="nearest")


@dataclass(frozen=True)
class _Kind:
    corrupt: Callable[..., Tensor]
    small: tuple  # strengths at severities 1 to 5 for images of 32 pixels
    large: tuple  # and of 224


KINDS = {
    "gaussian_noise": _Kind(_gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.1), (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": _Kind(_shot_noise, (500, 250, 100, 75, 50), (60, 25, 12, 5, 3)),
    "impulse_noise": _Kind(_impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27)),
    "gaussian_blur": _Kind(_gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1.0), (1.0, 2.0, 3.0, 4.0, 6.0)),
    "defocus_blur": _Kind(
        _defocus_blur,
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)),
        ((3.0, 0.1), (4.0, 0.5), (6.0, 0.5), (8.0, 0.5), (10.0, 0.5)),
    ),
    "contrast": _Kind(_contrast, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "brightness": _Kind(_brightness, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "jpeg": _Kind(_jpeg, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
    "pixelate": _Kind(_pixelate, (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
}
