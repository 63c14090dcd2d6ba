"""Gradients that carry over to another model: of transformed inputs, and tuned by those of the neighbourhood.

Views (what the model is shown) and directions fit GradientAscent, and each other. VMI-DI-TI-FGSM is, say,
GradientAscent("cross_entropy", VarianceTuned(), share=0.1, start="input", steps=10, views=(Translated(), Resized())).
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from .. import losses
from ..errors import InputError
from ..images import bell, sampled, smoothed
from ..norms import per_row
from ..rows import Rows
from .pgd import GradientAscent
from .pieces import Direction, Momentum, Nesterov, step_length


@dataclass(frozen=True)
class Resized:
    """With `probability` the image made smaller, at a random place on black (DI-FGSM, arXiv 1803.06978).

    The paper enlarges 299 pixels to as many as 330; a model of fixed input size has the image shrunk instead, to a side
    between `smallest` times its own and its own. Bilinear, so that gradients come back through it exactly.
    """

    images: ClassVar[bool] = True

    probability: float = 0.5
    smallest: float = 0.9

    def __post_init__(self):
        if not (0 <= self.probability <= 1 and 0 < self.smallest <= 1):
            raise InputError(
                f"probability={self.probability}, smallest={self.smallest}: a probability from 0 to 1 and a share "
                "of the side above 0 and up to 1 are needed."
            )

    def show(self, rows: Rows, points: Tensor) -> Tensor:
        rows.resize = rows.uniform(len(points), 4, low=0.0, high=1.0)
        return self._resized(rows, points)

    def pull(self, rows: Rows, grads: Tensor) -> Tensor:
        with torch.enable_grad():  # linear in the points: any will do
            points = torch.zeros_like(grads).requires_grad_()
            return torch.autograd.grad(self._resized(rows, points), points, grads)[0]

    def _resized(self, rows: Rows, points: Tensor) -> Tensor:
        x, luck = points.flatten(0, 1), rows.resize.transpose(0, 1).flatten(0, 1).double()
        height, width = x.shape[2:]
        least = max(1, int(self.smallest * height))
        tall = (luck[:, 1] * (height - least + 1)).floor() + least
        wide = (tall * width / height).round().clamp_min(1)
        top, left = ((luck[:, 2] * (height - tall + 1)).floor(), (luck[:, 3] * (width - wide + 1)).floor())
        i, down = _enlarged(top, tall, height)
        j, right = _enlarged(left, wide, width)
        on_it = (i[:, :, None] & j[:, None, :])[:, None]
        places = (down[:, :, None].expand(-1, -1, width), right[:, None, :].expand(-1, height, -1))
        small = torch.where(on_it, sampled(x, *places, edge=True), 0.0)
        chosen = luck[:, 0] < self.probability
        return torch.where(per_row(chosen, x), small, x).view_as(points)


def _enlarged(first: Tensor, length: Tensor, full: int) -> tuple[Tensor, Tensor]:
    """[n, full] bool: the pixels of a line that a shrunken copy covers; and where each lies in the line itself."""
    at = torch.arange(full, dtype=torch.float64, device=first.device) - first[:, None]
    return (at >= 0) & (at < length[:, None]), (at + 0.5) * (full / length)[:, None] - 0.5


@dataclass(frozen=True)
class Translated:
    """The mean gradient over shifted images, by smoothing the gradient of the image itself (TI-FGSM, arXiv 1904.02884).

    length: of the Gaussian kernel, odd, which ends at three standard deviations; None: 15 for 299 pixels, as published,
        in proportion for other sides, and at least 5. With 1 it changes nothing.
    """

    images: ClassVar[bool] = True

    length: int | None = None

    def __post_init__(self):
        if self.length is not None and (self.length < 1 or self.length % 2 == 0):
            raise InputError(f"length={self.length}: a kernel has an odd number of weights, say 7.")

    def show(self, rows: Rows, points: Tensor) -> Tensor:
        return points

    def pull(self, rows: Rows, grads: Tensor) -> Tensor:
        reach = (self.length or max(5, round(15 * min(rows.x.shape[2:]) / 299))) // 2
        if reach == 0:
            return grads
        return smoothed(grads.flatten(0, 1), bell(reach / 3, reach)).view_as(grads)


@dataclass(frozen=True)
class Scaled:
    """The input over 1, 2, 4, ...: the gradient of the mean loss over `copies` of them (SI-FGSM, arXiv 1908.06281)."""

    images: ClassVar[bool] = False

    copies: int = 5

    def __post_init__(self):
        if self.copies < 1:
            raise InputError(f"copies={self.copies}: at least one, the input itself, is needed.")

    def show(self, rows: Rows, points: Tensor) -> Tensor:
        return torch.cat([points / 2**i for i in range(self.copies)])

    def pull(self, rows: Rows, grads: Tensor) -> Tensor:
        each = grads.unflatten(0, (self.copies, -1))
        return _added([each[i] / 2**i for i in range(self.copies)]) / self.copies


@dataclass(frozen=True)
class VarianceTuned:
    """The gradient, and how much the mean over the neighbours of the last point differed from its own (2103.15571).

    Neighbours are uniform within `beta` times eps in each coordinate; in L2 and L1 such noise is scaled to that norm.
    They lie round the point where the direction inside asks (for Nesterov, one step ahead), and are shown together
    with it, 1 + neighbours tries at once. Inside the threat set they are candidates like any other.
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")

    direction: Direction = field(default_factory=Momentum)
    neighbours: int = 20
    beta: float = 1.5

    def __post_init__(self):
        if self.neighbours < 1 or not self.beta > 0:
            raise InputError(
                f"neighbours={self.neighbours}, beta={self.beta}: at least one neighbour and a positive radius are "
                "needed."
            )

    def init(self, rows: Rows) -> None:
        self.direction.init(rows)
        rows.variance = torch.zeros_like(rows.x)
        rows.variance_unit = torch.ones_like(rows.length)

    def ask_at(self, rows: Rows, length: Tensor) -> Tensor:
        here = self.direction.ask_at(rows, length)
        return torch.cat((here[None], here + self._noise(rows)))

    def turn(self, rows: Rows, grad: Tensor) -> Tensor:
        here, around = grad[0], _added(list(grad[1:])) / self.neighbours
        # The gradients are in units of rows.steepness, and the variance is in those of the last step.
        units = (rows.variance_unit / rows.steepness.clamp_min(torch.finfo(grad.dtype).tiny)).clamp_max(1e20)
        tuned = here + rows.variance * per_row(units, here)
        rows.variance, rows.variance_unit = around - here, rows.steepness
        return self.direction.turn(rows, tuned)

    def move(self, rows: Rows, direction: Tensor, length: Tensor, progress: float) -> Tensor:
        return self.direction.move(rows, direction, length, progress)

    def _noise(self, rows: Rows) -> Tensor:
        """[neighbours, b, ...]."""
        noise = rows.uniform(self.neighbours, *rows.x.shape[1:]).transpose(0, 1)
        radius = per_row(step_length(rows, self.beta), rows.x)
        if rows.threat.mask is not None:
            noise = noise * rows.threat.mask.view_as(rows.x)
        if rows.threat.unit is not None:
            return noise * rows.threat.unit.view_as(rows.x) * radius
        if rows.threat.norm.name == "linf":
            return noise * radius
        size = rows.threat.norm.size(noise.flatten(0, 1).flatten(1)).clamp_min(torch.finfo(noise.dtype).tiny)
        return noise / per_row(size, noise.flatten(0, 1)).unflatten(0, noise.shape[:2]) * radius


def _added(parts: list[Tensor]) -> Tensor:
    """One after the other, so that the sum is the same in any batch."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def di_fgsm(
    steps: int = 10,
    probability: float = 0.5,
    smallest: float = 0.9,
    decay: float = 1.0,
    loss: str | losses.Loss = "cross_entropy",
) -> GradientAscent:
    """Momentum iterative FGSM on diverse inputs, randomly shrunk and shifted: arXiv 1803.06978."""
    return GradientAscent(loss, Momentum(decay), 1 / steps, "input", steps, (Resized(probability, smallest),))


def ti_fgsm(
    steps: int = 10, length: int | None = None, decay: float = 1.0, loss: str | losses.Loss = "cross_entropy"
) -> GradientAscent:
    """Momentum iterative FGSM whose gradients are smoothed by a Gaussian of that length: arXiv 1904.02884."""
    return GradientAscent(loss, Momentum(decay), 1 / steps, "input", steps, (Translated(length),))


def si_fgsm(
    steps: int = 10, copies: int = 5, decay: float = 1.0, loss: str | losses.Loss = "cross_entropy"
) -> GradientAscent:
    """Nesterov iterative FGSM over scaled copies of the input (SI-NI-FGSM): arXiv 1908.06281."""
    return GradientAscent(loss, Nesterov(decay), 1 / steps, "input", steps, (Scaled(copies),))


def vmi_fgsm(
    steps: int = 10,
    neighbours: int = 20,
    beta: float = 1.5,
    decay: float = 1.0,
    loss: str | losses.Loss = "cross_entropy",
) -> GradientAscent:
    """Momentum iterative FGSM tuned by the gradients' variance: arXiv 2103.15571."""
    return GradientAscent(loss, VarianceTuned(Momentum(decay), neighbours, beta), 1 / steps, "input", steps)


def vni_fgsm(
    steps: int = 10,
    neighbours: int = 20,
    beta: float = 1.5,
    decay: float = 1.0,
    loss: str | losses.Loss = "cross_entropy",
) -> GradientAscent:
    """Nesterov iterative FGSM tuned by the gradients' variance: arXiv 2103.15571."""
    return GradientAscent(loss, VarianceTuned(Nesterov(decay), neighbours, beta), 1 / steps, "input", steps)
