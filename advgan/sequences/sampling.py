"""Which sequences does a model write? Those that its random numbers choose, and these belong to a sequence's number."""

import torch
from torch import Tensor

from attacks import noise

from ..samples import stream
from .model import Model

AT_ONCE = 2**14  # sequences
# Streams of random numbers, further ones than in `advgan.samples`: no model is measured on what it was trained on.
WRITING, MEASURING, PLAYING, ROLLOUTS, FAKES, MASKS, CONTROLS, GUMBEL, REALS, START = range(16, 26)


def sample(model: Model, ids: Tensor | int, length: int, seed: int, draw: int = 0, purpose: int = WRITING) -> Tensor:
    """[n, length] int64, the sequences numbered ids [n] (or 0 to n - 1).

    Each depends on the seed, its number, the draw and the purpose (a stream of random numbers) alone.
    """
    ids = torch.arange(ids, device=model.out.device) if isinstance(ids, int) else ids
    key = stream(seed, purpose)
    return torch.cat([written(model, noise.uniform(key, some, draw, (length,))) for some in ids.split(AT_ONCE)])


def written(model: Model, uniform: Tensor) -> Tensor:
    """Sequences [b, T] int64 by uniform [b, T] in [0, 1)."""
    with torch.no_grad():
        state, tokens = model.begin(len(uniform)), []
        for number, u in enumerate(uniform.unbind(1)):
            tokens.append(model.draw(state[0], u))
            if number + 1 < uniform.shape[1]:
                state = model.read(tokens[-1], state)
        return torch.stack(tokens, 1)
