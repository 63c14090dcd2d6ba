"""Which sequences does a model write? Those that its random numbers choose, and these belong to a sequence's number."""

import torch
from torch import Tensor

from attacks import noise

from .lstm import Lstm

AT_ONCE = 2**14  # sequences


def sample(model: Lstm, ids: Tensor | int, length: int, seed: int, draw: int = 0) -> Tensor:
    """[n, length] int64, the sequences numbered ids [n] (or 0 to n - 1): each depends on (seed, number, draw) alone."""
    ids = torch.arange(ids, device=model.bias.device) if isinstance(ids, int) else ids
    parts = [written(model, noise.uniform(seed, some, draw, (length,))) for some in ids.split(AT_ONCE)]
    return torch.cat(parts)


def written(model: Lstm, uniform: Tensor) -> Tensor:
    """Sequences [b, T] int64 by uniform [b, T] in [0, 1)."""
    with torch.no_grad():
        state, tokens = model.begin(len(uniform)), []
        for number, u in enumerate(uniform.unbind(1)):
            tokens.append(model.draw(state[0], u))
            if number + 1 < uniform.shape[1]:
                state = model.read(tokens[-1], state)
        return torch.stack(tokens, 1)
