"""What becomes of an image that is turned, scaled, shifted or blurred, each row in its own way and by itself."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from .errors import InputError
from .kernels.reference import window as window

FINEST = 2.0**20  # places are rounded to this share of a pixel, so that a quarter turn lands on pixels exactly


def sampled(x: Tensor, down: Tensor, right: Tensor, edge: bool = False) -> Tensor:
    """Images x [b, C, H, W] read between their pixels: [b, C, h, w] for places down, right [b or 1, h, w], float64.

    Bilinear; (0, 0) is the centre of the first pixel. Beyond the border there is zero or, with `edge`, the nearest
    pixel. Linear in x, and differentiable in it.
    """
    height, width = x.shape[2:]
    down, right = (down * FINEST).round() / FINEST, (right * FINEST).round() / FINEST
    if edge:
        down, right = down.clamp(0, height - 1), right.clamp(0, width - 1)
    top, left = down.floor(), right.floor()
    total = torch.zeros_like(x[:, :, :1, :1])
    for i, i_share in ((top, 1 - (down - top)), (top + 1, down - top)):
        for j, j_share in ((left, 1 - (right - left)), (left + 1, right - left)):
            inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
            share = torch.where(inside, i_share * j_share, 0.0).to(x.dtype)
            at = (i.clamp(0, height - 1) * width + j.clamp(0, width - 1)).long().flatten(1)
            tap = x.flatten(2).gather(2, at[:, None].expand(len(x), x.shape[1], -1))
            total = total + tap.unflatten(2, down.shape[1:]) * share[:, None]
    return total


def laid(
    frame: tuple[int, int], centre: tuple[Tensor, Tensor], angle: Tensor, scale: Tensor, middle: Tensor
) -> tuple[Tensor, Tensor]:
    """Where each pixel of a frame (H, W) lies in a square picture laid on it: down and right [n, H, W], in its pixels.

    The picture's middle [n] comes to lie at centre [n], [n]; it is turned by angle [n], degrees counterclockwise, and
    scale [n] times as large as it was.
    """
    down, right = turned_back(*frame_around(*frame, centre), angle, scale)
    return down + middle[:, None, None], right + middle[:, None, None]


def turned(x: Tensor, angle: Tensor, down: Tensor, right: Tensor, edge: bool = False) -> Tensor:
    """Images [b, C, H, W] turned by angle [b or 1] (degrees, counterclockwise), then moved by so many pixels [b or 1].

    The angle 0 without a shift gives x itself, bit for bit, and 90 degrees give torch.rot90 of square images.
    """
    height, width = x.shape[2:]
    middle = (height - 1) / 2, (width - 1) / 2
    places = frame_around(height, width, (down.double() + middle[0], right.double() + middle[1]))
    i, j = turned_back(*places, angle, torch.ones_like(angle))
    return sampled(x, i + middle[0], j + middle[1], edge)


def frame_around(height: int, width: int, centre: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """[n, H, W] float64, twice: how far below and to the right of the centre [n], [n] each pixel lies."""
    rows = torch.arange(height, dtype=torch.float64, device=centre[0].device)
    columns = torch.arange(width, dtype=torch.float64, device=centre[0].device)
    down = rows[:, None] - centre[0].double()[:, None, None]
    right = columns[None, :] - centre[1].double()[:, None, None]
    return down.expand(-1, -1, width), right.expand(-1, height, -1)


def turned_back(down: Tensor, right: Tensor, angle: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Places [n, H, W] round a centre before they were turned by angle [n] counterclockwise and scaled by scale [n]."""
    radians = angle.double() * (math.pi / 180)
    cos, sin = (radians.cos() / scale)[:, None, None], (radians.sin() / scale)[:, None, None]
    return right * sin + down * cos, right * cos - down * sin


def convolved(x: Tensor, kernel: Sequence[Sequence[float]], edge: bool = False) -> Tensor:
    """Each channel of x [n, C, H, W] correlated with an odd-sized kernel; beyond the border zero or the nearest pixel.

    By shifted sums: no row is rounded differently for the company it is in, as it may be in a library's convolution.
    """
    up, aside = len(kernel) // 2, len(kernel[0]) // 2
    height, width = x.shape[2:]
    padded = functional.pad(x, (aside, aside, up, up), mode="replicate" if edge else "constant")
    total = torch.zeros_like(x)
    for i, line in enumerate(kernel):
        for j, weight in enumerate(line):
            if weight:
                total = total + padded[:, :, i : i + height, j : j + width] * weight
    return total


def smoothed(x: Tensor, weights: Sequence[float], edge: bool = False) -> Tensor:
    """Each channel of x [n, C, H, W] correlated with the same odd number of weights downwards and to the right."""
    return convolved(convolved(x, [[weight] for weight in weights], edge), [list(weights)], edge)


def bell(deviation: float, reach: int) -> list[float]:
    """The 2 reach + 1 weights of a Gaussian, which add up to 1; deviation in pixels."""
    weights = [math.exp(-((i / deviation) ** 2) / 2) if i else 1.0 for i in range(-reach, reach + 1)]
    return [weight / sum(weights) for weight in weights]


def value_range(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """[b] each: the least and the most that a value of the row may be within bounds [b, d].

    InputError where a bound is infinite, or as far as numbers of that type go.
    """
    furthest = torch.finfo(low.dtype).max
    if not bool(((low > -furthest) & (high < furthest)).all()):
        raise InputError(
            "This attack puts in values of its own, and the bounds do not say what an image may hold: give finite "
            "ones, say bounds=(0.0, 1.0)."
        )
    return low.amin(1), high.amax(1)
