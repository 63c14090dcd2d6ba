"""What has an attack come to, example by example?"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .columns import Columns
from .trace import Seen


@dataclass
class Result(Columns):
    """B examples, in the order they came."""

    x_adv: Tensor  # [B, ...] the input found, or x itself where none was
    fooled: Tensor  # [B] bool: goal reached, inside the threat set
    size: Tensor  # [B] float64, norm of x_adv - x; inf where not fooled
    queries: Tensor  # [B] int64 forward passes spent, the clean one included
    backwards: Tensor  # [B] int64 gradients taken
    step: Tensor  # [B] int64 the yield that found x_adv: 0 = already wrong when clean, -1 = none
    passes: Tensor  # [B] int64 forwards and gradients spent when the row was first fooled; -1 = never
    seen: Seen | None = None  # what the loop saw on the way; None where it was not asked to look

    def fooled_within(self, passes: Tensor) -> Tensor:
        """[m] float64: the share of the rows that were fooled after at most so many passes [m] each."""
        first = self.passes[self.fooled].sort().values
        return torch.searchsorted(first, passes.to(first), right=True).double() / max(1, len(self.fooled))

    @classmethod
    def nothing_yet(cls, x: Tensor, seen: bool = False) -> "Result":
        zeros = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        size = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        columns = (
            x.clone(memory_format=torch.contiguous_format),
            zeros.bool(),
            size,
            zeros.clone(),
            zeros.clone(),
            zeros - 1,
            zeros - 1,
        )
        return cls(*columns, Seen.nothing(x) if seen else None)
