"""How is a patch laid on an image, and kept to what the attacker may do?"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..images import laid, sampled
from ..norms import per_row
from ..rows import Rows


@dataclass(frozen=True)
class Placing:
    """Where and how a patch may be laid: anywhere in the image, turned by up to `rotate` degrees either way, and
    shrunk to as little as `smallest` of its side."""

    rotate: float = 22.5
    smallest: float = 0.8

    def __post_init__(self):
        if not (0 <= self.rotate <= 180 and 0 < self.smallest <= 1):
            raise InputError(
                f"rotate={self.rotate}, smallest={self.smallest}: degrees from 0 to 180 and a share above 0 and up to "
                "1 are needed."
            )

    def lay(self, pattern: Tensor, x: Tensor, luck: Tensor, side: Tensor | None = None) -> Tensor:
        """Images x [n, C, H, W] with the pattern [n or 1, C, S, S] on them; luck [n, 4] in [0, 1] decides how.

        luck: angle, size, how far down, how far right. side: [n], the pattern's first rows and columns that are used;
        None is all. Linear in the pattern. A pixel is covered where its centre is; upright and at full size that is
        a square of side x side pixels, and they are those of the pattern.
        """
        luck = luck.double()
        full = torch.full_like(luck[:, 0], pattern.shape[-1])
        side = full if side is None else side.double()
        angle, scale = (2 * luck[:, 0] - 1) * self.rotate, 1 - (1 - self.smallest) * luck[:, 1]
        radians = angle * (math.pi / 180)
        half = side * scale * (radians.cos().abs() + radians.sin().abs()) / 2  # of the upright square round it
        height, width = x.shape[2:]
        centre = _place(luck[:, 2], half, height), _place(luck[:, 3], half, width)
        down, right = laid((height, width), centre, angle, scale, (side - 1) / 2)
        end = (side - 0.5)[:, None, None]
        covered = (down >= -0.5) & (down < end) & (right >= -0.5) & (right < end)
        return torch.where(covered[:, None], sampled(pattern.expand(len(x), -1, -1, -1), down, right, edge=True), x)


def _place(luck: Tensor, half: Tensor, length: int) -> Tensor:
    """[n]: a centre from which `half` either way stays on the line; upright patches begin at whole pixels."""
    room = (length - 2 * half).clamp_min(0)
    first = torch.minimum((luck * (room.floor() + 1)).floor(), room)
    return torch.where(2 * half > length, (length - 1) / 2, first + half - 0.5)


def within(rows: Rows, laid: Tensor) -> Tensor:
    """Candidates [q, b, ...] brought into bounds and mask, and where eps is finite into the ball."""
    low, high = rows.threat.low.view_as(rows.x), rows.threat.high.view_as(rows.x)
    clamped = laid.clamp(low, high)
    if rows.threat.norm.name == "linf":
        return clamped  # low and high hold the ball, too
    free = per_row(rows.threat.eps.isinf(), rows.x)
    return torch.stack([torch.where(free, each, rows.threat.project(each)) for each in clamped])
