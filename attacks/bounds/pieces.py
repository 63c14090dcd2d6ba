"""The pieces of a model that can be bounded: what each does to intervals and to linear forms.

Everything is float64 and batched over its first dimension, whatever the number of rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

Shape = tuple[int, ...]


class Lines(NamedTuple):
    """lower * z <= piece(z) <= upper * z + offset on the interval, [b, *out]; z is the input, or one of a window's."""

    lower: Tensor
    upper: Tensor
    offset: Tensor
    source: Tensor | None = None  # [b, *out] int64: which input of its channel z is

    def of(self, rows: Tensor) -> "Lines":
        source = None if self.source is None else self.source[rows]
        return Lines(self.lower[rows], self.upper[rows], self.offset[rows], source)

    def below(self, form: Tensor) -> tuple[Tensor, Tensor]:
        """offset [N, *out] and form of z: their sum is at most the form [N, *out] of the piece."""
        up, down = form.clamp_min(0), form.clamp_max(0)
        return down * self.offset, up * self.lower + down * self.upper


@dataclass(frozen=True)
class Affine:
    """linear(inputs) + bias. `spread` is `linear` with every coefficient replaced by its size."""

    linear: Callable[..., Tensor]
    spread: Callable[..., Tensor]
    bias: Tensor | None = None  # [1, *out]
    bias_size: Tensor | None = None  # the sum of the sizes of what is added up to give the bias; None is its own size
    roundings: int = 0  # no sum or product of an output passes through more of them
    transposed: Callable[[Tensor], tuple[Tensor, ...]] | None = None  # None: by differentiation

    def size(self, *inputs: Tensor) -> Tensor:
        """The sum of the sizes of all terms, for inputs of these sizes."""
        bias = self.bias if self.bias_size is None else self.bias_size
        return self.spread(*inputs) + (0.0 if bias is None else bias.abs())

    def image(self, lows: list[Tensor], highs: list[Tensor]) -> tuple[Tensor, Tensor]:
        centre = self.linear(*[(low + high) / 2 for low, high in zip(lows, highs, strict=True)])
        radius = self.spread(*[(high - low) / 2 for low, high in zip(lows, highs, strict=True)])
        centre = centre if self.bias is None else centre + self.bias
        return centre - radius, centre + radius

    def pulled(self, form: Tensor, shapes: list[Shape]) -> tuple[Tensor, ...]:
        """The linear form [N, *out] of the output as one of each input."""
        if self.transposed is not None:
            return self.transposed(form)
        with torch.enable_grad():
            zeros = [form.new_zeros(()).expand(len(form), *shape).requires_grad_() for shape in shapes]
            return torch.autograd.grad(self.linear(*zeros), zeros, form)


class Bent(Protocol):
    """A piece of one input that is not affine, and rises with its input."""

    @property
    def roundings(self) -> int: ...

    def __call__(self, z: Tensor) -> Tensor: ...

    def undecided(self, low: Tensor, high: Tensor) -> Tensor:
        """Bool, shaped like the input: where tighter bounds would help."""
        ...

    def lines(self, low: Tensor, high: Tensor) -> Lines: ...

    def pulled(self, form: Tensor, lines: Lines, shape: Shape) -> tuple[Tensor, Tensor]:
        """A constant [N, *out] and a form of the input [N, *shape] that lie below the form [N, *out] of the output."""
        ...


@dataclass(frozen=True)
class Rectifier:
    """max(z, 0) + below * min(z, 0), with 0 <= below <= 1."""

    below: float = 0.0

    @property
    def roundings(self) -> int:
        return 2 if self.below else 0

    def __call__(self, z: Tensor) -> Tensor:
        return torch.where(z > 0, z, self.below * z)

    def undecided(self, low: Tensor, high: Tensor) -> Tensor:
        return (low < 0) & (high > 0)

    def lines(self, low: Tensor, high: Tensor) -> Lines:
        """The chord above; below, of the two arms the one that leaves less between (arXiv 1811.00866)."""
        chord = (self(high) - self(low)) / (high - low).clamp_min(torch.finfo(low.dtype).tiny)
        open_ = self.undecided(low, high)
        above, below = low.new_tensor(1.0), low.new_tensor(self.below)  # of two plain numbers, where makes float32
        settled = torch.where(high > 0, above, below)
        lower = torch.where(high > -low, above, below)
        upper = torch.where(open_, chord, settled)
        return Lines(torch.where(open_, lower, settled), upper, torch.where(open_, self(high) - chord * high, 0.0))

    def pulled(self, form: Tensor, lines: Lines, shape: Shape) -> tuple[Tensor, Tensor]:
        return lines.below(form)


@dataclass(frozen=True)
class Largest:
    """The largest of each window of a channel's places: [b, C, *places] -> [b, C, *out]."""

    windows: Tensor  # [m, k] int64, places of the flat channel; -1 is outside
    out: Shape  # without the channel; its product is m

    @property
    def roundings(self) -> int:
        return 0

    def __call__(self, z: Tensor) -> Tensor:
        return self._seen(z, -torch.inf).amax(3).unflatten(2, self.out)

    def _seen(self, z: Tensor, outside: float) -> Tensor:
        """[b, C, m, k]: what each window sees."""
        seen = z.flatten(2)[:, :, self.windows.clamp_min(0)]
        return torch.where(self.windows < 0, outside, seen)

    def undecided(self, low: Tensor, high: Tensor) -> Tensor:
        lows, highs = self._seen(low, -torch.inf), self._seen(high, -torch.inf)
        rivals = highs > lows.amax(3, keepdim=True)
        rivals &= rivals.sum(3, keepdim=True) > 1
        places = self.windows.clamp_min(0).expand_as(rivals).flatten(2)
        found = torch.zeros_like(low.flatten(2)).scatter_add(2, places, rivals.to(low.dtype).flatten(2))
        return found.view_as(low) > 0

    def lines(self, low: Tensor, high: Tensor) -> Lines:
        """Of a window, the place whose lower bound is the highest: it is below the maximum, which is at most
        max(it, the highest upper bound of the others), and that is bounded by a chord."""
        lows, highs = self._seen(low, -torch.inf), self._seen(high, -torch.inf)
        floor, place = lows.max(3, keepdim=True)
        top = highs.gather(3, place)
        others = highs.scatter(3, place, -torch.inf).amax(3, keepdim=True).clamp_min(floor)
        tiny = torch.finfo(low.dtype).tiny
        upper = torch.where(others > floor, ((top - others) / (top - floor).clamp_min(tiny)).clamp_min(0), 1.0)
        source = self.windows.expand_as(lows).gather(3, place)
        found = (torch.ones_like(upper), upper, others - upper * floor, source)
        return Lines(*(each.squeeze(3).unflatten(2, self.out) for each in found))

    def pulled(self, form: Tensor, lines: Lines, shape: Shape) -> tuple[Tensor, Tensor]:
        assert lines.source is not None
        offset, seen = lines.below(form)
        flat = form.new_zeros(len(form), *shape).flatten(2)
        flat.scatter_add_(2, lines.source.flatten(2), seen.flatten(2))
        return offset, flat.view(len(form), *shape)
