"""One model and a few examples, asked what the checks want to know; every answer is asked for once and kept.

A look costs, in forward passes of its rows (at most ROWS): the first answer, a second one, one in another order, and
ALONE single rows; one pass with a gradient; ten of a few rows (gradients.py); one more where the model is in train
mode, and one for each guess of answers.py where it is often wrong. That makes no more than MOST.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TypeGuard

import torch
from torch import Tensor, nn

from ..passes.tape import HANDED
from ..threat_set import Bound
from ..victim import borrowed

ROWS = 64  # examples that the model is asked about
ALONE = 8  # of them, shown by themselves too
TRUE = 1e-2  # share of the logits' spread from which a row's company changes its answer beyond any rounding
MOST = 20  # forward passes of all rows; where there are more than FEW, at most 12
HALF = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class First:
    """The first answer, and what giving it has changed."""

    output: object  # whatever the model returned, or the exception that it raised
    input_changed: bool
    buffers_changed: list[str]


class Look:
    """A model with its flags as they are now; x [B, ...] of any type; labels of any kind, or None."""

    def __init__(self, model: nn.Module, x: Tensor, labels: Tensor | None, bounds: tuple[Bound, Bound], seed: int):
        self.model, self.data, self.data_labels, self.bounds, self.seed = model, x, labels, bounds, seed
        self.flags = [(name, module, module.training) for name, module in model.named_modules()]
        tensors = [*model.parameters(), *model.buffers()]
        self.device = tensors[0].device if tensors else x.device
        self.dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
        finite = x.flatten(1).isfinite().all(1).nonzero().squeeze(1)
        places = torch.linspace(0, max(0, len(finite) - 1), min(ROWS, len(finite)), device=x.device)
        chosen = finite[places.round().long()]
        self.x = x[chosen].detach().to(self.device)  # [b, ...], spread over the data, which may be sorted
        self.labels = labels[chosen.to(labels.device)].to(self.device) if fitting(labels, len(x)) else None  # [b] int64

    # -- data --

    @cached_property
    def edges(self) -> tuple[Tensor, Tensor]:
        """The bounds, as tensors that broadcast to x."""
        low, high = (torch.as_tensor(bound, dtype=self.x.dtype, device=self.device) for bound in self.bounds)
        return low, high

    @cached_property
    def span(self) -> float:
        """How far the bounds are apart; where they are infinite, how far the data are."""
        span = float(self.edges[1].max() - self.edges[0].min())
        return span if 0 < span < torch.finfo(self.x.dtype).max / 2 else float(self.x.max() - self.x.min()) or 1.0

    # -- answers --

    def given(self, x: Tensor) -> Tensor:
        """A copy of x for the model, in the type that attacks hand it over in."""
        return x.clone().to(self.dtype if self.dtype in HANDED else x.dtype)

    def logits_at(self, x: Tensor) -> Tensor | None:
        """[b, K], at least float32; None where the model raises, or gives anything else."""
        try:
            output = self.model(self.given(x))
        except torch.OutOfMemoryError:
            raise
        except Exception:  # whatever the model's own code raises
            return None
        return full(output) if is_scores(output, len(x)) else None

    @cached_property
    def first(self) -> First:
        given = self.given(self.x)
        kept, before = given.clone(), {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        try:
            output: object = self.model(given)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever the model's own code raises
            output = error
        after = dict(self.model.named_buffers())
        changed = [name for name in before if name not in after or not _same(before[name], after[name])]
        return First(output, not _same(kept, given), changed)

    @cached_property
    def logits(self) -> Tensor:
        """[b, K >= 2], finite, at least float32: the first answer, asked for only where `usable`."""
        assert isinstance(self.first.output, Tensor)
        return full(self.first.output)

    @property
    def usable(self) -> bool:
        """Whether the first answer is logits."""
        output = self.first.output
        return is_scores(output, len(self.x)) and output.shape[1] > 1 and bool(output.isfinite().all())

    @cached_property
    def predicted(self) -> Tensor:
        """[b] int64."""
        return self.logits.argmax(1)

    @cached_property
    def in_play(self) -> Tensor:
        """[b, k]: the logits that some input moves: beside that of a class masked out all others are small."""
        moved = self.logits.amax(0) > self.logits.amin(0)
        return self.logits[:, moved] if int(moved.sum()) > 1 else self.logits

    @cached_property
    def spread(self) -> float:
        """How far apart the logits of a row lie, in the widest row: what differences are measured by."""
        return float((self.in_play.amax(1) - self.in_play.amin(1)).max())

    @cached_property
    def coarse(self) -> torch.dtype | None:
        """bfloat16 or float16 where the model computes in it, openly or not: the logits then have few digits."""
        open_types = [dtype for dtype in (self.dtype, getattr(self.first.output, "dtype", None)) if dtype in HALF]
        if open_types:
            return open_types[0]
        many = len(self.logits.unique()) > self.logits.numel() / 4  # scores that count votes have few digits, too
        return next(
            (each for each in HALF if many and torch.equal(full(self.logits.to(each)), full(self.logits))), None
        )

    @cached_property
    def rounding(self) -> float:
        """What the logits may be off by for rounding alone."""
        return 8 * torch.finfo(self.coarse or self.logits.dtype).eps * float(self.in_play.abs().max())

    @cached_property
    def again(self) -> Tensor | None:
        """[b, K]: the second answer to the same inputs."""
        return self.logits_at(self.x)

    @cached_property
    def turned(self) -> Tensor | None:
        """[b, K]: the answer to the rows in the opposite order, put back into theirs."""
        logits = self.logits_at(self.x.flip(0))
        return None if logits is None else logits.flip(0)

    @cached_property
    def alone(self) -> list[Tensor | None]:
        """[1, K] each: the first ALONE rows by themselves."""
        return [self.logits_at(row[None]) for row in self.x[:ALONE]]

    @cached_property
    def as_given(self) -> Tensor | None:
        """[b, K]: the answer in the mode that the model was found in."""
        with borrowed(self.model, self.seed):
            for _, module, training in self.flags:
                module.training = training
            return self.logits_at(self.x)

    def apart(self, one: Tensor, other: Tensor) -> float:
        """The largest difference, as a share of the spread; where it may be rounding, 0."""
        largest = float((one - other).abs().max()) if one.shape == other.shape else torch.inf
        return largest / max(self.spread, torch.finfo(torch.float32).tiny) if largest > self.rounding else 0.0

    @cached_property
    def company(self) -> float:
        """How far answers move with the rows beside them, as a share of the spread; inf where a row has none alone."""
        alone = [row for row in self.alone if row is not None and row.shape == self.logits[:1].shape]
        if len(alone) < len(self.alone) or self.turned is None:
            return torch.inf
        together = self.logits[: len(alone)]
        return max(self.apart(together, torch.cat(alone)), self.apart(self.logits, self.turned))

    @cached_property
    def is_random(self) -> bool:
        """Whether the second answer differs from the first by more than attacks may take for rounding."""
        return self.again is None or self.apart(self.logits, self.again) > 1e-3


def fitting(labels: object, batch: int) -> TypeGuard[Tensor]:
    """Whether these are labels [batch] int64."""
    return isinstance(labels, Tensor) and labels.dtype == torch.int64 and labels.shape == (batch,)


def is_scores(output: object, batch: int) -> TypeGuard[Tensor]:
    """Whether this is a tensor [batch, K] of floating point."""
    return isinstance(output, Tensor) and output.ndim == 2 and len(output) == batch and output.is_floating_point()


def full(logits: Tensor) -> Tensor:
    """Detached, and at least float32."""
    return logits.detach() if logits.dtype == torch.float64 else logits.detach().float()


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())
